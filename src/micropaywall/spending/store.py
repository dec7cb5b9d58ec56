"""Budgets and journal of a user's payments, in one SQLite file that all of the user's processes share.

A budget is reserved in one transaction that holds the writer's lock: what was spent is read and the new payment is added
in the same step, so any number of calls, threads and processes together never exceed a limit. What is signed is durable
before it is sent. Budget comes back only on a definite outcome (`core.purchase`).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

from micropaywall import limits
from micropaywall.clock import Clock, SystemClock
from micropaywall.core.budget import Budget, Limit, Purchase, applies, covers, spend
from micropaywall.core.buyer_effects import Draft
from micropaywall.core.policy import HostFacts, Realm, realm_of
from micropaywall.core.purchase import (
    LIFE,
    VERDICTS,
    HeaderLine,
    PurchaseEvent,
    PurchaseRow,
    PurchaseState,
    after,
    counts,
)
from micropaywall.errors import KillSwitchOn, MoneyMoved, PolicyRefused, StoreUnavailable
from micropaywall.ids import ReplayKey, payment_id, row_id
from micropaywall.money import Asset
from micropaywall.spending import tallies
from micropaywall.spending.rows import INSERT, RECORD, SELECT, read_row
from micropaywall.spending.schema import HOUR_MS, open_database

__all__ = ["SpendingStore"]

_ROWS_PER_READ: Final = 500
_NEVER_SIGNED: Final = frozenset({PurchaseState.RESERVED, PurchaseState.RELEASED})
_CONCLUDED: Final = frozenset(
    {PurchaseState.SERVED, PurchaseState.REJECTED, PurchaseState.EXPIRED, PurchaseState.RELEASED}
)
_PARENTS: Final[list[sqlite3.Connection]] = []
"""Connections of the process that we were forked from: kept, since closing one would drop the parent's locks."""


class SpendingStore:
    """One user's budgets and payments. Safe for threads, for forks and for any number of processes.

    Every method may raise StoreUnavailable; nothing is half done then.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._db = open_database(path)
        self._file = _file_at(path)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- paying -------------------------------------------------------------------------------------------------------

    def reserve(self, draft: Draft, budget: Budget | None) -> tuple[PurchaseRow, bool]:
        """Hold the budget for ``draft``: the row, and whether it is new.

        Not new: the row of another call with the same key, which came first. ``budget`` counts what ``draft.agent`` spent;
        the user's own limits (`set_budget`) count everything, and are the only ones with ``budget`` None.
        Raises BudgetExceeded, KillSwitchOn.
        """
        with self._write() as db:
            self._check_file()
            _check_kill_switch(db)
            if draft.call_key:
                found = _find_call(db, draft.agent, draft.call_key)
                if found is not None and (found.state is not PurchaseState.SERVED or draft.replay_served):
                    return found, False
            now_ms = self._tick(db)
            _release_lapsed(db, now_ms)
            _check_budgets(db, draft, budget, now_ms)
            id_ = _insert(db, draft, now_ms)
            hour = now_ms // HOUR_MS
            if hour > int(_meta(db, "compacted_hour") or 0) + tallies.COMPACT_AFTER_HOURS:
                tallies.compact(db, hour - tallies.COMPACT_AFTER_HOURS)
                _set_meta(db, "compacted_hour", str(hour - tallies.COMPACT_AFTER_HOURS))
            return _row(db, id_), True

    def journal(self, row: PurchaseRow, key: ReplayKey, credential: HeaderLine, valid_before_s: int) -> PurchaseRow:
        """Write the signed payment down; it may be sent when this returns.

        Raises KillSwitchOn, or PolicyRefused when the reservation was given up meanwhile: then it must not be sent.
        """
        with self._write() as db:
            self._check_file()
            _check_kill_switch(db)
            now_ms = self._tick(db)
            changed = db.execute(
                "UPDATE purchase SET state = ?, key = ?, payment_id = ?, header_name = ?, header_value = ?,"
                " valid_before_ms = ?, signed_ms = ?, money_moved = 'unknown' WHERE id = ? AND state = 'reserved'",
                (
                    after(PurchaseState.RESERVED, PurchaseEvent.JOURNALED).value,
                    key,
                    payment_id(key),
                    credential.name,
                    credential.value,
                    valid_before_s * 1000,
                    now_ms,
                    row.id,
                ),
            ).rowcount
            if changed != 1:
                raise PolicyRefused(
                    "the budget was not held any more when the payment was signed; it is not sent",
                    expected=f"a signature within {limits.RESERVATION_LEASE_S} s",
                )
            return _row(db, row.id)

    def record(
        self,
        row: PurchaseRow,
        event: PurchaseEvent,
        moved: MoneyMoved = "unknown",
        reason: str = "",
        status: int | None = None,
        transaction: str = "",
    ) -> PurchaseRow:
        """Write down what happened to a payment; the row as it is then.

        When another process wrote a verdict first, that stands. Raises LookupError for a step that the table does not have.
        """
        with self._write() as db:
            current = _row(db, row.id)
            if event not in LIFE[current.state] and (current.state is not row.state or current.state in VERDICTS):
                return current
            state = after(current.state, event)
            now_ms = self._tick(db)
            db.execute(
                RECORD,
                {
                    "state": state.value,
                    "moved": moved,
                    "reason": reason,
                    "status": status,
                    "transaction": transaction,
                    "now": now_ms,
                    "concluded": state in _CONCLUDED,
                    "attempt": event is not PurchaseEvent.DROPPED,
                    "id": row.id,
                },
            )
            tallies.add(
                db,
                row.id,
                counted=counts(state, moved) - counts(current.state, current.money_moved),
                signed=-1 if state is PurchaseState.RELEASED else 0,
            )
            if state is PurchaseState.SERVED:
                _remember_payee(db, current.authority, current.network, current.payee, now_ms)
            return _row(db, row.id)

    def find_call(self, agent: str, call_key: str) -> PurchaseRow | None:
        """The newest payment of the logical call with this key that is reserved, without a verdict, or served."""
        with self._read() as db:
            return _find_call(db, agent, call_key)

    # -- hosts --------------------------------------------------------------------------------------------------------

    def known(self, authority: str) -> HostFacts:
        """The payees that the host at ``authority`` (host:port) was paid at, by network, in lower case."""
        found: dict[str, set[str]] = {}
        with self._read() as db:
            for row in db.execute("SELECT network, payee FROM known WHERE authority = ?", (authority,)):
                found.setdefault(row["network"], set()).add(row["payee"])
        return HostFacts({network: frozenset(payees) for network, payees in found.items()})

    def trust(self, authority: str, network: str, payee: str) -> None:
        """Accept ``payee`` for the host from now on: the user knows that it changed."""
        with self._write() as db:
            _remember_payee(db, authority, network, payee, self._tick(db))

    # -- the user's settings ------------------------------------------------------------------------------------------

    def budget(self) -> Budget:
        """The limits that hold for every program of this user; none when none were set."""
        with self._read() as db:
            return Budget(tallies.read_limits(db))

    def set_budget(self, budget: Budget) -> None:
        """Replace the user's limits. Holds for the next reservation of every process."""
        with self._write() as db:
            tallies.write_limits(db, budget.limits)

    def spent(self, limit: Limit, *, realm: Realm, agent: str | None = None) -> list[tuple[str, Decimal]]:
        """What counts against ``limit`` now: (subject, whole units of its currency), the largest first.

        ``agent`` None: of all agents. A limit for each host (payee, asset) has a row for each.
        """
        sums: list[tuple[str, Decimal]] = []
        with self._read() as db:
            look = tallies.lookup(db, realm=realm, agent=agent, now_ms=self._now(db))
            for subject in [limit.subject] if limit.subject else tallies.subjects(db, limit.scope, realm):
                rows = [row for row in look(limit, subject) if covers(limit.amount.unit, row.asset)]
                total = sum((row.counted for row in rows), Fraction(0))
                sums.append((subject, Decimal(total.numerator) / Decimal(total.denominator)))
        return sorted(sums, key=lambda pair: (-pair[1], pair[0]))

    def kill_switch(self) -> bool:
        """Whether all payments of this user are stopped."""
        with self._read() as db:
            return _meta(db, "kill_switch") == "on"

    def set_kill_switch(self, *, on: bool) -> None:
        """Stop all payments of all processes of this user, or allow them again. What was sent is not called back."""
        with self._write() as db:
            _set_meta(db, "kill_switch", "on" if on else "off")

    def reset_clock(self) -> None:
        """Believe the machine's clock again, after it stood in the future by mistake.

        What was counted in that future stays counted until real time has passed it.
        """
        with self._write() as db:
            _set_meta(db, "clock_ms", str(self._clock.now_ms()))

    # -- the journal --------------------------------------------------------------------------------------------------

    def payments(
        self,
        *,
        since_ms: int = 0,
        states: Collection[PurchaseState] = (),
        agent: str | None = None,
        limit: int | None = None,
    ) -> Iterator[PurchaseRow]:
        """Payments, oldest first. Without ``states`` all that were signed. Reads as it goes, so it may be left at any time."""
        wanted = [state.value for state in states or PurchaseState if states or state not in _NEVER_SIGNED]
        query = (
            f"{SELECT} WHERE seq > ? AND state IN ({', '.join('?' * len(wanted))}) AND created_ms >= ?"
            " AND (? IS NULL OR agent = ?) ORDER BY seq LIMIT ?"
        )
        seq, left = 0, limit
        while left is None or left > 0:
            count = _ROWS_PER_READ if left is None else min(_ROWS_PER_READ, left)
            with self._read() as db:
                rows = db.execute(query, (seq, *wanted, since_ms, agent, agent, count)).fetchall()
            yield from map(read_row, rows)
            if len(rows) < count:
                return
            seq = rows[-1]["seq"]
            left = None if left is None else left - len(rows)

    def payment(self, name: str) -> PurchaseRow | None:
        """The payment with this payment id (``pay_…``)."""
        with self._read() as db:
            row = db.execute(f"{SELECT} WHERE payment_id = ?", (name,)).fetchone()
        return None if row is None else read_row(row)

    def open_payments(self) -> list[PurchaseRow]:
        """Signed payments without a verdict, oldest first: the ones to ask sellers about."""
        with self._read() as db:
            found = db.execute(f"{SELECT} WHERE state IN ('signed', 'sent', 'unknown') ORDER BY seq").fetchall()
        return [read_row(row) for row in found]

    # -- transactions -------------------------------------------------------------------------------------------------

    def _now(self, db: sqlite3.Connection) -> int:
        return max(self._clock.now_ms(), int(_meta(db, "clock_ms") or 0))

    def _tick(self, db: sqlite3.Connection) -> int:
        """The time, which never runs backwards: a clock that was set back must not free a budget."""
        now_ms = self._now(db)
        _set_meta(db, "clock_ms", str(now_ms))
        return now_ms

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._mine(), _store_errors():
            yield self._db

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._mine(), _store_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _check_file(self) -> None:
        """Before money is promised: what is written must be where other processes, and the next start, will look."""
        if _file_at(self.path) != self._file:
            raise StoreUnavailable(
                "the spending store was deleted or replaced while it was in use; nothing is paid from a forgotten budget",
                received=str(self.path),
                hint="Restart the program.",
            )

    def _mine(self) -> threading.Lock:
        """The lock of this process; after a fork, with a connection of its own."""
        if self._pid != os.getpid():
            _PARENTS.append(self._db)
            self._lock, self._db, self._pid = threading.Lock(), open_database(self.path), os.getpid()
            self._file = _file_at(self.path)
        return self._lock


def _file_at(path: Path) -> tuple[int, int] | None:
    """Which file is at ``path``, or None."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"the spending store does not answer: {error}", retry_after_s=limits.RETRY_AFTER_S
        ) from None


# -- steps of a transaction -------------------------------------------------------------------------------------------


def _check_kill_switch(db: sqlite3.Connection) -> None:
    if _meta(db, "kill_switch") == "on":
        raise KillSwitchOn("all payments of this user are stopped", hint="micropaywall budget show")


def _check_budgets(db: sqlite3.Connection, draft: Draft, budget: Budget | None, now_ms: int) -> None:
    offer = draft.offer
    purchase = Purchase(price=offer.price, host=draft.target.host, payee=offer.pay_to.lower())
    realm = realm_of(offer.price.asset)
    everybodys = tallies.lookup(db, realm=realm, agent=None, now_ms=now_ms)
    user = tallies.read_limits(db)
    if budget is None:
        spend(user, purchase, everybodys)
        return
    spend(budget.limits, purchase, tallies.lookup(db, realm=realm, agent=draft.agent, now_ms=now_ms))
    # The user's own limits hold on top. They need not cover the currency here: the agent's budget does.
    on_top = [limit for limit in user if applies(limit, purchase)]
    if on_top:
        spend(on_top, purchase, everybodys)


def _insert(db: sqlite3.Connection, draft: Draft, now_ms: int) -> bytes:
    offer, target = draft.offer, draft.target
    asset = offer.price.asset
    _remember_asset(db, asset)
    id_ = row_id(now_ms, secrets.token_bytes(10))
    db.execute(
        INSERT,
        {
            "id": id_,
            "agent": draft.agent,
            "call_key": draft.call_key,
            "fingerprint": draft.fingerprint,
            "endpoint": draft.endpoint,
            "origin": f"{target.scheme}://{target.authority}",
            "authority": target.authority,
            "host": target.host,
            "realm": realm_of(asset),
            "scheme": offer.scheme,
            "network": offer.network,
            "asset": asset.id,
            "amount": offer.price.amount_atomic,
            "units": tallies.units(offer.price.amount_atomic, asset.decimals),
            "payer": draft.payer,
            "payee": offer.pay_to,
            "dialect": draft.dialect,
            "created_ms": now_ms,
            "lease_until_ms": now_ms + limits.RESERVATION_LEASE_S * 1000,
        },
    )
    tallies.add(db, id_, counted=1, signed=1)
    return id_


def _release_lapsed(db: sqlite3.Connection, now_ms: int) -> None:
    """Give back what was reserved by processes that died, or for people who never answered, before it was signed."""
    lapsed = db.execute("SELECT id FROM purchase WHERE state = 'reserved' AND lease_until_ms < ?", (now_ms,))
    for (id_,) in lapsed.fetchall():
        db.execute(
            "UPDATE purchase SET state = ?, reason = 'lapsed', concluded_ms = ? WHERE id = ?",
            (after(PurchaseState.RESERVED, PurchaseEvent.DROPPED).value, now_ms, id_),
        )
        tallies.add(db, id_, counted=-1, signed=-1)


def _find_call(db: sqlite3.Connection, agent: str, call_key: str) -> PurchaseRow | None:
    row = db.execute(
        f"{SELECT} WHERE agent = ? AND call_key = ? AND call_key <> ''"
        " AND state IN ('reserved', 'signed', 'sent', 'unknown', 'served') ORDER BY seq DESC LIMIT 1",
        (agent, call_key),
    ).fetchone()
    return None if row is None else read_row(row)


def _row(db: sqlite3.Connection, id_: bytes) -> PurchaseRow:
    row = db.execute(f"{SELECT} WHERE purchase.id = ?", (id_,)).fetchone()
    if row is None:
        raise StoreUnavailable("a payment is not in the spending store any more")
    return read_row(row)


def _remember_asset(db: sqlite3.Connection, asset: Asset) -> None:
    db.execute(
        "INSERT INTO assets (id, symbol, decimals, fiat) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (asset.id, asset.symbol, asset.decimals, asset.fiat),
    )


def _remember_payee(db: sqlite3.Connection, authority: str, network: str, payee: str, now_ms: int) -> None:
    db.execute(
        "INSERT INTO known (authority, network, payee, since_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (authority, network, payee.lower(), now_ms),
    )


def _meta(db: sqlite3.Connection, name: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _set_meta(db: sqlite3.Connection, name: str, value: str) -> None:
    db.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value)
    )
