"""The seller's book: payments, charges, double entry, refunds, stored responses. `port.Ledger` is what others use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from micropaywall import home, limits
from micropaywall.clock import Clock
from micropaywall.errors import ConfigurationError
from micropaywall.ledger.port import Ledger
from micropaywall.money import Asset

__all__ = ["LEDGER_FILE", "Ledger", "open_ledger", "path_of"]

LEDGER_FILE = "ledger.db"


def path_of(url: str | None) -> Path:
    """The file of a book named by ``sqlite:///path`` (or None: the user's own). ConfigurationError for another URL."""
    if not url:
        return home.data_directory() / LEDGER_FILE
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return Path(url.removeprefix("sqlite:///")).expanduser()
    raise ConfigurationError(
        "the URL of the book is not one that can be opened",
        expected="sqlite:///path/to/ledger.db",
        received=url,
        hint="A relative path has three slashes, an absolute one four: sqlite:////var/lib/shop/ledger.db.",
    )


async def open_ledger(
    url: str | None = None,
    *,
    assets: Iterable[Asset] = (),
    clock: Clock | None = None,
    response_retention_s: int = limits.RESPONSE_RETENTION_S,
) -> Ledger:
    """Open (or begin) the book at ``url``; ``assets`` are those whose amounts its transaction log writes in whole units.

    Responses are kept for ``response_retention_s``, for a retry with the same payment.

    Raises ConfigurationError, LedgerInUse (another host has it) or StoreUnavailable.
    """
    from micropaywall.ledger.sqlite import SqliteLedger

    return await SqliteLedger.open(path_of(url), assets=assets, clock=clock, response_retention_s=response_retention_s)
