# ruff: noqa: S608
"""Checking the hash chain of a SQLite book: every seal, every checkpoint, and that nothing lies outside of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from micropaywall.ledger.sqlite.chain import (
    GENESIS,
    SEALED,
    Seal,
    checkpoint_hash,
    digest_rows,
    head_of,
    seal_hash,
)
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT


class ChainCheck:
    """``findings`` is what is wrong; ``unsealed_rows`` and ``head`` are known once it was read to its end."""

    def __init__(self, connection: sqlite3.Connection, expect: str) -> None:
        self._connection = connection
        self._expect = expect
        self._known: dict[tuple[int, int], str] = {}
        self.unsealed_rows = 0
        self.head = ""
        self.findings = self._check()

    def _check(self) -> Iterator[str]:
        writers = [no for (no,) in self._connection.execute("SELECT no FROM writers ORDER BY no").fetchall()]
        yield from self._strangers(writers)
        newest: dict[int, tuple[int, str]] = {}
        heads = list(self._checkpoints(newest))
        yield from heads
        for writer_no in writers:
            yield from self._writer(writer_no, newest.get(writer_no, (0, GENESIS.hex())))

    def _strangers(self, writers: list[int]) -> Iterator[str]:
        """Rows and seals under the number of a writer that never was."""
        known = set(writers)
        for table in SEALED:
            found = self._connection.execute(f"SELECT DISTINCT no >> {WRITER_SHIFT} FROM {table}").fetchall()
            yield from (f"{table}: rows of writer {no}, which never was" for (no,) in found if no not in known)
        for (no,) in self._connection.execute("SELECT DISTINCT writer_no FROM seals").fetchall():
            if no not in known:
                yield f"seals of writer {no}, which never was"

    def _writer(self, writer_no: int, newest: tuple[int, str]) -> Iterator[str]:
        previous, expected_nth, next_no = GENESIS, 1, (writer_no << WRITER_SHIFT) + 1
        for row in self._connection.execute(
            "SELECT writer_no, nth, first_no, last_no, row_count, digest, hash, purged FROM seals WHERE writer_no = ? "
            "ORDER BY nth",
            (writer_no,),
        ):
            seal = Seal(*row)
            name = f"writer {writer_no}, seal {seal.nth}"
            if seal.nth != expected_nth or seal.first_no != next_no:
                yield f"{name}: does not follow the one before (a seal is missing or was added)"
            facts = (writer_no, seal.nth, seal.first_no, seal.last_no, seal.row_count, seal.digest)
            if seal_hash(previous, *facts) != seal.hash:
                yield f"{name}: its hash does not fit"
            yield from self._sealed_rows(name, seal)
            previous, expected_nth, next_no = seal.hash, seal.nth + 1, seal.last_no + 1
        if newest != (expected_nth - 1, previous.hex()):
            yield f"writer {writer_no}: {expected_nth - 1} seals, and the checkpoints know {newest[0]}, or another last one"
        self.unsealed_rows += self._count(next_no, head_of(self._connection, writer_no))

    def _sealed_rows(self, name: str, seal: Seal) -> Iterator[str]:
        if seal.purged:
            if left := self._count(seal.first_no, seal.last_no):
                yield f"{name}: was archived, and {left} of its rows are there"
            return
        count, digest = digest_rows(self._connection, seal.first_no, seal.last_no)
        if count != seal.row_count:
            yield f"{name}: {count} rows where {seal.row_count} were sealed (numbers {seal.first_no} to {seal.last_no})"
        elif digest != seal.digest:
            yield f"{name}: a row was changed (numbers {seal.first_no} to {seal.last_no})"

    def _count(self, first_no: int, last_no: int) -> int:
        total = 0
        for table in SEALED:
            (count,) = self._connection.execute(
                f"SELECT count(*) FROM {table} WHERE no BETWEEN ? AND ?",
                (first_no, last_no),
            ).fetchone()
            total += count
        return total

    def _checkpoints(self, newest: dict[int, tuple[int, str]]) -> Iterator[str]:
        previous, expected = GENESIS, 1
        met = not self._expect
        for nth, at_ms, heads, hash_ in self._connection.execute(
            "SELECT nth, at_ms, heads, hash FROM checkpoints ORDER BY nth"
        ):
            if nth != expected:
                yield f"checkpoint {nth} stands where {expected} should be"
            if checkpoint_hash(previous, nth, at_ms, heads) != hash_:
                yield f"checkpoint {nth}: its hash does not fit"
            for writer_no, seal_nth, seal in _heads(heads):
                newest[writer_no] = (seal_nth, seal)
            previous, expected = hash_, nth + 1
            self.head = hash_.hex()
            met = met or self.head == self._expect
        if not met:
            yield "the chain does not contain the head that was kept elsewhere: it was cut or written anew"


def _heads(text: str) -> list[Any]:
    try:
        heads = json.loads(text)
    except ValueError:
        return []
    return heads if isinstance(heads, list) else []


def check_chain(connection: sqlite3.Connection, expect: str) -> ChainCheck:
    """The check of the whole chain; ``expect`` is a head that must be in it, or ""."""
    return ChainCheck(connection, expect)
