"""From settings to open parts: paywall, book, sandbox network. The one place where the command line puts things together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from micropaywall.errors import ConfigurationError

if TYPE_CHECKING:
    from micropaywall.core.routes import Route
    from micropaywall.ledger.port import Ledger
    from micropaywall.sandbox.chain import Network
    from micropaywall.seller.paywall import Paywall
    from micropaywall.settings import Loaded, Settings
    from micropaywall.spending.store import SpendingStore

__all__ = ["SANDBOX", "make_paywall", "open_book", "rail_names", "rail_options", "sandbox_network", "spending_store"]

SANDBOX: Final = "sandbox"
SPENDING_FILE: Final = "spending.db"


def rail_names(settings: Settings, *, sandbox: bool) -> tuple[str, ...]:
    """The rails of a seller: the configured ones, or with ``sandbox`` the sandbox alone.

    Raises ConfigurationError when none is configured, or a seller who takes more than play money names no address.
    """
    if sandbox:
        return (SANDBOX,)
    names = tuple(settings.rails)
    if not names:
        raise ConfigurationError(
            "no rail is configured: there is no way to be paid",
            expected="a [rails.…] table in the configuration",
            hint="`micropaywall serve --sandbox` sells for play money, without a configuration.",
        )
    if not settings.seller.pay_to and set(names) != {SANDBOX}:
        raise ConfigurationError(
            "the seller has no address to be paid at",
            expected="seller.pay_to",
            hint="An address of a wallet of yours: micropaywall wallet list",
        )
    return names


def rail_options(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """What was set for each rail. Defaults are left to the rail, which may have found other values in force."""
    return {
        name: {
            option: getattr(rail, option)
            for option in rail.__struct_fields__
            if loaded.origin(f"rails.{name}.{option}").kind != "default"
        }
        for name, rail in loaded.settings.rails.items()
    }


def make_paywall(loaded: Loaded, routes: Sequence[Route], *, sandbox: bool) -> Paywall:
    """The paywall of a configuration, its rails open. Raises ConfigurationError or RailError."""
    from micropaywall.observe.logs import LogObserver
    from micropaywall.seller.paywall import Paywall

    seller, settings = loaded.settings.seller, loaded.settings
    return Paywall(
        routes,
        pay_to=seller.pay_to or None,
        rails=rail_names(settings, sandbox=sandbox),
        ledger=settings.ledger.url or None,
        public_url=seller.public_url or None,
        quote_lifetime_s=seller.quote_lifetime_s,
        held_body_memory_bytes=seller.held_body_memory_bytes,
        held_body_disk_bytes=seller.held_body_disk_bytes,
        stored_response_bytes=seller.stored_response_bytes,
        response_retention_s=settings.ledger.response_retention_s,
        settle_timeout_s=seller.settle_timeout_s,
        observer=LogObserver(),
        rail_options=rail_options(loaded),
    )


async def open_book(settings: Settings) -> Ledger:
    """The seller's book."""
    from micropaywall.ledger import open_ledger

    return await open_ledger(settings.ledger.url or None, response_retention_s=settings.ledger.response_retention_s)


def sandbox_network(settings: Settings) -> Network:
    """The sandbox network that this user's programs share, or the configured one."""
    from micropaywall.sandbox.rail import open_network

    rails: Mapping[str, Any] = settings.rails
    return open_network(rails[SANDBOX].store if SANDBOX in rails else "")


def spending_store() -> SpendingStore:
    """Budgets and journal of this user's purchases."""
    from micropaywall.home import data_directory
    from micropaywall.spending.store import SpendingStore

    return SpendingStore(data_directory() / SPENDING_FILE)
