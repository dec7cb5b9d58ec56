"""Reserve, Capture, Release, Delivered, Extend in SQL. What each means is written in `ledger.rules`.

The two that every paid request needs have a fast path of guarded statements; whatever does not fit it is loaded, decided
and stored back by compare-and-set. A refusal writes nothing.
"""

from __future__ import annotations

from typing import Final

from micropaywall import limits
from micropaywall.core import book
from micropaywall.core.lives import ChargeEvent, ChargeState, PaymentEvent, PaymentState, after_payment
from micropaywall.errors import LedgerError
from micropaywall.ledger import statements as sql
from micropaywall.ledger.sqlite.endings import reclaim, release
from micropaywall.ledger.sqlite.replay import prefix_of
from micropaywall.ledger.sqlite.rows import Charge, Payment
from micropaywall.ledger.sqlite.transaction import Archived, Spoiled, Transaction, standing

SAME_FIELDS: Final = ("rail", "network", "asset", "payer", "payee", "amount", "instruction", "binding")
_BUSY_MS: Final = limits.RETRY_AFTER_S * 1000
_STREAM_LEASE_MS: Final = limits.CHARGE_LEASE_S * 1000
_HELD, _SETTLING = PaymentState.HELD, PaymentState.SETTLING


# -- reserve ----------------------------------------------------------------------------------------------------------


def reserve(t: Transaction, c: book.Reserve) -> book.Answer:
    if not 0 <= c.charge_amount <= c.amount:
        raise LedgerError("a charge is never more than its payment", expected=c.amount, received=c.charge_amount)
    try:
        known = t.payment_of_key(c.key)
    except Archived:
        return book.Spent(PaymentState.FINAL, "archived")
    if known is not None:
        return _known(t, c, known)
    if t.suspended(c.payer, c.asset):
        return book.Denied("suspended")
    if c.mode == "deferred" and not t.expose(c.payer, c.asset, c.charge_amount, c.exposure_cap):
        return book.Denied("exposure")
    no = t.number()
    state, owner, due_ms = ("settling", c.owner, c.settle_lease_ms) if c.begin_settle else ("held", "", None)
    facts = (no, c.payment_id, c.key, state, c.rail, c.network, c.asset, c.payer, c.payee, c.amount, c.charge_amount)
    more = (c.mode, c.dialect, c.binding, c.instruction, c.valid_before_ms, c.now_ms, owner, due_ms)
    t.execute(sql.INSERT_PAYMENT, facts + more)
    t.execute(sql.ADD_TO_TAIL, t.replay.add(prefix_of(c.key), no))
    _insert_charge(t, c, no)
    if c.begin_settle:
        t.journal(c.now_ms, "submitted", no, payment_state="settling")
        return book.Applied(c.payment_id, c.charge_id, _SETTLING)
    return book.Applied(c.payment_id, c.charge_id, _HELD)


def _insert_charge(t: Transaction, c: book.Reserve, payment_no: int) -> None:
    facts = (t.number(), c.charge_id, payment_no, c.fingerprint, c.charge_amount, c.charge_amount, c.endpoint, c.url)
    t.execute(sql.INSERT_CHARGE, (*facts, c.now_ms, c.lease_until_ms, c.owner, c.idempotency_key, c.agent))


def _known(t: Transaction, c: book.Reserve, p: Payment) -> book.Answer:
    """A replay key that was presented before: an honest retry, or an attack."""
    row = t.one(sql.CHARGE_BY_ID, (c.charge_id,))
    if row is not None:
        mine = Charge(*row)
        if (mine.payment_no, mine.state, mine.owner) == (p.no, "reserved", c.owner):
            return book.Applied(p.id, mine.id, PaymentState(p.state))
    for name in SAME_FIELDS:
        if getattr(p, name) != getattr(c, name):
            return book.Foreign(name)
    if p.state in ("failed", "void", "refunded"):
        return book.Spent(PaymentState(p.state), p.reason)
    if p.binding:
        row = t.one(sql.NEWEST_CHARGE, (p.no,))
    else:
        row = t.one(sql.CHARGE_BY_IDEMPOTENCY, (p.no, c.idempotency_key))
    if row is not None:
        charge = Charge(*row)
        if charge.live and charge.lease_until_ms is not None and charge.lease_until_ms <= c.now_ms:
            reclaim(t, p, charge, c.now_ms)
        if charge.live:
            if charge.fingerprint == c.fingerprint:
                return _again(t, p, charge, c.now_ms)
            return book.Foreign("fingerprint") if p.binding else book.Denied("idempotency")
    return _draw(t, c, p)


def _again(t: Transaction, p: Payment, charge: Charge, now_ms: int) -> book.Answer:
    """The same request with the same credential as ``charge``, which is live."""
    if charge.lease_until_ms is not None:
        return book.Busy(p.id, min(charge.lease_until_ms - now_ms, _BUSY_MS))
    if p.mode == "deferred" or not p.unsettled:
        return book.Replayed(p.row(), charge.row(p.id), t.response(charge.no))
    if p.leased(now_ms):
        return book.Busy(p.id, min((p.due_ms or now_ms) - now_ms, _BUSY_MS))
    return book.Open(p.row(), charge.row(p.id))


def _draw(t: Transaction, c: book.Reserve, p: Payment) -> book.Answer:
    """A new charge from the credit of a payment that is known."""
    if p.leased(c.now_ms):
        return book.Busy(p.id, min((p.due_ms or c.now_ms) - c.now_ms, _BUSY_MS))
    if p.state not in ("held", "settling", "settled", "final"):
        return book.Spent(PaymentState(p.state), p.reason)
    if p.free < c.charge_amount:
        return book.Spent(PaymentState(p.state), "used up")
    if p.unsettled and p.mode != c.mode:
        return book.Foreign("mode")
    was = standing(p)
    if p.unsettled:
        if t.suspended(p.payer, p.asset):
            return book.Denied("suspended")
        if p.mode == "deferred" and not t.expose(p.payer, p.asset, c.charge_amount, c.exposure_cap):
            return book.Denied("exposure")
    p.drawn += c.charge_amount
    submitted = p.state == "held" and c.begin_settle
    if submitted:
        p.state = after_payment(_HELD, PaymentEvent.SUBMITTED).value
    if p.state == "settling":
        p.owner, p.due_ms = c.owner, c.settle_lease_ms
    elif p.state == "held" and not p.captured:
        p.due_ms = None
    t.store_payment(p, was)
    _insert_charge(t, c, p.no)
    if submitted:
        t.journal(c.now_ms, "submitted", p.no, payment_state=p.state)
    return book.Applied(p.id, c.charge_id, PaymentState(p.state))


# -- capture ----------------------------------------------------------------------------------------------------------


def capture(t: Transaction, c: book.Capture) -> book.Answer:
    response = c.response
    status, size = (None, None) if response is None else (response.status, len(response.body))
    lease_ms = c.now_ms + _STREAM_LEASE_MS
    done = t.one(
        sql.CAPTURE_CHARGE,
        (
            c.amount,
            c.now_ms,
            c.latency_ms,
            status,
            size,
            response is not None,
            lease_ms,
            lease_ms,
            c.charge_id,
            c.owner,
            c.amount,
        ),
    )
    if done is None:
        return _not_captured(t, c)
    no, payment_no, reserved = done
    held_back = reserved - c.amount
    submitted: str | None = None
    if (
        c.begin_settle
        and not held_back
        and t.change(sql.CAPTURE_AND_SUBMIT, (c.amount, c.owner, c.settle_lease_ms, payment_no, c.payment_id))
    ):
        submitted, state = "settling", _SETTLING
    else:
        submitted, state = _captured_otherwise(t, c, payment_no, held_back)
    detail = f"{status} {size} {c.latency_ms}"
    t.journal(
        c.now_ms, "captured", payment_no, no, c.amount, payment_state=submitted, charge_state="captured", detail=detail
    )
    if response is not None:
        t.keep(no, c.now_ms, response)
    return book.Applied(c.payment_id, c.charge_id, state)


def _not_captured(t: Transaction, c: book.Capture) -> book.Answer:
    charge = t.charge(c.charge_id)
    p = t.payment_no(charge.payment_no)
    if p.id != c.payment_id:
        raise LedgerError("the charge was drawn from another payment")
    if charge.state == "captured" and charge.owner == c.owner and charge.amount == c.amount:
        return book.Applied(p.id, charge.id, PaymentState(p.state))
    if charge.state != "reserved" or charge.owner != c.owner:
        return book.Lost(ChargeState(charge.state))
    raise LedgerError("a capture is never more than what was reserved", expected=charge.amount, received=c.amount)


def _captured_otherwise(
    t: Transaction, c: book.Capture, payment_no: int, held_back: int
) -> tuple[str | None, PaymentState]:
    """Capture from a payment that is settled or to be settled later, or of less than was reserved; the new states."""
    p = t.payment_no(payment_no)
    if p.id != c.payment_id:
        raise Spoiled("the charge was drawn from another payment")
    was = standing(p)
    first = not p.captured
    p.drawn -= held_back
    p.captured += c.amount
    if p.unsettled:
        t.unexpose(p, held_back)
    submitted: str | None = None
    if p.state == "held":
        if c.begin_settle:
            submitted = p.state = after_payment(_HELD, PaymentEvent.SUBMITTED).value
            p.owner, p.due_ms = c.owner, c.settle_lease_ms
        elif p.captured:
            due_ms = c.now_ms if c.settle_due_ms is None else c.settle_due_ms
            p.due_ms = due_ms if first or p.due_ms is None else min(p.due_ms, due_ms)
        else:
            p.due_ms = None if p.drawn else p.valid_before_ms
    else:
        p.rest(c.now_ms)
    t.store_payment(p, was)
    return submitted, PaymentState(p.state)


# -- the other ends ---------------------------------------------------------------------------------------------------


def release_charge(t: Transaction, c: book.Release) -> book.Answer:
    charge = t.charge(c.charge_id)
    p = t.payment_no(charge.payment_no)
    if charge.state == "released":
        return book.Applied(p.id, charge.id, PaymentState(p.state))
    if charge.state != "reserved" or charge.owner != c.owner:
        return book.Lost(ChargeState(charge.state))
    charge.response_status = c.response_status
    release(t, p, charge, ChargeEvent.HANDLER_FAILED, c.now_ms, detail=c.reason)
    return book.Applied(p.id, charge.id, PaymentState(p.state))


def delivered(t: Transaction, c: book.Delivered) -> book.Answer:
    charge = t.charge(c.charge_id)
    if charge.state != "captured":
        return book.Lost(ChargeState(charge.state))
    p = t.payment_no(charge.payment_no)
    if not charge.delivered:
        charge.delivered, charge.lease_until_ms = 1, None
        if c.response is not None and charge.response_status is None:
            charge.response_status, charge.response_bytes = c.response.status, len(c.response.body)
            t.keep(charge.no, c.now_ms, c.response)
        t.store_charge(charge, ("captured", charge.amount, 0))
        detail = f"{charge.response_status} {charge.response_bytes}"
        t.journal(c.now_ms, "delivered", p.no, charge.no, detail=detail)
    return book.Applied(p.id, charge.id, PaymentState(p.state))


def extend(t: Transaction, c: book.Extend) -> book.Answer:
    charge = t.charge(c.charge_id)
    if not charge.live or charge.owner != c.owner or charge.lease_until_ms is None:
        return book.Lost(ChargeState(charge.state))
    charge.lease_until_ms = max(charge.lease_until_ms, c.lease_until_ms)
    t.store_charge(charge, (charge.state, charge.amount, charge.delivered))
    p = t.payment_no(charge.payment_no)
    return book.Applied(p.id, charge.id, PaymentState(p.state))
