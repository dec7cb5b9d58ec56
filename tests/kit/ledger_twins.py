"""The reference ledger and the SQLite engine side by side: the same commands, and everything that they then hold."""

from __future__ import annotations

import sqlite3
from typing import Any

from micropaywall.core import book
from micropaywall.errors import LedgerError
from micropaywall.ledger import rules, rules_settlement
from micropaywall.ledger.accounts import ENTRY_KINDS
from micropaywall.ledger.rules_state import State
from micropaywall.ledger.sqlite import files, work
from micropaywall.ledger.sqlite.bulk import Bulk
from micropaywall.ledger.sqlite.rows import Charge, Payment, Refund
from micropaywall.ledger.sqlite.transaction import Transaction
from micropaywall.ledger.sqlite.writer import commit
from micropaywall.ledger.statements import CHARGE_COLUMNS, PAYMENT_COLUMNS, REFUND_COLUMNS


class Twins:
    """Applies to both, compares the answers; ``compare`` compares all that is kept."""

    def __init__(self) -> None:
        self.state = State()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript(files.schema_sql())
        self.connection.execute("PRAGMA foreign_keys = 1")
        self.transaction = Transaction(self.connection, 1)
        self.bulk = Bulk(self.transaction)

    def apply(self, *commands: book.Command) -> list[Any]:
        """All of ``commands`` in one commit of the engine; one after the other in the reference."""
        expected = [self._refer(command) for command in commands]
        actual = commit(self.transaction, self.bulk, list(commands))
        for command, want, got in zip(commands, expected, actual, strict=True):
            same = isinstance(got, LedgerError) if isinstance(want, LedgerError) else got == want
            assert same, f"{command}\nreference: {want}\nengine:    {got}"
        return expected

    def _refer(self, command: book.Command) -> Any:
        try:
            return rules.apply(self.state, command)
        except LedgerError as error:
            return error

    def lease_work(self, **more: Any) -> book.Work:
        want = rules_settlement.lease_work(self.state, **more)
        (got,) = commit(self.transaction, self.bulk, [lambda t: work.lease_work(t, **more)])
        assert got == want, f"lease_work {more}\nreference: {want}\nengine:    {got}"
        return want

    def compare(self) -> None:
        """Every payment, charge, refund, response, exposure and entry is the same in both."""
        payments = [
            Payment(*row) for row in self.connection.execute(f"SELECT {PAYMENT_COLUMNS} FROM payments ORDER BY no")
        ]
        by_no = {p.no: p for p in payments}
        assert [p.row() for p in payments] == [p.row() for p in self.state.payments.values()]
        for mine, theirs in zip(payments, self.state.payments.values(), strict=True):
            assert (mine.captured, mine.owner, mine.due_ms) == (theirs.captured, theirs.owner, theirs.due_ms), mine
            assert (mine.checked_ms is not None) == (mine.state == "settled"), mine
        charges = [Charge(*row) for row in self.connection.execute(f"SELECT {CHARGE_COLUMNS} FROM charges ORDER BY no")]
        assert [c.row(by_no[c.payment_no].id) for c in charges] == [c.row() for c in self.state.charges.values()]
        for charge, known in zip(charges, self.state.charges.values(), strict=True):
            assert self.transaction.response(charge.no) == known.response
        refunds = [Refund(*row) for row in self.connection.execute(f"SELECT {REFUND_COLUMNS} FROM refunds ORDER BY no")]
        assert [(r.row(by_no[r.payment_no]), r.owner, r.due_ms) for r in refunds] == [
            (r.row(self.state.payments[r.payment_id]), r.owner, r.due_ms) for r in self.state.refunds.values()
        ]
        exposures = {
            (payer, asset): rest
            for payer, asset, *rest in self.connection.execute(
                "SELECT payer, asset, unsettled, lost, suspended FROM exposures"
            )
        }
        for key in exposures.keys() | self.state.exposures.keys():
            kept = self.state.exposures.get(key)
            want = [kept.unsettled, kept.lost, kept.suspended] if kept else [0, 0, 0]
            assert exposures.get(key, [0, 0, 0]) == want, key
        entries = [
            (kind, by_no[no].id, amount)
            for kind, no, amount in self.connection.execute("SELECT kind, payment_no, amount FROM journal ORDER BY no")
            if kind in ENTRY_KINDS and amount
        ]
        assert sorted(entries) == sorted((e.kind, e.payment_id, e.amount) for e in self.state.entries)


def check_invariants(state: State) -> None:
    """What must hold in every book, whatever was done to it."""
    for payment in state.payments.values():
        charges = [state.charges[id_] for id_ in payment.charges]
        live = [c for c in charges if c.state.value in ("reserved", "captured")]
        assert payment.drawn == sum(c.amount for c in live)
        assert payment.captured == sum(c.amount for c in live if c.state.value == "captured")
        assert 0 <= payment.captured <= payment.drawn
        assert payment.drawn + payment.refunded <= payment.amount
        if payment.binding:
            assert len(live) <= 1, "a bound payment serves one request"
        moved = payment.state.value in ("settled", "final", "refund_due", "refunded")
        by_kind = {
            kind: sum(e.amount for e in state.entries if e.payment_id == payment.id and e.kind == kind)
            for kind in ENTRY_KINDS
        }
        wallet = by_kind["settled"] - by_kind["reorganised"] - by_kind["refunded"]
        income = by_kind["captured"] - by_kind["returned"]
        credit = by_kind["settled"] + by_kind["returned"] + by_kind["written_off"]
        credit -= by_kind["captured"] + by_kind["reorganised"] + by_kind["refunded"]
        assert wallet == (payment.amount - payment.refunded if moved else 0)
        assert income == payment.captured
        if moved:
            assert credit == payment.amount - payment.captured - payment.refunded >= 0
        elif payment.state.value in ("failed", "void"):
            assert credit == 0
        else:
            assert credit == -payment.captured, "delivered and not settled"
        refunds = [state.refunds[id_] for id_ in payment.refunds]
        assert payment.refunded == sum(r.amount for r in refunds if r.state == "paid")
        assert (payment.state.value == "refund_due") == any(r.state in ("due", "submitted") for r in refunds)
    for (payer, asset), exposure in state.exposures.items():
        mine = [p for p in state.payments.values() if (p.payer, p.asset) == (payer, asset)]
        unsettled = [p for p in mine if p.mode == "deferred" and p.state.value in ("held", "settling")]
        assert exposure.unsettled == sum(p.drawn for p in unsettled)
        lost = sum(e.amount for e in state.entries if e.kind == "written_off" and state.payments[e.payment_id] in mine)
        assert exposure.lost == lost
