"""The sandbox as a rail: from settings to its two sides, or to a refusal that names the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from micropaywall.clock import ManualClock
from micropaywall.errors import ConfigurationError, RailError
from micropaywall.money import parse_price
from micropaywall.rails import registry
from micropaywall.rails.port import Rail
from micropaywall.sandbox.chain import Rules
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.rail import DEFAULT_PAYEE
from micropaywall.sandbox.settlement import SandboxSettlement
from micropaywall.settings.model import SandboxRail

PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def opened(place: Path, pay_to: str | None = None, **options: Any) -> Rail:
    return registry.open_rail(
        "sandbox", pay_to=pay_to, options={"store": str(place / "s.db"), **options}, clock=ManualClock()
    )


def network_of(rail: Rail) -> SandboxNetwork:
    assert isinstance(rail.settlement, SandboxSettlement)
    assert isinstance(rail.settlement.network, SandboxNetwork)
    return rail.settlement.network


def test_a_seller_needs_no_address_here(tmp_path: Path) -> None:
    offer = opened(tmp_path).seller.offer(parse_price("$0.001"), lifetime_s=300)
    assert offer is not None
    assert offer.pay_to == DEFAULT_PAYEE
    named = opened(tmp_path, PAYEE).seller.offer(parse_price("$0.001"), lifetime_s=300)
    assert named is not None
    assert named.pay_to == PAYEE


def test_the_offer_names_the_network_for_v1_clients_unless_told_not_to(tmp_path: Path) -> None:
    price = parse_price("10 USDC")
    both = opened(tmp_path).seller.offer(price, lifetime_s=300)
    one = opened(tmp_path, v1=False).seller.offer(price, lifetime_s=300)
    assert both is not None
    assert one is not None
    assert (both.network, both.v1_network, one.v1_network) == ("eip155:4020402", "base-sepolia", "")


def test_rules_are_put_in_force_on_a_new_chain_and_on_an_old_one(tmp_path: Path) -> None:
    first = opened(tmp_path, initial_balance="5", finality_depth=3)
    assert network_of(first).rules() == Rules(initial_balance=5_000_000, finality_depth=3)
    again = opened(tmp_path, automine=False, block_interval_ms=500)
    assert network_of(again).rules() == Rules(5_000_000, automine=False, block_interval_ms=500, finality_depth=3)
    plain = opened(tmp_path)
    assert network_of(plain).rules() == network_of(again).rules()


def test_every_setting_of_the_rail_is_an_option_and_its_default_is_the_chains(tmp_path: Path) -> None:
    defaults = {name: getattr(SandboxRail(), name) for name in SandboxRail.__struct_fields__}
    rail = opened(tmp_path, **{**defaults, "store": str(tmp_path / "s.db")})
    assert network_of(rail).rules() == Rules()


def test_faults_come_from_the_settings(tmp_path: Path) -> None:
    settlement = opened(tmp_path, faults=("slow=1", "late"), fault_header=False).settlement
    assert isinstance(settlement, SandboxSettlement)
    assert [str(state.fault) for state in settlement._standing] == ["slow=1", "late=1"]
    assert not settlement.header_faults
    assert not settlement.noted_headers


@pytest.mark.parametrize(
    "options",
    [
        {"strore": "x"},
        {"store": 5},
        {"store": "redis://localhost"},
        {"faults": ["nonsense"]},
        {"faults": "slow"},
        {"faults": [1]},
        {"initial_balance": 1000},
        {"initial_balance": "0.0000001"},
        {"initial_balance": "much"},
        {"initial_balance": "-1"},
        {"initial_balance": "NaN"},
        {"automine": 1},
        {"block_interval_ms": "2000"},
        {"block_interval_ms": True},
        {"finality_depth": 0},
    ],
)
def test_options_that_cannot_be_used_stop_the_start(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        opened(tmp_path, **options)


def test_a_chain_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a chain " * 500)
    with pytest.raises(RailError):
        opened(tmp_path)
    with pytest.raises(RailError):
        opened(tmp_path, store=str(tmp_path / "s.db" / "below.db"))
    with pytest.raises(RailError):
        opened(tmp_path, store="http://127.0.0.1:9")


def test_a_buyer_pays_under_both_names_of_the_network() -> None:
    buyer: Any = registry.open_buyer("sandbox", options={})
    for network in ("eip155:4020402", "eip155:84532"):
        asset = buyer.asset_of(network, "0x" + network_token())
        assert asset is not None
        assert asset.symbol == "USDC"


def network_token() -> str:
    from micropaywall.sandbox.token import SANDBOX_TOKEN

    return SANDBOX_TOKEN.address.hex()
