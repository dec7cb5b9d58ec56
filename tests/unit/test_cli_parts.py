"""From flags and settings to parts: rails, budgets, policies, times; and what is said when an extra is missing."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from micropaywall import errors
from micropaywall.cli import buyer_parts, parts
from micropaywall.cli.books import short_id
from micropaywall.cli.serving import process
from micropaywall.cli.times import MOMENT
from micropaywall.client import Payer
from micropaywall.core.policy import Policy
from micropaywall.settings import BudgetSettings, BuyerSettings, load_settings


def settings_of(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "x.toml"
    file.write_text(text)
    return load_settings(file, environ={})


# -- rails ------------------------------------------------------------------------------------------------------------


def test_with_sandbox_only_the_sandbox_is_taken(tmp_path: Path) -> None:
    assert parts.rail_names(settings_of(tmp_path, "").settings, sandbox=True) == ("sandbox",)


def test_without_a_rail_there_is_no_way_to_be_paid(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="no rail"):
        parts.rail_names(settings_of(tmp_path, "").settings, sandbox=False)


def test_only_what_was_set_is_handed_to_a_rail(tmp_path: Path) -> None:
    loaded = settings_of(tmp_path, "[rails.sandbox]\nfinality_depth = 3\n")
    assert parts.rail_options(loaded) == {"sandbox": {"finality_depth": 3}}, (
        "a default must not undo another program's rules"
    )


# -- budgets and policies ---------------------------------------------------------------------------------------------


def test_no_limit_means_the_users_own() -> None:
    assert buyer_parts.budget_of(BuyerSettings(), None) is None


def test_the_flag_and_the_configuration_hold_together() -> None:
    buyer = BuyerSettings(
        budgets=(
            BudgetSettings(limit="$1", window="day"),
            BudgetSettings(limit="2 USDC", window="total", host="api.example.com"),
        )
    )
    assert str(buyer_parts.budget_of(buyer, "$0.01")) == "$1 per day, 2 USDC in total at api.example.com, $0.01 each"


def test_a_budget_for_two_things_at_once_is_refused() -> None:
    buyer = BuyerSettings(budgets=(BudgetSettings(limit="$1", window="day", host="a.example", payee="0x" + "1" * 40),))
    with pytest.raises(errors.ConfigurationError):
        buyer_parts.budget_of(buyer, None)


def test_the_configured_policy_is_the_one_that_holds() -> None:
    buyer = BuyerSettings(
        allow_hosts=("a.example",), deny_hosts=("b.example",), first_payment="ask", approve_above="$1", kill_switch=True
    )
    policy = buyer_parts.policy_of(buyer)
    assert (policy.allow_hosts, policy.deny_hosts, policy.first_payment) == (("a.example",), ("b.example",), "ask")
    assert policy.kill_switch
    assert str(policy.approve_above) == "$1"
    assert buyer_parts.policy_of(BuyerSettings()) == Policy()


# -- extras that are missing ------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def hide(*names: str) -> None:
        real = builtins.__import__

        def importing(name: str, *arguments: Any, **options: Any) -> Any:
            if name.partition(".")[0] in names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", importing)
        for name in list(sys.modules):
            if name.partition(".")[0] in names or name.startswith("micropaywall.client.httpx"):
                monkeypatch.delitem(sys.modules, name)

    return hide


def test_a_missing_server_says_what_to_install(without: Callable[..., None]) -> None:
    without("uvicorn")
    with pytest.raises(errors.ConfigurationError) as caught:
        process.require_uvicorn()
    assert caught.value.hint == "pip install 'micropaywall[server]'"


def test_a_missing_http_client_says_what_to_install(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(buyer_parts.importlib, "import_module", none)  # type: ignore[attr-defined]
    with pytest.raises(errors.ConfigurationError) as caught, buyer_parts.http_client(Payer()):
        pass
    assert caught.value.hint == "pip install 'micropaywall[httpx2]'"


# -- times and ids ----------------------------------------------------------------------------------------------------


def test_times_are_read_as_people_write_them() -> None:
    assert MOMENT.convert("2027-01-15T08:00:00Z", None, None) == 1_800_000_000_000
    day_ago = datetime.now(UTC) - timedelta(days=1)
    assert abs(MOMENT.convert("24h", None, None) - day_ago.timestamp() * 1000) < 5_000
    assert MOMENT.convert("2027-01-15", None, None) > 1_799_000_000_000


@pytest.mark.parametrize("text", ["yesterday", "24", "-1h", "2027-13-01", ""])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.BadParameter):
        MOMENT.convert(text, None, None)


def test_a_short_id_is_the_beginning_of_the_long_one() -> None:
    assert short_id("pay_" + "0123456789abcdef" * 2) == "pay_0123456789ab"
