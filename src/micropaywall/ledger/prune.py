"""What a SQLite book need not keep: stored responses whose retention is over.

Payments, charges, refunds and the journal stay, whatever their age: they are what is proven, and a payment that the book
has forgotten would look new. So nothing here makes a payment acceptable again; a retry is told that the response is gone.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from micropaywall.errors import StoreUnavailable
from micropaywall.ledger.sqlite import files
from micropaywall.ledger.sqlite.alone import check_ours
from micropaywall.ledger.sqlite.erasing import erase_some

__all__ = ["Pruned", "prune"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was erased. The file does not shrink; SQLite reuses the space."""

    responses: int
    bytes: int


def prune(path: Path, *, now_ms: int, keep_responses_s: int) -> Pruned:
    """Erase the responses of the book at ``path`` that were kept for longer than ``keep_responses_s``; servers go on.

    Raises LedgerInUse when another host has the book, ConfigurationError when it is not one of this version,
    StoreUnavailable. What was erased before an error stays erased.
    """
    if not path.is_file():
        raise StoreUnavailable(f"there is no book at {path}")
    before_ms = now_ms - keep_responses_s * 1000
    responses = size = 0
    try:
        with closing(files.connect(path)) as book:
            check_ours(book, path)
            files.check_version(path, book)
            after: int | None = 0
            while after is not None:
                # Many short transactions, each of which decides and erases: a payment may be reopened in between.
                book.execute("BEGIN IMMEDIATE")
                files.refuse_other_hosts(book, path, files.this_host(), now_ms, 0)
                step = erase_some(book, before_ms=before_ms, after=after, thorough=True)
                book.execute("COMMIT")
                responses += step.responses
                size += step.bytes
                after = step.after
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the book {path} cannot be pruned: {error}") from error
    return Pruned(responses=responses, bytes=size)
