"""The reference ledger's money: settlements, reorganisations, refunds, and what the background has to do.

Money facts win over leases: a success that comes late, from somebody whose lease is over, still counts. A refusal or a
missing verdict counts only from the holder of the lease: another may be submitting at that moment.
"""

from __future__ import annotations

import hashlib

from micropaywall.core import book
from micropaywall.core.lives import ChargeEvent, ChargeState, PaymentEvent, PaymentState, after_charge
from micropaywall.core.model import Rejected, Settled
from micropaywall.errors import LedgerError
from micropaywall.ids import RowId, row_id
from micropaywall.ledger.rules_state import LIVE, UNSETTLED, Charge, Payment, Refund, State

LEFTOVER = "unused credit"
"""Reason of a refund that the book decides by itself, when an authorization is over and credit is left."""


def leftover_refund_id(payment_id: RowId, refunded: int, now_ms: int) -> RowId:
    """The id of the refund of unused credit: the same for everybody who decides it at the same time."""
    return row_id(now_ms, hashlib.sha256(b"micropaywall/refund/" + payment_id + str(refunded).encode()).digest()[:10])


def rest(payment: Payment, now_ms: int) -> None:
    """When the background must look at a settled payment again: when its unused credit may not be drawn any more."""
    if payment.state in (PaymentState.SETTLED, PaymentState.FINAL):
        payment.owner = ""
        payment.due_ms = max(payment.valid_before_ms, now_ms) if payment.free > 0 else None


def release(state: State, payment: Payment, charge: Charge, event: ChargeEvent, now_ms: int) -> None:
    """A reserved charge ends without delivery: the credit is whole again."""
    charge.state = after_charge(charge.state, event)
    charge.lease_until_ms = 0
    payment.drawn -= charge.amount
    if payment.mode == "deferred" and payment.state in UNSETTLED:
        state.exposure(payment).unsettled -= charge.amount
    if payment.state is PaymentState.HELD and not payment.drawn:
        payment.due_ms = payment.valid_before_ms
    rest(payment, now_ms)


def give_back(state: State, payment: Payment, charge: Charge, now_ms: int) -> None:
    """A captured charge is returned: income becomes credit again, and its response is no longer retrievable."""
    charge.state = after_charge(charge.state, ChargeEvent.GIVEN_BACK)
    charge.lease_until_ms = 0
    charge.response = None
    payment.drawn -= charge.amount
    payment.captured -= charge.amount
    if payment.mode == "deferred" and payment.state in UNSETTLED:
        state.exposure(payment).unsettled -= charge.amount
    state.post("returned", payment, charge.amount)
    if payment.state is PaymentState.HELD and not payment.captured:
        payment.due_ms = None if payment.drawn else payment.valid_before_ms
    rest(payment, now_ms)


def reclaim(state: State, payment: Payment, charge: Charge, now_ms: int) -> None:
    """A charge whose lease is over, given back: released, or returned when it was captured and never delivered."""
    if charge.state is ChargeState.RESERVED:
        release(state, payment, charge, ChargeEvent.LEASE_EXPIRED, now_ms)
    else:
        give_back(state, payment, charge, now_ms)


# -- settlement -------------------------------------------------------------------------------------------------------


def begin_settle(state: State, c: book.BeginSettle) -> book.Answer:
    payment = _payment(state, c.payment_id)
    if payment.state is PaymentState.HELD:
        payment.see(PaymentEvent.SUBMITTED)
    elif payment.state is not PaymentState.SETTLING or (payment.leased(c.now_ms) and payment.owner != c.owner):
        return book.Lost(payment.state)
    payment.owner, payment.due_ms = c.owner, c.lease_until_ms
    return book.Applied(payment.id, None, payment.state)


def end_settle(state: State, c: book.EndSettle) -> book.Answer:
    payment = _payment(state, c.payment_id)
    if payment.state is PaymentState.HELD:
        raise LedgerError("a payment that was never submitted has no outcome")
    if isinstance(c.outcome, Settled):
        return _moved(state, payment, c.outcome, c.now_ms)
    if payment.state is not PaymentState.SETTLING or payment.owner != c.owner:
        return book.Lost(payment.state)
    if isinstance(c.outcome, Rejected):
        _fail(state, payment, c.outcome.code, c.now_ms)
    else:
        payment.see(PaymentEvent.UNANSWERED)
        payment.attempts += 1
        payment.transaction = c.outcome.transaction or payment.transaction
        payment.owner, payment.due_ms = "", c.now_ms if c.retry_ms is None else c.retry_ms
    return book.Applied(payment.id, None, payment.state)


def _moved(state: State, payment: Payment, outcome: Settled, now_ms: int) -> book.Answer:
    if outcome.amount_atomic != payment.amount:
        raise LedgerError(
            "the rail moved another amount than the payment's", expected=payment.amount, received=outcome.amount_atomic
        )
    if payment.state in (PaymentState.FAILED, PaymentState.VOID):
        return book.Lost(payment.state)
    if payment.state is PaymentState.SETTLING:
        payment.see(PaymentEvent.MOVED)
        payment.transaction = outcome.transaction or payment.transaction
        payment.block, payment.settled_ms, payment.checked_ms = outcome.block, now_ms, now_ms
        if payment.mode == "deferred":
            state.exposure(payment).unsettled -= payment.drawn
        state.post("settled", payment, payment.amount)
        rest(payment, now_ms)
    if payment.state is PaymentState.SETTLED and outcome.final:
        payment.see(PaymentEvent.DEEP_ENOUGH)
    return book.Applied(payment.id, None, payment.state)


def _fail(state: State, payment: Payment, reason: str, now_ms: int) -> None:
    """The value will never move. What was served is lost and the payer suspended; what was not served is given back."""
    served = payment.mode == "deferred" or payment.settled_ms is not None
    for charge_id in payment.charges:
        charge = state.charges[charge_id]
        if charge.state is ChargeState.RESERVED:
            release(state, payment, charge, ChargeEvent.HANDLER_FAILED, now_ms)
        elif charge.state is ChargeState.CAPTURED and not served and not charge.delivered:
            give_back(state, payment, charge, now_ms)
        else:
            charge.lease_until_ms = 0  # a stream that is still leaving counts as served
    if payment.mode == "deferred":
        state.exposure(payment).unsettled -= payment.drawn
    if payment.captured:
        exposure = state.exposure(payment)
        exposure.lost += payment.captured
        exposure.suspended = True
        state.post("written_off", payment, payment.captured)
    payment.see(PaymentEvent.NEVER)
    payment.reason, payment.owner, payment.due_ms = reason, "", None


def reorganise(state: State, c: book.Reorganise) -> book.Answer:
    payment = _payment(state, c.payment_id)
    if payment.state is PaymentState.SETTLED:
        payment.see(PaymentEvent.REORGANISED)
        payment.owner, payment.due_ms = "", c.now_ms
        if payment.mode == "deferred":
            state.exposure(payment).unsettled += payment.drawn
        state.post("reorganised", payment, payment.amount)
    elif payment.state is not PaymentState.SETTLING or payment.settled_ms is None:
        return book.Lost(payment.state)
    return book.Applied(payment.id, None, payment.state)


# -- refunds ----------------------------------------------------------------------------------------------------------


def begin_refund(state: State, c: book.BeginRefund) -> book.Answer:
    payment = _payment(state, c.payment_id)
    known = state.refunds.get(c.refund_id)
    if known is not None:
        if known.payment_id != c.payment_id:
            return book.Foreign("payment_id")
        return book.Applied(payment.id, None, payment.state) if known.amount == c.amount else book.Foreign("amount")
    if payment.state not in (PaymentState.SETTLED, PaymentState.FINAL):
        return book.Lost(payment.state)
    reserved = payment.drawn - payment.captured
    if not 0 < c.amount <= payment.amount - payment.refunded - reserved:
        return book.Denied("refund")
    _decide(state, payment, c)
    return book.Applied(payment.id, None, payment.state)


def _decide(state: State, payment: Payment, c: book.BeginRefund) -> Refund:
    payment.see(PaymentEvent.REFUND_DECIDED)
    payment.owner, payment.due_ms = "", None
    mine = c.lease_until_ms > c.now_ms
    refund = Refund(
        id=c.refund_id,
        payment_id=payment.id,
        amount=c.amount,
        state="submitted" if mine else "due",
        reason=c.reason,
        created_ms=c.now_ms,
        owner=c.owner if mine else "",
        due_ms=c.lease_until_ms if mine else c.now_ms,
    )
    state.refunds[refund.id] = refund
    payment.refunds.append(refund.id)
    return refund


def end_refund(state: State, c: book.EndRefund) -> book.Answer:
    refund, payment = _refund(state, c.refund_id)
    if isinstance(c.outcome, Settled):
        if refund.state == "cancelled":
            return book.Lost(payment.state)
        if c.outcome.amount_atomic != refund.amount:
            raise LedgerError(
                "the rail moved another amount than the refund's",
                expected=refund.amount,
                received=c.outcome.amount_atomic,
            )
        if refund.state != "paid":
            refund.state, refund.transaction, refund.owner, refund.due_ms = "paid", c.outcome.transaction, "", None
            _paid_back(state, payment, refund.amount, c.now_ms)
        return book.Applied(payment.id, None, payment.state)
    if refund.state != "submitted" or refund.owner != c.owner:
        return book.Lost(payment.state)
    refund.owner = ""
    if isinstance(c.outcome, Rejected):
        refund.state, refund.due_ms = "due", c.retry_ms
        if c.retry_ms is None:
            _cancel(payment, refund)
    else:
        refund.due_ms = c.now_ms if c.retry_ms is None else c.retry_ms
    return book.Applied(payment.id, None, payment.state)


def _paid_back(state: State, payment: Payment, amount: int, now_ms: int) -> None:
    """The payer has ``amount`` again. Credit goes first; then income is given back, from the newest charge on."""
    missing = amount - payment.free
    for charge_id in reversed(payment.charges):
        charge = state.charges[charge_id]
        if missing > 0 and charge.state is ChargeState.CAPTURED and charge.amount:
            part = min(charge.amount, missing)
            missing -= part
            if part == charge.amount:
                give_back(state, payment, charge, now_ms)
            else:
                charge.amount -= part
                payment.drawn -= part
                payment.captured -= part
                state.post("returned", payment, part)
    payment.refunded += amount
    state.post("refunded", payment, amount)
    payment.see(PaymentEvent.REFUND_PAID if payment.refunded == payment.amount else PaymentEvent.REFUND_PART_PAID)
    payment.due_ms = None
    rest(payment, now_ms)


def cancel_refund(state: State, c: book.CancelRefund) -> book.Answer:
    refund, payment = _refund(state, c.refund_id)
    if refund.state == "due":
        refund.reason = c.reason or refund.reason
        _cancel(payment, refund)
    elif refund.state != "cancelled":
        return book.Lost(payment.state)
    return book.Applied(payment.id, None, payment.state)


def _cancel(payment: Payment, refund: Refund) -> None:
    refund.state, refund.due_ms, refund.owner = "cancelled", None, ""
    payment.see(PaymentEvent.REFUND_CANCELLED)


# -- background work --------------------------------------------------------------------------------------------------


def lease_work(state: State, *, owner: str, now_ms: int, lease_until_ms: int, limit: int) -> book.Work:
    """Give dead charges back, void what expired unused, decide refunds of unused credit, lease what is due."""
    dead = [c for c in state.charges.values() if c.state in LIVE and 0 < c.lease_until_ms <= now_ms]
    for charge in sorted(dead, key=lambda c: c.lease_until_ms)[:limit]:
        reclaim(state, state.payments[charge.payment_id], charge, now_ms)
    settle: list[book.PaymentRow] = []
    ask: list[book.PaymentRow] = []
    due = [p for p in state.payments.values() if p.due_ms is not None and p.due_ms <= now_ms]
    for payment in sorted(due, key=lambda p: p.due_ms or 0)[:limit]:
        if payment.state is PaymentState.SETTLING or (payment.state is PaymentState.HELD and payment.captured):
            into = ask if payment.state is PaymentState.SETTLING else settle
            if payment.state is PaymentState.HELD:
                payment.see(PaymentEvent.SUBMITTED)
            payment.owner, payment.due_ms = owner, lease_until_ms
            into.append(payment.row())
        elif payment.state is PaymentState.HELD:
            payment.see(PaymentEvent.EXPIRED)
            payment.due_ms, payment.reason = None, "expired unused"
        else:
            payment.due_ms = None
            if payment.drawn == payment.captured and payment.free > 0:
                _decide(state, payment, _leftover(payment, now_ms))
    refunds: list[book.RefundRow] = []
    owed = [r for r in state.refunds.values() if r.due_ms is not None and r.due_ms <= now_ms]
    for refund in sorted(owed, key=lambda r: r.due_ms or 0)[:limit]:
        refund.state, refund.owner, refund.due_ms = "submitted", owner, lease_until_ms
        refunds.append(refund.row(state.payments[refund.payment_id]))
    return book.Work(settle=settle, ask=ask, refunds=refunds)


def _leftover(payment: Payment, now_ms: int) -> book.BeginRefund:
    return book.BeginRefund(
        refund_id=leftover_refund_id(payment.id, payment.refunded, now_ms),
        payment_id=payment.id,
        amount=payment.free,
        reason=LEFTOVER,
        owner="",
        now_ms=now_ms,
        lease_until_ms=now_ms,
    )


def _payment(state: State, payment_id: RowId) -> Payment:
    payment = state.payments.get(payment_id)
    if payment is None:
        raise LedgerError("there is no such payment", received=payment_id.hex())
    return payment


def _refund(state: State, refund_id: RowId) -> tuple[Refund, Payment]:
    refund = state.refunds.get(refund_id)
    if refund is None:
        raise LedgerError("there is no such refund", received=refund_id.hex())
    return refund, state.payments[refund.payment_id]
