"""Looking payments up in the seller's book."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from micropaywall.cli import parts
from micropaywall.errors import PaymentNotFound, StoreUnavailable
from micropaywall.ids import key_prefix

if TYPE_CHECKING:
    from micropaywall.core.book import PaymentRow
    from micropaywall.ledger.port import Ledger

__all__ = ["existing_book", "find_payment", "short_id"]

SHORT_ID_CHARS: Final = 16
"""``pay_`` and 12 hex digits: short enough for a table, and as good as unique in one book."""
_PREFIX: Final = re.compile(r"pay_[0-9a-f]{8,40}", re.ASCII)


def short_id(name: str) -> str:
    """A payment id as tables show it; `find_payment` takes it."""
    return name[:SHORT_ID_CHARS]


@asynccontextmanager
async def existing_book(config_file: Path | None) -> AsyncIterator[Ledger]:
    """The configured book, which must exist: looking at a book that is not there must not begin one."""
    from micropaywall.ledger import path_of
    from micropaywall.settings import load_settings

    settings = load_settings(config_file).settings
    file = path_of(settings.ledger.url)
    if not file.exists():
        raise StoreUnavailable(
            f"there is no book at {file} yet", hint="It begins when a seller is started: micropaywall serve --sandbox"
        )
    book = await parts.open_book(settings)
    try:
        yield book
    finally:
        await book.close()


async def find_payment(book: Ledger, name: str) -> PaymentRow:
    """The payment with this id, or whose id alone begins with it; PaymentNotFound otherwise."""
    if not _PREFIX.fullmatch(name):
        raise PaymentNotFound("that is no payment id", expected="pay_ and at least 8 hex digits", received=name[:80])
    prefix = key_prefix(name)
    if prefix is None:
        found = {
            full
            async for record in book.records()
            if (full := str(record.metadata.get("paymentId", ""))).startswith(name)
        }
        if len(found) > 1:
            raise PaymentNotFound("several payments begin like that", expected=sorted(found)[:5], received=name)
        prefix = key_prefix(found.pop()) if found else None
    row = await book.payment(prefix) if prefix is not None else None
    if row is None:
        raise PaymentNotFound("no such payment is in the book", received=name, hint="micropaywall ledger list")
    return row
