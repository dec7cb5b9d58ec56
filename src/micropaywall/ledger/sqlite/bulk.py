"""The paid request's own path: many reserves, captures and settlements of one commit, written with one statement each.

A command is taken here when it is what it nearly always is: a new payment, the capture of a charge that this process has
reserved, the success of a settlement that it began. Everything else is left to `charges` and `settlement`. Rows are
collected and written by `flush`; each statement is guarded, and when one of them did not change what it should have,
`Spoiled` undoes the whole transaction, which is then carried out command by command, without this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from micropaywall import limits
from micropaywall.core import book
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import Settled
from micropaywall.ids import RowId
from micropaywall.ledger import statements as sql
from micropaywall.ledger.sqlite.replay import prefix_of
from micropaywall.ledger.sqlite.rows import Sql, pack_headers
from micropaywall.ledger.sqlite.transaction import Spoiled, Transaction

_HELD: Final = PaymentState.HELD
_SETTLING: Final = PaymentState.SETTLING
_ORDER: Final = (
    # A charge refers to its payment, an entry to both.
    sql.INSERT_PAYMENT,
    sql.ADD_TO_TAIL,
    sql.INSERT_CHARGE,
    sql.QUICK_CAPTURE,
    sql.CAPTURE_AND_SUBMIT,
    sql.CAPTURE_AND_OWE,
    sql.CAPTURE_FROM_SETTLED,
    sql.QUICK_SETTLED,
    sql.JOURNAL,
    sql.KEEP_RESPONSE,
)


@dataclass(slots=True)
class _Known:
    """A payment that this process has reserved, with its only charge, as it was when last heard of.

    What another process did meanwhile is not in it: it only chooses the statement, whose guard decides.
    """

    payment_no: int
    charge_no: int
    payment_id: RowId
    owner: str
    amount: int
    state: str
    whole: bool


class Bulk:
    """Rows of one transaction, and the memory of recent reservations that makes them possible."""

    def __init__(self, t: Transaction) -> None:
        self._t = t
        self._rows: dict[str, list[Sql]] = {statement: [] for statement in _ORDER}
        self._payments, self._tail, self._charges = (
            self._rows[statement] for statement in (sql.INSERT_PAYMENT, sql.ADD_TO_TAIL, sql.INSERT_CHARGE)
        )
        self._captures, self._journal, self._responses = (
            self._rows[statement] for statement in (sql.QUICK_CAPTURE, sql.JOURNAL, sql.KEEP_RESPONSE)
        )
        self._by_charge: dict[RowId, _Known] = {}
        self._by_payment: dict[RowId, _Known] = {}

    def take(self, work: Any) -> book.Answer | None:
        """The answer to a command that is taken; None for one that is not."""
        kind = work.__class__
        if kind is book.Reserve:
            return self._reserve(work)
        if kind is book.Capture:
            return self._capture(work)
        if kind is book.EndSettle:
            return self._end_settle(work)
        return None

    def flush(self) -> None:
        """Write what was collected. Spoiled when a guard refused a row of it."""
        execute = self._t.connection.executemany
        for statement, rows in self._rows.items():
            if rows:
                if execute(statement, rows).rowcount != len(rows):
                    raise Spoiled("a row was not as it was remembered")
                rows.clear()

    def forget(self) -> None:
        """The transaction did not happen: nothing that is remembered can be relied on."""
        for rows in self._rows.values():
            rows.clear()
        self._by_charge.clear()
        self._by_payment.clear()

    # -- commands ----------------------------------------------------------------------------------------------------

    def _reserve(self, c: book.Reserve) -> book.Answer | None:
        t = self._t
        prefix = prefix_of(c.key)
        if t.replay.candidates(prefix) or not 0 <= c.charge_amount <= c.amount:
            return None
        if t.any_suspended() and t.suspended(c.payer, c.asset):
            return None
        if c.mode == "deferred" and not t.expose(c.payer, c.asset, c.charge_amount, c.exposure_cap):
            return book.Denied("exposure")
        no = t.base | (t.sequence + 1)
        charge_no = no + 1
        t.sequence += 2
        payment_id, charge_id, now_ms, owner = c.payment_id, c.charge_id, c.now_ms, c.owner
        if c.begin_settle:
            state, answer_state, holder, due_ms = "settling", _SETTLING, owner, c.settle_lease_ms
            t.sequence += 1
            self._journal.append((no + 2, now_ms, "submitted", no, None, 0, "settling", None, ""))
        else:
            state, answer_state, holder, due_ms = "held", _HELD, "", None
        self._payments.append(
            (
                no,
                payment_id,
                c.key,
                state,
                c.rail,
                c.network,
                c.asset,
                c.payer,
                c.payee,
                c.amount,
                c.charge_amount,
                c.mode,
                c.dialect,
                c.binding,
                c.instruction,
                c.valid_before_ms,
                now_ms,
                holder,
                due_ms,
            )
        )
        self._tail.append(t.replay.add(prefix, no))
        self._charges.append(
            (
                charge_no,
                charge_id,
                no,
                c.fingerprint,
                c.charge_amount,
                c.charge_amount,
                c.endpoint,
                c.url,
                now_ms,
                c.lease_until_ms,
                owner,
                c.idempotency_key,
                c.agent,
            )
        )
        known = _Known(no, charge_no, payment_id, owner, c.charge_amount, state, c.charge_amount == c.amount)
        self._by_charge[charge_id] = known
        if known.whole and c.mode != "deferred":
            self._by_payment[payment_id] = known
        if len(self._by_charge) > limits.BOOK_RECENT_MAX:
            del self._by_charge[next(iter(self._by_charge))]
        if len(self._by_payment) > limits.BOOK_RECENT_MAX:
            del self._by_payment[next(iter(self._by_payment))]
        return book.Applied(payment_id, charge_id, answer_state)

    def _capture(self, c: book.Capture) -> book.Answer | None:
        known = self._by_charge.pop(c.charge_id, None)
        response, amount, payment_id = c.response, c.amount, c.payment_id
        if known is None or response is None or known.amount != amount or known.payment_id != payment_id:
            return None
        state, now_ms, no = known.state, c.now_ms, known.payment_no
        submitted = None
        if state == "held":
            if c.begin_settle:
                known.state = submitted = "settling"
                row: Sql = (amount, c.owner, c.settle_lease_ms, no, payment_id)
                self._rows[sql.CAPTURE_AND_SUBMIT].append(row)
            elif amount:
                due_ms = now_ms if c.settle_due_ms is None else c.settle_due_ms
                self._rows[sql.CAPTURE_AND_OWE].append((amount, due_ms, due_ms, no, payment_id))
            else:
                return None
        elif state != "settling" and known.whole:
            self._rows[sql.CAPTURE_FROM_SETTLED].append((amount, no, payment_id))
        else:
            return None
        t = self._t
        charge_no, size = known.charge_no, len(response.body)
        self._captures.append((now_ms, c.latency_ms, response.status, size, charge_no, c.charge_id, c.owner, amount))
        t.sequence += 1
        detail = f"{response.status} {size} {c.latency_ms}"
        self._journal.append(
            (t.base | t.sequence, now_ms, "captured", no, charge_no, amount, submitted, "captured", detail)
        )
        self._responses.append((charge_no, now_ms, response.status, pack_headers(response.headers), response.body))
        return book.Applied(payment_id, c.charge_id, PaymentState(known.state))

    def _end_settle(self, c: book.EndSettle) -> book.Answer | None:
        known = self._by_payment.get(c.payment_id)
        outcome = c.outcome
        if known is None or known.state != "settling" or outcome.__class__ is not Settled:
            return None
        if outcome.amount_atomic != known.amount:
            return None
        t = self._t
        now_ms, no, transaction, block = c.now_ms, known.payment_no, outcome.transaction, outcome.block
        final = outcome.final
        known.state = state = "final" if final else "settled"
        self._rows[sql.QUICK_SETTLED].append(
            (state, transaction, transaction, block, now_ms, None if final else now_ms, no, c.payment_id, known.amount)
        )
        detail = transaction if block is None else f"{transaction} {block}"
        t.sequence += 1
        self._journal.append((t.base | t.sequence, now_ms, "settled", no, None, known.amount, "settled", None, detail))
        if final:
            t.sequence += 1
            self._journal.append((t.base | t.sequence, now_ms, "final", no, None, 0, "final", None, ""))
        return book.Applied(c.payment_id, None, PaymentState(state))
