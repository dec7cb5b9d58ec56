"""Erasing stored responses whose retention is over, a few at a time."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from micropaywall import limits
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT

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
