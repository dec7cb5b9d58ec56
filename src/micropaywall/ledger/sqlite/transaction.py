"""One write transaction: row numbers, loads, compare-and-set stores and journal lines. Used in the writer thread only."""

from __future__ import annotations

import sqlite3
from typing import Final

from micropaywall.core.model import StoredResponse
from micropaywall.errors import LedgerError
from micropaywall.ids import RowId
from micropaywall.ledger import statements as sql
from micropaywall.ledger.sqlite.replay import Replay, prefix_of
from micropaywall.ledger.sqlite.rows import Charge, Payment, Refund, Sql, pack_headers, response_of

WRITER_SHIFT: Final = 40


class Spoiled(Exception):
    """A command wrote something and then met a contradiction: undo it, alone."""


class Archived(Exception):
    """The replay key belongs to a payment that was archived."""


class Transaction:
    """What the commands see of the database. ``begin`` and ``end`` are called around every commit."""

    def __init__(self, connection: sqlite3.Connection, writer_no: int) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.base = writer_no << WRITER_SHIFT
        self.sequence = 0
        self.replay = Replay(connection)
        self._any_suspended: bool | None = None
        self._started_at = 0
        self._saved = (0, 0)
        self.broken = False

    def begin(self) -> None:
        """Called right after BEGIN: see what others have done since the transaction before."""
        self._any_suspended = None
        self._started_at = self.sequence
        self.replay.begin()

    def rollback(self) -> None:
        """Undo the transaction, in memory as well."""
        self.sequence = self._started_at
        self.replay.rollback()
        if self.connection.in_transaction:
            self.execute("ROLLBACK")

    def save(self) -> None:
        """Begin a part that `undo` can take back alone."""
        self.execute("SAVEPOINT part")
        self._saved = self.sequence, self.replay.mark()

    def release(self) -> None:
        """The part stays."""
        self.execute("RELEASE part")

    def undo(self) -> None:
        """Take the part back, in memory as well."""
        self.execute("ROLLBACK TO part")
        self.execute("RELEASE part")
        self.sequence, mark = self._saved
        self.replay.back_to(mark)
        self._any_suspended = None

    def number(self) -> int:
        """A fresh row number."""
        self.sequence += 1
        return self.base | self.sequence

    def change(self, statement: str, parameters: Sql) -> int:
        """Run a guarded statement; the number of rows that it changed."""
        return self.execute(statement, parameters).rowcount

    def one(self, statement: str, parameters: Sql) -> Sql | None:
        row: Sql | None = self.execute(statement, parameters).fetchone()
        return row

    def journal(
        self,
        at_ms: int,
        kind: str,
        payment_no: int,
        charge_no: int | None = None,
        amount: int = 0,
        *,
        payment_state: str | None = None,
        charge_state: str | None = None,
        detail: str = "",
    ) -> None:
        """Write down what happened; `accounts.ENTRY_KINDS` says which kinds move money."""
        self.execute(
            sql.JOURNAL,
            (self.number(), at_ms, kind, payment_no, charge_no, amount, payment_state, charge_state, detail),
        )

    # -- exposure ----------------------------------------------------------------------------------------------------

    def any_suspended(self) -> bool:
        """Whether anybody is; asked once per transaction."""
        if self._any_suspended is None:
            self._any_suspended = bool(self.execute(sql.ANY_SUSPENDED).fetchone()[0])
        return self._any_suspended

    def suspended(self, payer: str, asset: str) -> bool:
        """Whether the payer may not buy; costs nothing while nobody is suspended."""
        return self.any_suspended() and self.one(sql.SUSPENDED, (payer, asset)) is not None

    def expose(self, payer: str, asset: str, amount: int, cap: int | None) -> bool:
        """Count ``amount`` as delivered and unsettled, when the payer is not suspended and stays within ``cap``."""
        most = sql.NO_CAP if cap is None else cap
        return self.change(sql.EXPOSE, (payer, asset, amount, amount <= most, most)) == 1

    def unexpose(self, payment: Payment, amount: int) -> None:
        """Take back what `expose` counted, when the payment is one that is counted."""
        if amount and payment.mode == "deferred":
            self.change(sql.UNEXPOSE, (amount, payment.payer, payment.asset))

    def lose(self, payment: Payment, amount: int) -> None:
        """Delivered and never paid: remember it and suspend the payer."""
        self.change(sql.LOSE, (payment.payer, payment.asset, amount))
        self._any_suspended = True

    # -- load and store ----------------------------------------------------------------------------------------------

    def payment_of_key(self, key: bytes) -> Payment | None:
        """The payment that was made under a replay key; Archived when it is no longer in this book."""
        archived = False
        for no in self.replay.candidates(prefix_of(key)):
            row = self.one(sql.PAYMENT_BY_NO, (no,))
            if row is None:
                archived = True  # the beginning of its key stays, and that is enough to refuse it
            else:
                payment = Payment(*row)
                if payment.key == key:
                    return payment
        if archived:
            raise Archived
        return None

    def payment(self, payment_id: RowId) -> Payment:
        row = self.one(sql.PAYMENT_BY_ID, (payment_id,))
        if row is None:
            raise LedgerError("there is no such payment", received=payment_id.hex())
        return Payment(*row)

    def payment_no(self, no: int) -> Payment:
        row = self.one(sql.PAYMENT_BY_NO, (no,))
        if row is None:
            raise LedgerError("a row refers to a payment that is not there", received=no)
        return Payment(*row)

    def charge(self, charge_id: RowId) -> Charge:
        row = self.one(sql.CHARGE_BY_ID, (charge_id,))
        if row is None:
            raise LedgerError("there is no such charge", received=charge_id.hex())
        return Charge(*row)

    def refund(self, refund_id: RowId) -> Refund:
        row = self.one(sql.REFUND_BY_ID, (refund_id,))
        if row is None:
            raise LedgerError("there is no such refund", received=refund_id.hex())
        return Refund(*row)

    def live_charges(self, payment: Payment) -> list[Charge]:
        return [Charge(*row) for row in self.execute(sql.LIVE_CHARGES, (payment.no,)).fetchall()]

    def store_payment(self, p: Payment, was: tuple[str, int, int, int]) -> None:
        """Store ``p`` if it still is as it was: ``(state, drawn, captured, refunded)``."""
        p.checked_ms = p.checked_ms if p.state == "settled" else None
        values = (p.state, p.drawn, p.captured, p.refunded, p.settled_ms, p.transaction, p.block, p.reason)
        if self.change(sql.STORE_PAYMENT, (*values, p.attempts, p.owner, p.due_ms, p.checked_ms, p.no, *was)) != 1:
            raise Spoiled(f"payment {p.no} changed under a transaction")

    def store_charge(self, c: Charge, was: tuple[str, int, int]) -> None:
        """Store ``c`` if it still is as it was: ``(state, amount, delivered)``."""
        values = (c.state, c.amount, c.lease_until_ms, c.captured_ms, c.delivered, c.response_status, c.response_bytes)
        if self.change(sql.STORE_CHARGE, (*values, c.latency_ms, c.no, *was)) != 1:
            raise Spoiled(f"charge {c.no} changed under a transaction")

    def store_refund(self, r: Refund, was: str) -> None:
        if self.change(sql.STORE_REFUND, (r.state, r.reason, r.owner, r.due_ms, r.transaction, r.no, was)) != 1:
            raise Spoiled(f"refund {r.no} changed under a transaction")

    # -- responses ---------------------------------------------------------------------------------------------------

    def keep(self, charge_no: int, now_ms: int, response: StoredResponse) -> None:
        self.execute(
            sql.KEEP_RESPONSE, (charge_no, now_ms, response.status, pack_headers(response.headers), response.body)
        )

    def response(self, charge_no: int) -> StoredResponse | None:
        return response_of(self.one(sql.RESPONSE, (charge_no,)))


def standing(payment: Payment) -> tuple[str, int, int, int]:
    """What `Transaction.store_payment` compares."""
    return payment.state, payment.drawn, payment.captured, payment.refunded
