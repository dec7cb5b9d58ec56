"""Settlements, reorganisations and refunds in SQL. What each means is written in `ledger.rules_settlement`."""

from __future__ import annotations

from micropaywall.core import book
from micropaywall.core.lives import ChargeEvent, PaymentEvent, PaymentState, after_payment
from micropaywall.core.model import Rejected, Settled
from micropaywall.errors import LedgerError
from micropaywall.ledger import statements as sql
from micropaywall.ledger.sqlite.endings import give_back, release
from micropaywall.ledger.sqlite.rows import Charge, Payment, Refund
from micropaywall.ledger.sqlite.transaction import Transaction, standing


def step(p: Payment, event: PaymentEvent) -> str:
    """Take the step of the table and return the new state; LookupError when there is none."""
    p.state = after_payment(PaymentState(p.state), event).value
    return p.state


def _applied(p: Payment) -> book.Applied:
    return book.Applied(p.id, None, PaymentState(p.state))


def _lost(p: Payment) -> book.Lost:
    return book.Lost(PaymentState(p.state))


# -- settlement -------------------------------------------------------------------------------------------------------


def begin_settle(t: Transaction, c: book.BeginSettle) -> book.Answer:
    p = t.payment(c.payment_id)
    was = standing(p)
    submitted = p.state == "held"
    if submitted:
        step(p, PaymentEvent.SUBMITTED)
    elif p.state != "settling" or (p.leased(c.now_ms) and p.owner != c.owner):
        return _lost(p)
    p.owner, p.due_ms = c.owner, c.lease_until_ms
    t.store_payment(p, was)
    if submitted:
        t.journal(c.now_ms, "submitted", p.no, payment_state=p.state)
    return _applied(p)


def end_settle(t: Transaction, c: book.EndSettle) -> book.Answer:
    p = t.payment(c.payment_id)
    if p.state == "held":
        raise LedgerError("a payment that was never submitted has no outcome")
    if isinstance(c.outcome, Settled):
        return _moved(t, p, c.outcome, c.now_ms)
    if p.state != "settling" or p.owner != c.owner:
        return _lost(p)
    if isinstance(c.outcome, Rejected):
        _fail(t, p, c.outcome.code, c.now_ms)
        return _applied(p)
    was = standing(p)
    step(p, PaymentEvent.UNANSWERED)
    p.attempts += 1
    p.transaction = c.outcome.transaction or p.transaction
    p.owner, p.due_ms = "", c.now_ms if c.retry_ms is None else c.retry_ms
    t.store_payment(p, was)
    return _applied(p)


def _moved(t: Transaction, p: Payment, outcome: Settled, now_ms: int) -> book.Answer:
    if outcome.amount_atomic != p.amount:
        raise LedgerError(
            "the rail moved another amount than the payment's", expected=p.amount, received=outcome.amount_atomic
        )
    if p.state in ("failed", "void"):
        return _lost(p)
    was = standing(p)
    moved = p.state == "settling"
    if moved:
        step(p, PaymentEvent.MOVED)
        p.transaction = outcome.transaction or p.transaction
        p.block, p.settled_ms, p.checked_ms = outcome.block, now_ms, now_ms
        t.unexpose(p, p.drawn)
        p.rest(now_ms)
    final = p.state == "settled" and outcome.final
    if final:
        step(p, PaymentEvent.DEEP_ENOUGH)
    if moved or final:
        t.store_payment(p, was)
    if moved:
        detail = p.transaction if p.block is None else f"{p.transaction} {p.block}"
        t.journal(now_ms, "settled", p.no, None, p.amount, payment_state="settled", detail=detail)
    if final:
        t.journal(now_ms, "final", p.no, payment_state="final")
    return _applied(p)


def _fail(t: Transaction, p: Payment, reason: str, now_ms: int) -> None:
    """The value will never move. What was served is lost and the payer suspended; what was not served is given back."""
    served = p.mode == "deferred" or p.settled_ms is not None
    for charge in t.live_charges(p):
        if charge.state == "reserved":
            release(t, p, charge, ChargeEvent.HANDLER_FAILED, now_ms, detail="payment rejected")
        elif not served and not charge.delivered:
            give_back(t, p, charge, now_ms, detail="payment rejected")
        elif charge.lease_until_ms is not None:
            charge.lease_until_ms = None  # a stream that is still leaving counts as served
            t.store_charge(charge, ("captured", charge.amount, charge.delivered))
    was = standing(p)
    t.unexpose(p, p.drawn)
    step(p, PaymentEvent.NEVER)
    p.reason, p.owner, p.due_ms = reason, "", None
    t.store_payment(p, was)
    t.journal(now_ms, "failed", p.no, payment_state=p.state, detail=reason)
    if p.captured:
        t.lose(p, p.captured)
        t.journal(now_ms, "written_off", p.no, None, p.captured)


def reorganise(t: Transaction, c: book.Reorganise) -> book.Answer:
    p = t.payment(c.payment_id)
    if p.state == "settled":
        was = standing(p)
        step(p, PaymentEvent.REORGANISED)
        p.owner, p.due_ms = "", c.now_ms
        t.store_payment(p, was)
        if p.mode == "deferred" and p.drawn:
            t.change(sql.EXPOSE_AGAIN, (p.payer, p.asset, p.drawn))
        t.journal(c.now_ms, "reorganised", p.no, None, p.amount, payment_state=p.state)
    elif p.state != "settling" or p.settled_ms is None:
        return _lost(p)
    return _applied(p)


# -- refunds ----------------------------------------------------------------------------------------------------------


def begin_refund(t: Transaction, c: book.BeginRefund) -> book.Answer:
    p = t.payment(c.payment_id)
    known = t.one(sql.REFUND_BY_ID, (c.refund_id,))
    if known is not None:
        refund = Refund(*known)
        if refund.payment_no != p.no:
            return book.Foreign("payment_id")
        return _applied(p) if refund.amount == c.amount else book.Foreign("amount")
    if p.state not in ("settled", "final"):
        return _lost(p)
    reserved = p.drawn - p.captured
    if not 0 < c.amount <= p.amount - p.refunded - reserved:
        return book.Denied("refund")
    decide_refund(t, p, c)
    return _applied(p)


def decide_refund(t: Transaction, p: Payment, c: book.BeginRefund) -> None:
    """Write the refund down; from now on nothing is drawn from the payment."""
    was = standing(p)
    step(p, PaymentEvent.REFUND_DECIDED)
    p.owner, p.due_ms = "", None
    t.store_payment(p, was)
    mine = c.lease_until_ms > c.now_ms
    state, owner, due_ms = ("submitted", c.owner, c.lease_until_ms) if mine else ("due", "", c.now_ms)
    facts = (t.number(), c.refund_id, p.no, c.amount, state, c.reason, c.now_ms, owner, due_ms)
    t.execute(sql.INSERT_REFUND, facts)
    t.journal(c.now_ms, "refund_due", p.no, None, c.amount, payment_state=p.state, detail=c.refund_id.hex())


def end_refund(t: Transaction, c: book.EndRefund) -> book.Answer:
    refund = t.refund(c.refund_id)
    p = t.payment_no(refund.payment_no)
    was = refund.state
    if isinstance(c.outcome, Settled):
        if was == "cancelled":
            return _lost(p)
        if c.outcome.amount_atomic != refund.amount:
            raise LedgerError(
                "the rail moved another amount than the refund's",
                expected=refund.amount,
                received=c.outcome.amount_atomic,
            )
        if was != "paid":
            refund.state, refund.transaction, refund.owner, refund.due_ms = "paid", c.outcome.transaction, "", None
            t.store_refund(refund, was)
            _paid_back(t, p, refund, c.now_ms)
        return _applied(p)
    if was != "submitted" or refund.owner != c.owner:
        return _lost(p)
    refund.owner = ""
    if isinstance(c.outcome, Rejected):
        refund.state, refund.due_ms = "due", c.retry_ms
        if c.retry_ms is None:
            _cancel(t, p, refund, was, c.now_ms)
            return _applied(p)
    else:
        refund.due_ms = c.now_ms if c.retry_ms is None else c.retry_ms
    t.store_refund(refund, was)
    return _applied(p)


def _paid_back(t: Transaction, p: Payment, refund: Refund, now_ms: int) -> None:
    """The payer has the amount again. Credit goes first; then income is given back, from the newest charge on."""
    missing = refund.amount - p.free
    if missing > 0:
        for charge in reversed(t.live_charges(p)):
            if missing > 0 and charge.state == "captured" and charge.amount:
                part = min(charge.amount, missing)
                missing -= part
                if part == charge.amount:
                    give_back(t, p, charge, now_ms, detail="refunded")
                else:
                    _give_back_part(t, p, charge, part, now_ms)
    was = standing(p)
    p.refunded += refund.amount
    step(p, PaymentEvent.REFUND_PAID if p.refunded == p.amount else PaymentEvent.REFUND_PART_PAID)
    p.due_ms = None
    p.rest(now_ms)
    t.store_payment(p, was)
    detail = f"{refund.id.hex()} {refund.transaction}"
    t.journal(now_ms, "refunded", p.no, None, refund.amount, payment_state=p.state, detail=detail)


def _give_back_part(t: Transaction, p: Payment, charge: Charge, part: int, now_ms: int) -> None:
    was = standing(p)
    before = charge.amount
    charge.amount -= part
    t.store_charge(charge, ("captured", before, charge.delivered))
    p.drawn -= part
    p.captured -= part
    t.store_payment(p, was)
    t.journal(now_ms, "returned", p.no, charge.no, part, detail="refunded in part")


def cancel_refund(t: Transaction, c: book.CancelRefund) -> book.Answer:
    refund = t.refund(c.refund_id)
    p = t.payment_no(refund.payment_no)
    if refund.state == "due":
        refund.reason = c.reason or refund.reason
        _cancel(t, p, refund, "due", c.now_ms)
    elif refund.state != "cancelled":
        return _lost(p)
    return _applied(p)


def _cancel(t: Transaction, p: Payment, refund: Refund, refund_was: str, now_ms: int) -> None:
    refund.state, refund.due_ms, refund.owner = "cancelled", None, ""
    t.store_refund(refund, refund_was)
    was = standing(p)
    step(p, PaymentEvent.REFUND_CANCELLED)
    t.store_payment(p, was)
    t.journal(now_ms, "refund_cancelled", p.no, payment_state=p.state, detail=refund.id.hex())
