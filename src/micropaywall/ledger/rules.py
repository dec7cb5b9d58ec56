"""The reference ledger: what every command of `core.book` means, in plain Python over dictionaries.

It is the specification, and the oracle of the engines' tests. Pure: time, ids and outcomes arrive inside the commands.
This file has charges (who may be served from what); `rules_settlement` has money (settlements, refunds, background work).

A refusal changes nothing, with one exception that is not the caller's: a charge whose lease is over is given back by
whoever meets it first.

Bound and unbound payments. A payment with a ``binding`` belongs to one request: it has at most one live charge, its newest.
A payment without one (an account, a channel) is good for many; there, only an idempotency key makes two requests the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from micropaywall import limits
from micropaywall.core import book
from micropaywall.core.lives import DRAWABLE, ChargeEvent, ChargeState, PaymentEvent, PaymentState, after_charge
from micropaywall.errors import LedgerError
from micropaywall.ids import RowId
from micropaywall.ledger import rules_settlement as settlement
from micropaywall.ledger.rules_state import LIVE, UNSETTLED, Charge, Payment, State

__all__ = ["SAME_FIELDS", "apply"]

SAME_FIELDS: Final = ("rail", "network", "asset", "payer", "payee", "amount", "instruction", "binding")
"""What a second presentation of a replay key must have in common with the first, in the order in which it is compared."""
_OVER: Final = frozenset({PaymentState.FAILED, PaymentState.VOID, PaymentState.REFUNDED})
_MOVED: Final = frozenset({PaymentState.SETTLED, PaymentState.FINAL, PaymentState.REFUND_DUE})
_BUSY_MS: Final = limits.RETRY_AFTER_S * 1000


def apply(state: State, command: book.Command) -> book.Answer:
    """Carry out ``command``. Raises LedgerError for a command that no correct program gives; then nothing has changed."""
    return _RULES[type(command)](state, command)


# -- reserve ----------------------------------------------------------------------------------------------------------


def _reserve(state: State, c: book.Reserve) -> book.Answer:
    if not 0 <= c.charge_amount <= c.amount:
        raise LedgerError("a charge is never more than its payment", expected=c.amount, received=c.charge_amount)
    known = state.by_key.get(c.key)
    if known is None:
        return _first(state, c)
    payment = state.payments[known]
    mine = state.charges.get(c.charge_id)
    if mine is not None and (mine.payment_id, mine.state, mine.owner) == (payment.id, ChargeState.RESERVED, c.owner):
        return book.Applied(payment.id, mine.id, payment.state)
    for name in SAME_FIELDS:
        if getattr(payment, name) != getattr(c, name):
            return book.Foreign(name)
    if payment.state in _OVER:
        return book.Spent(payment.state, payment.reason)
    match = _match(state, payment, c)
    if isinstance(match, Charge):
        return _again(payment, match, c.now_ms)
    return match or _draw(state, payment, c)


def _first(state: State, c: book.Reserve) -> book.Answer:
    """A replay key that nobody has presented."""
    if c.payment_id in state.payments:
        raise LedgerError("the id of a new payment is taken")
    payment = Payment(
        id=c.payment_id,
        key=c.key,
        state=PaymentState.HELD,
        rail=c.rail,
        network=c.network,
        asset=c.asset,
        payer=c.payer,
        payee=c.payee,
        amount=c.amount,
        mode=c.mode,
        dialect=c.dialect,
        binding=c.binding,
        instruction=c.instruction,
        valid_before_ms=c.valid_before_ms,
        created_ms=c.now_ms,
    )
    answer = _draw(state, payment, c)
    if isinstance(answer, book.Applied):
        state.payments[payment.id] = payment
        state.by_key[payment.key] = payment.id
    return answer


def _match(state: State, payment: Payment, c: book.Reserve) -> Charge | book.Answer | None:
    """The live charge of the same request, or a refusal, or None when a new charge may be drawn."""
    if payment.binding:
        candidates = payment.charges[-1:]
    else:
        candidates = [
            id_
            for id_ in payment.charges
            if c.idempotency_key and state.charges[id_].idempotency_key == c.idempotency_key
        ]
    for id_ in candidates:
        charge = state.charges[id_]
        _reclaim(state, payment, charge, c.now_ms)
        if charge.state in LIVE:
            if charge.fingerprint == c.fingerprint:
                return charge
            return book.Foreign("fingerprint") if payment.binding else book.Denied("idempotency")
    return None


def _again(payment: Payment, charge: Charge, now_ms: int) -> book.Answer:
    """The same request with the same credential as ``charge``, which is live."""
    if charge.lease_until_ms:
        return book.Busy(payment.id, min(charge.lease_until_ms - now_ms, _BUSY_MS))
    if payment.mode == "deferred" or payment.state in _MOVED:
        return book.Replayed(payment.row(), charge.row(), charge.response)
    if payment.leased(now_ms):
        return book.Busy(payment.id, min((payment.due_ms or now_ms) - now_ms, _BUSY_MS))
    return book.Open(payment.row(), charge.row())


def _draw(state: State, payment: Payment, c: book.Reserve) -> book.Answer:
    """A new charge from the payment's credit."""
    if c.charge_id in state.charges:
        raise LedgerError("the id of a new charge is taken")
    if payment.leased(c.now_ms):
        return book.Busy(payment.id, min((payment.due_ms or c.now_ms) - c.now_ms, _BUSY_MS))
    if payment.state not in DRAWABLE and payment.state is not PaymentState.SETTLING:
        return book.Spent(payment.state, payment.reason)
    if payment.free < c.charge_amount:
        return book.Spent(payment.state, "used up")
    if payment.state in UNSETTLED and payment.mode != c.mode:
        return book.Foreign("mode")  # else what was reserved under `after` could be served under `deferred`, uncounted
    exposed = state.exposures.get((payment.payer, payment.asset))
    if payment.state in UNSETTLED:
        if exposed is not None and exposed.suspended:
            return book.Denied("suspended")
        if payment.mode == "deferred":
            exposed = state.exposure(payment)
            if c.exposure_cap is not None and exposed.unsettled + c.charge_amount > c.exposure_cap:
                return book.Denied("exposure")
            exposed.unsettled += c.charge_amount
    state.charges[c.charge_id] = Charge(
        id=c.charge_id,
        payment_id=payment.id,
        state=ChargeState.RESERVED,
        fingerprint=c.fingerprint,
        amount=c.charge_amount,
        endpoint=c.endpoint,
        url=c.url,
        created_ms=c.now_ms,
        lease_until_ms=c.lease_until_ms,
        owner=c.owner,
        idempotency_key=c.idempotency_key,
        agent=c.agent,
    )
    payment.charges.append(c.charge_id)
    payment.drawn += c.charge_amount
    if payment.state is PaymentState.HELD and c.begin_settle:
        payment.see(PaymentEvent.SUBMITTED)
    if payment.state is PaymentState.SETTLING:
        payment.owner, payment.due_ms = c.owner, c.settle_lease_ms
    elif payment.state is PaymentState.HELD and not payment.captured:
        payment.due_ms = None
    return book.Applied(payment.id, c.charge_id, payment.state)


# -- the end of a charge ----------------------------------------------------------------------------------------------


def _capture(state: State, c: book.Capture) -> book.Answer:
    charge, payment = _charge(state, c.charge_id)
    if charge.payment_id != c.payment_id:
        raise LedgerError("the charge was drawn from another payment")
    if charge.state is not ChargeState.RESERVED:
        same = charge.state is ChargeState.CAPTURED and charge.owner == c.owner and charge.amount == c.amount
        return book.Applied(payment.id, charge.id, payment.state) if same else book.Lost(charge.state)
    if charge.owner != c.owner:
        return book.Lost(charge.state)
    if not 0 <= c.amount <= charge.amount:
        raise LedgerError("a capture is never more than what was reserved", expected=charge.amount, received=c.amount)
    held_back = charge.amount - c.amount
    charge.state = after_charge(charge.state, ChargeEvent.HANDLER_SUCCEEDED)
    charge.amount, charge.captured_ms, charge.latency_ms = c.amount, c.now_ms, c.latency_ms
    if c.response is None:
        # Until `Delivered`, somebody has to see to it: a crash in between gives the charge back.
        charge.lease_until_ms = max(charge.lease_until_ms, c.now_ms + limits.CHARGE_LEASE_S * 1000)
    else:
        charge.lease_until_ms = 0
        charge.response, charge.response_status = c.response, c.response.status
        charge.response_bytes = len(c.response.body)
    first = not payment.captured
    payment.drawn -= held_back
    payment.captured += c.amount
    if payment.mode == "deferred" and payment.state in UNSETTLED:
        state.exposure(payment).unsettled -= held_back
    state.post("captured", payment, c.amount)
    if payment.state is PaymentState.HELD:
        if c.begin_settle:
            payment.see(PaymentEvent.SUBMITTED)
            payment.owner, payment.due_ms = c.owner, c.settle_lease_ms
        elif payment.captured:
            due_ms = c.now_ms if c.settle_due_ms is None else c.settle_due_ms
            payment.due_ms = due_ms if first or payment.due_ms is None else min(payment.due_ms, due_ms)
        else:
            payment.due_ms = None if payment.drawn else payment.valid_before_ms
    else:
        settlement.rest(payment, c.now_ms)
    return book.Applied(payment.id, charge.id, payment.state)


def _release(state: State, c: book.Release) -> book.Answer:
    charge, payment = _charge(state, c.charge_id)
    if charge.state is ChargeState.RELEASED:
        return book.Applied(payment.id, charge.id, payment.state)
    if charge.state is not ChargeState.RESERVED or charge.owner != c.owner:
        return book.Lost(charge.state)
    charge.response_status = c.response_status
    settlement.release(state, payment, charge, ChargeEvent.HANDLER_FAILED, c.now_ms)
    return book.Applied(payment.id, charge.id, payment.state)


def _delivered(state: State, c: book.Delivered) -> book.Answer:
    charge, payment = _charge(state, c.charge_id)
    if charge.state is not ChargeState.CAPTURED:
        return book.Lost(charge.state)
    if not charge.delivered:
        charge.delivered, charge.lease_until_ms = True, 0
        if c.response is not None and charge.response is None:
            charge.response, charge.response_status = c.response, c.response.status
            charge.response_bytes = len(c.response.body)
    return book.Applied(payment.id, charge.id, payment.state)


def _extend(state: State, c: book.Extend) -> book.Answer:
    charge, payment = _charge(state, c.charge_id)
    if charge.state not in LIVE or charge.owner != c.owner or not charge.lease_until_ms:
        return book.Lost(charge.state)
    charge.lease_until_ms = max(charge.lease_until_ms, c.lease_until_ms)
    return book.Applied(payment.id, charge.id, payment.state)


def _charge(state: State, charge_id: RowId) -> tuple[Charge, Payment]:
    charge = state.charges.get(charge_id)
    if charge is None:
        raise LedgerError("there is no such charge", received=charge_id.hex())
    return charge, state.payments[charge.payment_id]


def _reclaim(state: State, payment: Payment, charge: Charge, now_ms: int) -> None:
    """Give back a charge whose worker has been silent for longer than its lease."""
    if charge.state in LIVE and 0 < charge.lease_until_ms <= now_ms:
        settlement.reclaim(state, payment, charge, now_ms)


_RULES: Final[dict[type, Callable[[State, Any], book.Answer]]] = {
    book.Reserve: _reserve,
    book.Capture: _capture,
    book.Release: _release,
    book.Delivered: _delivered,
    book.Extend: _extend,
    book.BeginSettle: settlement.begin_settle,
    book.EndSettle: settlement.end_settle,
    book.Reorganise: settlement.reorganise,
    book.BeginRefund: settlement.begin_refund,
    book.EndRefund: settlement.end_refund,
    book.CancelRefund: settlement.cancel_refund,
}
