# ruff: noqa: S608
"""Finding payments and charges by payer, endpoint, agent or transaction, in time that does not grow with the book.

``words`` is filled behind the commits, when there is time, or when too much has piled up: random index pages in every
commit would cost a paid request more than everything else that the book does for it. What is newer than that is looked at
row by row; how much that can be is bounded (`limits.WORDS_LAG_MAX`).
"""

from __future__ import annotations

import sqlite3
from typing import Final

from micropaywall import limits
from micropaywall.ids import RowId
from micropaywall.ledger.sqlite.chain import head_of
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT, Transaction

_SOURCES: Final = (
    ("payer", "charges c JOIN payments p ON p.no = c.payment_no", "p.payer"),
    ("endpoint", "charges c", "c.endpoint"),
    ("agent", "charges c", "c.agent"),
)
"""Word, table and column; all of them find charges, by ``c.no``."""


_END: Final = (1 << WRITER_SHIFT) - 1


def missing(connection: sqlite3.Connection) -> list[tuple[int, int, int]]:
    """For each writer with rows that are not in ``words``: its number, the last number that is, the last that there is.

    Every start of a program adds a writer. Those that have left are there once more with nothing missing, for
    `index_some` to be told, and are not looked at again.
    """
    found = []
    for writer_no, indexed_no, left in connection.execute(
        f"SELECT no, indexed_no, seen_ms IS NULL FROM writers WHERE indexed_no <> (no << {WRITER_SHIFT}) + {_END}"
    ).fetchall():
        head = head_of(connection, writer_no)
        start = max(indexed_no, writer_no << WRITER_SHIFT)
        if head > start or left:
            found.append((writer_no, start, head))
    return found


def index_some(t: Transaction, writer_no: int, head: int) -> bool:
    """Put the next rows of a writer into ``words``; whether it is done up to ``head``."""
    row = t.one("SELECT indexed_no FROM writers WHERE no = ?", (writer_no,))
    head = max(head, head_of(t.connection, writer_no))  # it may have written, and left, since it was looked at
    start = max(row[0] if row else head, writer_no << WRITER_SHIFT)
    end = min(head, start + limits.WORDS_INDEX_ROWS)
    for name, table, column in _SOURCES:
        t.execute(
            f"INSERT INTO words (word, id) SELECT '{name}:' || {column}, c.id FROM {table} "
            f"WHERE c.no > ? AND c.no <= ? AND {column} <> '' ORDER BY 1, 2 ON CONFLICT DO NOTHING",
            (start, end),
        )
    t.execute(
        "INSERT INTO words (word, id) SELECT 'transaction:' || p.transaction_id, p.id FROM journal j "
        "JOIN payments p ON p.no = j.payment_no WHERE j.no > ? AND j.no <= ? AND j.kind = 'settled' "
        "AND p.transaction_id <> '' ORDER BY 1, 2 ON CONFLICT DO NOTHING",
        (start, end),
    )
    done = end >= head
    last = (writer_no << WRITER_SHIFT) + _END
    t.execute(
        "UPDATE writers SET indexed_no = CASE WHEN ? AND seen_ms IS NULL THEN ? ELSE ? END WHERE no = ? AND indexed_no <= ?",
        (done, last, end, writer_no, end),
    )
    return done


def forget(t: Transaction, first_no: int, last_no: int) -> None:
    """Take rows that are about to be deleted out of ``words``."""
    for name, table, column in (*_SOURCES, ("transaction", "payments c", "c.transaction_id")):
        t.execute(
            f"DELETE FROM words WHERE (word, id) IN (SELECT '{name}:' || {column}, c.id FROM {table} "
            f"WHERE c.no BETWEEN ? AND ?)",
            (first_no, last_no),
        )


def find(connection: sqlite3.Connection, name: str, value: str, *, before: RowId, limit: int) -> list[RowId]:
    """Ids of the newest ``limit`` rows with that value and an id below ``before``, the newest first."""
    rows = connection.execute(
        "SELECT id FROM words WHERE word = ? AND id < ? ORDER BY id DESC LIMIT ?", (f"{name}:{value}", before, limit)
    )
    found = {row[0] for row in rows}
    for _, start, head in missing(connection):
        found.update(row[0] for row in connection.execute(_UNINDEXED[name], (start, head, value, before)))
    return sorted(found, reverse=True)[:limit]


_UNINDEXED: Final = {
    name: f"SELECT c.id FROM {table} WHERE c.no > ? AND c.no <= ? AND {column} = ? AND c.id < ?"
    for name, table, column in _SOURCES
} | {
    "transaction": "SELECT p.id FROM journal j JOIN payments p ON p.no = j.payment_no "
    "WHERE j.no > ? AND j.no <= ? AND j.kind = 'settled' AND p.transaction_id = ? AND p.id < ?"
}
