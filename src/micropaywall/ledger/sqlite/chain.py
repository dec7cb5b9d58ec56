# ruff: noqa: S608
"""The hash chain: every row that never changes, sealed in the order of its writer, behind the commits.

A *seal* covers one writer's rows between two row numbers and the seal before it; a *checkpoint* covers all seals that are
new since the checkpoint before it, of whichever writer, and that checkpoint. Whoever edits, deletes, inserts or reorders a
sealed row has to write the whole chain anew, to its end, and the end is what an operator can keep elsewhere.

Rows are given to the hash as text that has one meaning: numbers in decimal, bytes and text in hex.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from micropaywall import limits
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT, Transaction

GENESIS: Final = b"micropaywall/ledger/1"


def _line(*, numbers: tuple[str, ...], bytes_: tuple[str, ...], words: tuple[str, ...] = ()) -> str:
    """One row as text: numbers (and words that the database knows all of) as they are, all else in hex.

    In hex, for no text is then mistaken for two fields, and none ends at a NUL. `printf`, for a chain of ``||`` copies what
    it has so far at every field, and takes twice as long.
    """
    plain, hexed = [f"ifnull({name}, '-')" for name in numbers + words], [f"hex({name})" for name in bytes_]
    return f"printf('{'|'.join(['%s'] * (len(plain) + len(hexed)))}', {', '.join(plain + hexed)})"


SEALED: Final[dict[str, str]] = {
    "payments": _line(
        numbers=("no", "amount", "valid_before_ms", "created_ms"),
        words=("mode",),
        bytes_=(
            *("id", "key", "binding", "instruction"),
            *("rail", "network", "asset", "payer", "payee", "dialect"),
        ),
    ),
    "charges": _line(
        numbers=("no", "payment_no", "reserved", "created_ms"),
        bytes_=("id", "fingerprint", "endpoint", "url", "idempotency_key", "agent"),
    ),
    "refunds": _line(numbers=("no", "payment_no", "amount", "created_ms"), bytes_=("id",)),
    "journal": _line(
        numbers=("no", "at_ms", "payment_no", "charge_no", "amount"),
        words=("kind", "payment_state", "charge_state"),
        bytes_=("detail",),
    ),
}
"""What is sealed of each table, as an SQL expression."""


@dataclass(frozen=True, slots=True)
class Seal:
    """One link of a writer's chain."""

    writer_no: int
    nth: int
    first_no: int
    last_no: int
    row_count: int
    digest: bytes
    hash: bytes
    purged: bool = False

    @property
    def row(self) -> tuple[int, int, int, int, int, bytes, bytes]:
        return self.writer_no, self.nth, self.first_no, self.last_no, self.row_count, self.digest, self.hash


def digest_rows(connection: sqlite3.Connection, first_no: int, last_no: int) -> tuple[int, bytes]:
    """How many sealed rows lie between two numbers, and the digest of their text."""
    count = 0
    digest = hashlib.sha256()
    for table, line in SEALED.items():
        digest.update(f"{table}\n".encode())
        rows = connection.execute(
            f"SELECT {line} FROM {table} WHERE no BETWEEN ? AND ? ORDER BY no",
            (first_no, last_no),
        )
        while lines := rows.fetchmany(1_000):
            count += len(lines)
            digest.update("".join(f"{text}\n" for (text,) in lines).encode())
    return count, digest.digest()


def seal_hash(
    previous: bytes, writer_no: int, nth: int, first_no: int, last_no: int, count: int, digest: bytes
) -> bytes:
    """The hash of a seal; ``previous`` is that of the seal before, or GENESIS."""
    facts = f"seal|{writer_no}|{nth}|{first_no}|{last_no}|{count}|".encode()
    return hashlib.sha256(previous + facts + digest).digest()


def checkpoint_hash(previous: bytes, nth: int, at_ms: int, heads: str) -> bytes:
    """The hash of a checkpoint over all writers."""
    return hashlib.sha256(previous + f"checkpoint|{nth}|{at_ms}|{heads}".encode()).digest()


def last_seal(connection: sqlite3.Connection, writer_no: int) -> tuple[int, int, bytes]:
    """``nth``, ``last_no`` and hash of a writer's newest seal; of the beginning when there is none."""
    row = connection.execute(
        "SELECT nth, last_no, hash FROM seals WHERE writer_no = ? ORDER BY nth DESC LIMIT 1", (writer_no,)
    ).fetchone()
    return (int(row[0]), int(row[1]), bytes(row[2])) if row else (0, writer_no << WRITER_SHIFT, GENESIS)


def head_of(connection: sqlite3.Connection, writer_no: int) -> int:
    """The greatest number of a committed row of this writer. No row below it will ever be added."""
    low = writer_no << WRITER_SHIFT
    high = low | ((1 << WRITER_SHIFT) - 1)
    heads = [
        connection.execute(
            f"SELECT max(no) FROM {table} WHERE no BETWEEN ? AND ?",
            (low, high),
        ).fetchone()[0]
        for table in SEALED
    ]
    return max((head for head in heads if head is not None), default=low)


def new_seals(connection: sqlite3.Connection, writer_no: int) -> Iterator[Seal]:
    """Compute the seals of a writer's rows that have none yet. Reads only."""
    nth, sealed_no, previous = last_seal(connection, writer_no)
    head = head_of(connection, writer_no)
    while sealed_no < head:
        nth += 1
        first_no, last_no = sealed_no + 1, min(head, sealed_no + limits.SEAL_ROWS_MAX)
        count, digest = digest_rows(connection, first_no, last_no)
        previous = seal_hash(previous, writer_no, nth, first_no, last_no, count, digest)
        yield Seal(writer_no, nth, first_no, last_no, count, digest, previous)
        sealed_no = last_no


def add_seals(t: Transaction, seals: list[Seal], now_ms: int) -> int:
    """Write seals and a checkpoint over them; those that another process was quicker with are left out. How many."""
    heads: dict[int, Seal] = {}
    added = 0
    for seal in seals:
        nth, sealed_no, previous = last_seal(t.connection, seal.writer_no)
        facts = (seal.writer_no, seal.nth, seal.first_no, seal.last_no, seal.row_count, seal.digest)
        if (nth + 1, sealed_no + 1) == (seal.nth, seal.first_no) and seal_hash(previous, *facts) == seal.hash:
            t.execute(
                "INSERT INTO seals (writer_no, nth, first_no, last_no, row_count, digest, hash, at_ms, purged) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (*seal.row, now_ms),
            )
            heads[seal.writer_no] = seal
            added += 1
    if heads:
        row = t.one("SELECT nth, hash FROM checkpoints ORDER BY nth DESC LIMIT 1", ())
        nth, previous = (int(row[0]), bytes(row[1])) if row else (0, GENESIS)
        text = json.dumps([[seal.writer_no, seal.nth, seal.hash.hex()] for seal in heads.values()])
        t.execute(
            "INSERT INTO checkpoints (nth, at_ms, heads, hash) VALUES (?, ?, ?, ?)",
            (nth + 1, now_ms, text, checkpoint_hash(previous, nth + 1, now_ms, text)),
        )
    return added
