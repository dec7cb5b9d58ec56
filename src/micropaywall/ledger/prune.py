"""What a SQLite book need not keep: stored responses whose retention is over.

Payments, charges, refunds and the journal stay, whatever their age: they are what is proven, and a payment that the book
has forgotten would look new. So nothing here makes a payment acceptable again; a retry is told that the response is gone.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from micropaywall import limits
from micropaywall.errors import StoreUnavailable
from micropaywall.ledger.sqlite import files
from micropaywall.ledger.sqlite.alone import check_ours
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT

__all__ = ["Pruned", "erase_some", "prune"]

# While the outcome of a payment is open, its buyer has not got the response: that is kept, however old, and for the
# retention from the verdict on. In `deferred` mode it was delivered before anything was submitted.
_NEXT: Final = """
SELECT r.charge_no, r.kept_ms, LENGTH(r.headers) + LENGTH(r.body),
    MAX(r.kept_ms, COALESCE(p.settled_ms, 0)) < ? AND (p.mode = 'deferred' OR p.state NOT IN ('held', 'settling'))
FROM responses r JOIN charges c ON c.no = r.charge_no JOIN payments p ON p.no = c.payment_no
WHERE r.charge_no > ? ORDER BY r.charge_no LIMIT ?"""
_ERASE: Final = "DELETE FROM responses WHERE charge_no = ?"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step erased, and where the next begins; None when there is nothing after it."""

    responses: int
    bytes: int
    after: int | None


def erase_some(book: sqlite3.Connection, *, before_ms: int, after: int, thorough: bool) -> Step:
    """Erase of the next few responses after charge number ``after`` those that are due, inside a transaction.

    One writer's responses lie in the order of time, as far as its clock went forward: unless ``thorough``, the look goes
    on with the next writer where one is too young, so that it costs nothing to look often.
    """
    rows = book.execute(_NEXT, (before_ms, after, limits.PRUNE_ROWS)).fetchall()
    book.executemany(_ERASE, [(charge_no,) for charge_no, _, _, due in rows if due])
    follow: int | None = None
    if rows:
        follow, kept_ms, _, _ = rows[-1]
        if kept_ms >= before_ms and not thorough:
            follow = ((follow >> WRITER_SHIFT) + 1) << WRITER_SHIFT
    return Step(sum(due for *_, due in rows), sum(length for _, _, length, due in rows if due), follow)


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
