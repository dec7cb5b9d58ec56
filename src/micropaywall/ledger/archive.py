# ruff: noqa: S608
"""Moving old, finished payments out of a SQLite book into an archive, which is a book of its own. Both are proven by `verify`.

What goes is a beginning of the hash chain, up to a checkpoint: every payment that it mentions must be finished. Their seals
stay, so the chain stays whole; the beginnings of their replay keys stay, so none of them can be presented again; what their
accounts came to stays in ``carried``. Nothing can be refunded any more that has been archived.

Rows are copied first and deleted then, in steps that sellers hardly notice; a run that was cut off is simply run again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from micropaywall.clock import Clock, SystemClock
from micropaywall.errors import ConfigurationError, StoreUnavailable
from micropaywall.ledger import statements as sql
from micropaywall.ledger.accounts import account
from micropaywall.ledger.sqlite import chain, files, search
from micropaywall.ledger.sqlite.replay import prefix_of
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT, Transaction
from micropaywall.ledger.sqlite.writer import begin

__all__ = ["ARCHIVE_OF", "EMPTY_DIGEST", "Archived", "archive", "carried_digest"]

ARCHIVE_OF: Final = "archive_of"
"""The value of `meta` that makes a book an archive."""
ARCHIVED_TO: Final = "archived_to"
"""The value of `meta` that says up to which checkpoint a book has been archived."""
_TABLES: Final = ("payments", "charges", "refunds", "journal")
_UNFINISHED: Final = (
    "state NOT IN ('final', 'failed', 'void', 'refunded') OR due_ms IS NOT NULL OR drawn > captured OR created_ms >= ?"
)

Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Archived:
    """What a run has moved."""

    payments: int
    charges: int
    checkpoints: int


@dataclass(slots=True)
class _Plan:
    """What goes: the rows under each checkpoint, and the newest seal of each writer that is among them."""

    checkpoints: list[int] = field(default_factory=list)
    ranges: list[Ranges] = field(default_factory=list)
    heads: dict[int, int] = field(default_factory=dict)

    @property
    def all_ranges(self) -> Ranges:
        return [range_ for ranges in self.ranges for range_ in ranges]


def archive(path: Path, into: Path, *, before_ms: int, clock: Clock | None = None) -> Archived:
    """Move what was sealed before ``before_ms`` and is finished from the book at ``path`` into the one at ``into``.

    One archive may take many runs; or each may have a new one. Raises ConfigurationError, LedgerInUse, StoreUnavailable.
    """
    if path.resolve() == into.resolve():
        raise ConfigurationError("a book cannot be archived into itself", received=str(into))
    clock = clock or SystemClock()
    files.prepare(path)
    files.prepare(into)
    try:
        t = files.open_writer(path, files.this_host(), clock.now_ms())
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the book {path} cannot be opened: {error}") from error
    try:
        _seal_all(t, clock.now_ms())
        plan = _plan(t.connection, before_ms)
        if plan.checkpoints:
            _copy(path, into, plan)
        moved = [_delete(t, last, ranges, clock.now_ms()) for last, ranges in _groups(t.connection, plan)]
        _seal_all(t, clock.now_ms())
    except sqlite3.Error as error:
        raise StoreUnavailable(f"archiving stopped, and can be run again: {error}") from error
    finally:
        files.close_writer(t)
    return Archived(sum(m[0] for m in moved), sum(m[1] for m in moved), len(plan.checkpoints))


def _seal_all(t: Transaction, now_ms: int) -> None:
    for (writer_no,) in t.connection.execute("SELECT no FROM writers").fetchall():
        for seal in chain.new_seals(t.connection, writer_no):
            begin(t)
            chain.add_seals(t, [seal], now_ms)
            t.execute("COMMIT")


# -- what may go ------------------------------------------------------------------------------------------------------


def _plan(connection: sqlite3.Connection, before_ms: int) -> _Plan:
    """The checkpoints from the first that is still here to the last that is old enough and mentions finished payments only."""
    unfinished: dict[int, int] = dict(
        connection.execute(
            f"SELECT no >> {WRITER_SHIFT}, min(no) FROM payments WHERE {_UNFINISHED} GROUP BY 1",
            (before_ms,),
        ).fetchall()
    )
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (ARCHIVED_TO,)).fetchone()
    purged = dict(
        connection.execute("SELECT writer_no, max(nth) FROM seals WHERE purged = 1 GROUP BY writer_no").fetchall()
    )
    plan = _Plan(heads=purged)
    for nth, at_ms, heads in connection.execute(
        "SELECT nth, at_ms, heads FROM checkpoints WHERE nth > ? ORDER BY nth", (int(row[0]) if row else 0,)
    ):
        new = {writer_no: seal for writer_no, seal, _ in json.loads(heads)}
        ranges = [range_ for writer_no, seal in new.items() for range_ in _seals(connection, plan, writer_no, seal)]
        if at_ms >= before_ms or any(end >= unfinished.get(end >> WRITER_SHIFT, end + 1) for _, end in ranges):
            break
        plan.checkpoints.append(nth)
        plan.ranges.append(ranges)
        plan.heads.update(new)
    while plan.checkpoints and _mentions_later(connection, plan.all_ranges):
        plan.checkpoints.pop()
        for first_no, _ in plan.ranges.pop():
            writer_no = first_no >> WRITER_SHIFT
            plan.heads[writer_no] -= 1
    return plan


def _seals(connection: sqlite3.Connection, plan: _Plan, writer_no: int, nth: int) -> Ranges:
    """The row numbers under a writer's seals after those that the plan has, up to the ``nth``."""
    return connection.execute(
        "SELECT first_no, last_no FROM seals WHERE writer_no = ? AND nth > ? AND nth <= ? ORDER BY nth",
        (writer_no, plan.heads.get(writer_no, 0), nth),
    ).fetchall()


def _mentions_later(connection: sqlite3.Connection, ranges: Ranges) -> bool:
    """Whether a row in ``ranges`` belongs to a payment that is still in the book and not in them.

    Two processes: the one that made the payment may be sealed a moment later than the one that captured it.
    """
    for first_no, last_no in ranges:
        for table in ("charges", "refunds", "journal"):
            rows = connection.execute(
                f"SELECT DISTINCT payment_no FROM {table} "
                "WHERE no BETWEEN ? AND ? AND payment_no IN (SELECT no FROM payments) "
                "AND payment_no NOT BETWEEN ? AND ?",
                (first_no, last_no, first_no, last_no),
            )
            if any(not any(low <= no <= high for low, high in ranges) for (no,) in rows):
                return True
    return False


def _groups(connection: sqlite3.Connection, plan: _Plan) -> Iterator[tuple[int, Ranges]]:
    """What is deleted together, up to which checkpoint: one's rows, or several's when they cannot be told apart."""
    group: Ranges = []
    for nth, ranges in zip(plan.checkpoints, plan.ranges, strict=True):
        group = group + ranges
        if not _mentions_later(connection, group):
            yield nth, group
            group = []
    if group:
        yield plan.checkpoints[-1], group


# -- copying ----------------------------------------------------------------------------------------------------------


def _copy(path: Path, into: Path, plan: _Plan) -> None:
    target = files.connect(into)
    try:
        target.create_function("prefix_of", 1, prefix_of, deterministic=True)
        target.execute("ATTACH ? AS book", (f"{path.absolute().as_uri()}?mode=ro",))
        target.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (ARCHIVE_OF, path.name.encode()))
        for first_no, last_no in plan.all_ranges:
            _copy_range(target, first_no, last_no)
        target.execute("BEGIN IMMEDIATE")
        for table in ("charges", "refunds", "journal"):
            # What happened to these payments later: the archive has the whole story of each.
            target.execute(
                f"INSERT OR IGNORE INTO {table} SELECT * FROM book.{table} b "
                "WHERE EXISTS (SELECT 1 FROM main.payments p WHERE p.no = b.payment_no)"
            )
        target.execute("INSERT OR IGNORE INTO assets SELECT * FROM book.assets")
        target.execute("INSERT OR REPLACE INTO writers SELECT * FROM book.writers")
        target.execute(
            "INSERT OR IGNORE INTO checkpoints SELECT * FROM book.checkpoints WHERE nth <= ?", (plan.checkpoints[-1],)
        )
        for head in plan.heads.items():
            target.execute(
                "INSERT OR IGNORE INTO seals SELECT * FROM book.seals WHERE writer_no = ? AND nth <= ?", head
            )
        target.execute("COMMIT")
    finally:
        if target.in_transaction:
            target.execute("ROLLBACK")
        target.close()


def _copy_range(target: sqlite3.Connection, first_no: int, last_no: int) -> None:
    target.execute("BEGIN IMMEDIATE")
    new = target.execute(
        "SELECT count(*) FROM book.payments b WHERE no BETWEEN ? AND ? AND NOT EXISTS "
        "(SELECT 1 FROM main.payments m WHERE m.no = b.no)",
        (first_no, last_no),
    ).fetchone()[0]
    if new:
        target.execute(
            "INSERT INTO exposures (payer, asset, unsettled, lost, suspended) "
            "SELECT payer, asset, 0, sum(captured), 1 FROM book.payments b WHERE no BETWEEN ? AND ? AND state = 'failed' "
            "AND captured > 0 AND NOT EXISTS (SELECT 1 FROM main.payments m WHERE m.no = b.no) GROUP BY payer, asset "
            "ON CONFLICT (payer, asset) DO UPDATE SET lost = exposures.lost + excluded.lost",
            (first_no, last_no),
        )
    for table in _TABLES:
        target.execute(
            f"INSERT OR IGNORE INTO {table} SELECT * FROM book.{table} WHERE no BETWEEN ? AND ?",
            (first_no, last_no),
        )
    target.execute(
        "INSERT OR IGNORE INTO replay_keys (prefix, nth, payment_no) "
        "SELECT prefix_of(key), 0, no FROM payments WHERE no BETWEEN ? AND ?",
        (first_no, last_no),
    )
    target.execute("COMMIT")


# -- deleting ---------------------------------------------------------------------------------------------------------


def _delete(t: Transaction, last: int, ranges: Ranges, now_ms: int) -> tuple[int, int]:
    """Delete the rows of ``ranges`` in one transaction, and keep what they came to; how many payments and charges."""
    begin(t)
    try:
        payments = charges = 0
        for range_ in ranges:
            _carry(t.connection, range_)
            search.forget(t, *range_)
            t.change(
                "DELETE FROM responses WHERE charge_no IN (SELECT no FROM charges WHERE no BETWEEN ? AND ?)", range_
            )
            counts = {
                table: t.change(f"DELETE FROM {table} WHERE no BETWEEN ? AND ?", range_)
                for table in ("journal", "refunds", "charges", "payments")
            }
            t.change("UPDATE seals SET purged = 1 WHERE first_no = ? AND last_no = ?", range_)
            payments += counts["payments"]
            charges += counts["charges"]
        t.execute(sql.SET_META, (ARCHIVED_TO, str(last).encode()))
        t.journal(now_ms, "purged", 0, detail=carried_digest(t.connection))
        t.execute("COMMIT")
    except BaseException:
        t.rollback()
        raise
    return payments, charges


def _carry(connection: sqlite3.Connection, range_: tuple[int, int]) -> None:
    """Add what the accounts of the payments in ``range_`` come to to ``carried``."""
    rows = connection.execute(
        "SELECT rail, network, asset, payee, payer, state IN ('final', 'refunded'), sum(amount), sum(captured), "
        "sum(refunded) FROM payments WHERE no BETWEEN ? AND ? AND state <> 'void' "
        "GROUP BY rail, network, asset, payee, 6, CASE WHEN amount - captured - refunded THEN payer END",
        range_,
    ).fetchall()
    for rail, network, asset, payee, payer, moved, amount, captured, refunded in rows:
        sides = {"income": -captured}
        if moved:
            sides |= {"wallet": amount - refunded, "credit": captured + refunded - amount}
        else:
            sides["loss"] = captured
        for kind, debited in sides.items():
            if debited:
                name = account(kind, rail=rail, network=network, payer=payer, payee=payee)
                _add(connection, name, asset, debited)


def _add(connection: sqlite3.Connection, name: str, asset: str, debited: int) -> None:
    """Add to an account's net: one of its two sides is zero, so that years of turnover fit into 64 bits."""
    row = connection.execute(
        "SELECT debit - credit FROM carried WHERE account = ? AND asset = ?", (name, asset)
    ).fetchone()
    net = debited + (row[0] if row else 0)
    connection.execute(
        "INSERT INTO carried (account, asset, debit, credit) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (account, asset) DO UPDATE SET debit = excluded.debit, credit = excluded.credit",
        (name, asset, max(net, 0), max(-net, 0)),
    )


def carried_digest(connection: sqlite3.Connection) -> str:
    """What the journal says of ``carried`` whenever it changes."""
    return _digest(connection.execute("SELECT account, asset, debit, credit FROM carried ORDER BY 1, 2").fetchall())


def _digest(rows: list[tuple[str, str, int, int]]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


EMPTY_DIGEST: Final = _digest([])
"""`carried_digest` of a book from which nothing was archived."""
