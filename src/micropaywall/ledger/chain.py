"""The hash chain of a book: what is covered, how it is computed, and the step that seals new rows.

Each writer numbers its rows without reuse (``no`` is ``writer << 40 | sequence``), so its rows of all tables have one order. A
seal covers the rows after the one before it:

    digest = SHA-256 of the rows, in the order of ``no``: table, then every covered column, each with its length
    hash   = SHA-256(tag || hash of the seal before || writer || nth || first || last || count || digest)

Covered is all of ``journal``, and of ``payments``, ``charges`` and ``refunds`` what never changes; what does change there (states,
amounts) follows from the journal, which `ledger.verify` checks. A checkpoint hashes the newest seals of all writers together.

Sealing runs behind the commits and costs the hot path nothing; rows younger than the newest seal are not protected yet.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Final

WRITER_SHIFT: Final = 40
ROWS_PER_SEAL_MAX: Final = 10_000
"""A seal's rows are read in one go; more rows are more seals."""
_TAG: Final = b"micropaywall/book/1"
COVERED: Final = {
    "charges": "no, id, payment_no, fingerprint, reserved, endpoint, url, created_ms, idempotency_key, agent",
    "journal": "no, at_ms, kind, payment_no, charge_no, amount, payment_state, charge_state, detail",
    "payments": "no, id, key, rail, network, asset, payer, payee, amount, dialect, binding, instruction, valid_before_ms, created_ms",
    "refunds": "no, id, payment_no, amount, created_ms",
}
"""Table: the columns that never change once a row is written."""


def digest_rows(connection: sqlite3.Connection, first_no: int, last_no: int) -> tuple[int, bytes]:
    """How many covered rows there are from ``first_no`` to ``last_no``, and their digest."""
    digest, count = hashlib.sha256(), 0
    for table, row in _in_order(connection, first_no, last_no):
        digest.update(encode(table, row))
        count += 1
    return count, digest.digest()


def encode(table: str, row: tuple[object, ...]) -> bytes:
    """One row, unambiguous: every part with its kind and length."""
    parts = [table.encode()]
    for value in row:
        if value is None:
            parts.append(b"n0:")
        elif isinstance(value, bytes):
            parts.append(b"b%d:" % len(value) + value)
        else:
            text = str(value).encode()
            parts.append((b"i" if isinstance(value, int) else b"t") + b"%d:" % len(text) + text)
    return b"".join(parts) + b"\n"


def link(before: bytes, writer_no: int, nth: int, first_no: int, last_no: int, count: int, digest: bytes) -> bytes:
    """The hash of a seal, from the hash of the one before it (b"" for the first)."""
    numbers = b"".join(value.to_bytes(8, "big") for value in (writer_no, nth, first_no, last_no, count))
    return hashlib.sha256(_TAG + len(before).to_bytes(1, "big") + before + numbers + digest).digest()


def seal(connection: sqlite3.Connection, writer_no: int, now_ms: int) -> int:
    """Seal what ``writer_no`` has written since its newest seal; how many rows. Call inside a write transaction.

    A writer that is gone is sealed by whoever comes next: its rows change no more.
    """
    row = connection.execute(
        "SELECT nth, last_no, hash FROM seals WHERE writer_no = ? ORDER BY nth DESC LIMIT 1", (writer_no,)
    ).fetchone()
    nth, last, before = row if row is not None else (0, writer_no << WRITER_SHIFT, b"")
    end = (writer_no + 1) << WRITER_SHIFT
    newest = _newest(connection, last, end)
    if newest is None:
        return 0
    count, digest = digest_rows(connection, last + 1, newest)
    hash_ = link(before, writer_no, nth + 1, last + 1, newest, count, digest)
    connection.execute(
        "INSERT INTO seals (writer_no, nth, first_no, last_no, row_count, digest, hash, at_ms, purged)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (writer_no, nth + 1, last + 1, newest, count, digest, hash_, now_ms),
    )
    return count


def checkpoint(connection: sqlite3.Connection, now_ms: int) -> None:
    """Tie the newest seals of all writers together, if any is new since the last checkpoint."""
    heads = {
        str(writer): hash_.hex()
        for writer, hash_ in connection.execute(
            "SELECT s.writer_no, s.hash FROM seals s JOIN (SELECT writer_no, MAX(nth) AS nth FROM seals GROUP BY writer_no) m"
            " ON m.writer_no = s.writer_no AND m.nth = s.nth ORDER BY s.writer_no"
        )
    }
    text = json.dumps(heads, sort_keys=True)
    row = connection.execute("SELECT nth, heads, hash FROM checkpoints ORDER BY nth DESC LIMIT 1").fetchone()
    if heads and (row is None or row[1] != text):
        nth, before = (row[0] + 1, row[2]) if row is not None else (1, b"")
        connection.execute(
            "INSERT INTO checkpoints (nth, at_ms, heads, hash) VALUES (?, ?, ?, ?)",
            (nth, now_ms, text, link_heads(before, nth, text)),
        )


def link_heads(before: bytes, nth: int, heads: str) -> bytes:
    """The hash of a checkpoint."""
    return hashlib.sha256(_TAG + b"/heads" + before + nth.to_bytes(8, "big") + heads.encode()).digest()


def _newest(connection: sqlite3.Connection, after: int, end: int) -> int | None:
    """The newest row after ``after`` that one seal takes in, or None."""
    newest = None
    for table in COVERED:
        (found,) = connection.execute(f"SELECT MAX(no) FROM {table} WHERE no > ? AND no < ?", (after, end)).fetchone()  # noqa: S608
        if found is not None and (newest is None or found > newest):
            newest = found
    return None if newest is None else min(int(newest), after + ROWS_PER_SEAL_MAX)


def _in_order(connection: sqlite3.Connection, first_no: int, last_no: int) -> Iterator[tuple[str, tuple[object, ...]]]:
    rows = [
        (row[0], table, row)
        for table, columns in COVERED.items()
        for row in connection.execute(
            f"SELECT {columns} FROM {table} WHERE no BETWEEN ? AND ? ORDER BY no",  # noqa: S608
            (first_no, last_no),
        )
    ]
    rows.sort(key=lambda item: (item[0], item[1]))
    for _, table, row in rows:
        yield table, row
