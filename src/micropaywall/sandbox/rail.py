"""The sandbox as a rail: `exact` payments of sandbox USDC, from a table of settings to its two sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from micropaywall.clock import Clock
from micropaywall.crypto.address import to_checksum
from micropaywall.crypto.keccak import keccak256
from micropaywall.errors import PriceError, RailError, Unavailable
from micropaywall.home import data_directory
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.exact.types import Token
from micropaywall.rails.port import Rail
from micropaywall.sandbox.chain import Network, Rules
from micropaywall.sandbox.faults import parse_faults
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.settlement import SandboxSettlement
from micropaywall.sandbox.token import SANDBOX_TOKEN

if TYPE_CHECKING:
    from micropaywall.rails.port import BuyerRail

__all__ = ["DEFAULT_PAYEE", "NAME", "default_store", "open_buyer", "open_network", "open_rail"]

NAME: Final = "sandbox"
DEFAULT_PAYEE: Final = to_checksum(keccak256(b"micropaywall sandbox seller")[12:])
"""Where sandbox payments go when the seller names no address. Nobody has its key, and nobody needs one here."""

_RULES: Final = ("initial_balance", "automine", "block_interval_ms", "finality_depth")
_OPTIONS: Final = frozenset({"store", "faults", "fault_header", "v1", *_RULES})


def open_rail(*, pay_to: str | None, options: Mapping[str, object], clock: Clock) -> Rail:
    """The seller's side. ``options`` are the settings of ``[rails.sandbox]``.

    Rules of the chain that are named in ``options`` are put in force, also on a chain that exists already. Raises
    RailError for options that cannot be used, and for a chain that cannot: a broken rail stops the start.
    """
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise RailError("the sandbox rail has no such option", expected=sorted(_OPTIONS), received=unknown)
    faults = parse_faults(_strings(options.get("faults", ()), "faults"))
    network = open_network(_text(options, "store"), clock=clock)
    try:
        _put_in_force(network, {name: options[name] for name in _RULES if name in options})
    except Unavailable as error:
        raise RailError(f"the sandbox rail cannot be opened: {error.detail}", received=error.received) from error
    token = SANDBOX_TOKEN if options.get("v1", True) else replace(SANDBOX_TOKEN, v1_network="", v1_chain_id=None)
    return Rail(
        ExactSeller(token, pay_to or DEFAULT_PAYEE, name=NAME),
        SandboxSettlement(network, faults=faults, header_faults=bool(options.get("fault_header", True))),
    )


def open_buyer(*, options: Mapping[str, object]) -> BuyerRail:
    """The buyer's side: pays in sandbox USDC, under either name of the network."""
    from micropaywall.rails.exact.buyer import ExactBuyer

    return ExactBuyer((SANDBOX_TOKEN,))


def default_store() -> Path:
    """The file that all programs of this user share."""
    return data_directory() / "sandbox.db"


def open_network(store: str | Path = "", *, clock: Clock | None = None) -> Network:
    """The chain in a file, or at the URL of a sandbox server; the user's own when ``store`` is empty. Opened at first use."""
    text = str(store)
    if text.startswith(("http://", "https://")):
        from micropaywall.sandbox.client import RemoteNetwork

        return RemoteNetwork(text)
    if "://" in text and not text.startswith("sqlite:///"):
        raise RailError("the sandbox's store is a path or an http(s) URL", received=text)
    return SandboxNetwork(text.removeprefix("sqlite:///") or default_store(), clock=clock)


def _put_in_force(network: Network, given: Mapping[str, object]) -> None:
    """Change the chain's rules to those given; also the look that shows at start whether the chain can be used at all."""
    before = network.rules()
    changes: dict[str, Any] = dict(given)
    if "initial_balance" in changes:
        changes["initial_balance"] = _atomic(changes["initial_balance"], SANDBOX_TOKEN)
    for name, wanted in (("automine", bool), ("block_interval_ms", int), ("finality_depth", int)):
        if name in changes and type(changes[name]) is not wanted:
            raise RailError(
                f"the sandbox's {name} does not fit", expected=wanted.__name__, received=repr(changes[name])[:80]
            )
    after = Rules(**{name: changes.get(name, getattr(before, name)) for name in _RULES})
    if after != before:
        network.configure(after)


def _atomic(value: object, token: Token) -> int:
    if isinstance(value, str):
        try:
            return token.asset.from_decimal(Decimal(value)).amount_atomic
        except (InvalidOperation, PriceError):
            pass
    raise RailError(
        "the sandbox's initial balance is an amount of sandbox USDC",
        expected='"1000" or "0.5"',
        received=repr(value)[:80],
    )


def _text(options: Mapping[str, object], name: str) -> str:
    value = options.get(name, "")
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        raise RailError(f"the sandbox's {name} is a text", received=repr(value)[:80])
    return value


def _strings(value: object, name: str) -> list[str]:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return list(value)
    raise RailError(f"the sandbox's {name} is a list of texts", received=repr(value)[:80])
