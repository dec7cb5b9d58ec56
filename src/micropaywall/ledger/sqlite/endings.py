"""How a charge ends without income: released, or returned after it was captured. In SQL; see `ledger.rules_settlement`."""

from __future__ import annotations

from micropaywall.core.lives import ChargeEvent, ChargeState, after_charge
from micropaywall.ledger import statements as sql
from micropaywall.ledger.sqlite.rows import Charge, Payment
from micropaywall.ledger.sqlite.transaction import Transaction, standing


def release(t: Transaction, p: Payment, charge: Charge, event: ChargeEvent, now_ms: int, *, detail: str = "") -> None:
    """A reserved charge ends without delivery: the credit is whole again."""
    was = standing(p)
    charge.state, charge.lease_until_ms = after_charge(ChargeState(charge.state), event).value, None
    t.store_charge(charge, ("reserved", charge.amount, charge.delivered))
    p.drawn -= charge.amount
    if p.unsettled:
        t.unexpose(p, charge.amount)
    if p.state == "held" and not p.drawn:
        p.due_ms = p.valid_before_ms
    p.rest(now_ms)
    t.store_payment(p, was)
    detail = f"{charge.response_status} {detail or event.value}"
    t.journal(now_ms, "released", p.no, charge.no, charge.amount, charge_state=charge.state, detail=detail)


def give_back(t: Transaction, p: Payment, charge: Charge, now_ms: int, *, detail: str = "") -> None:
    """A captured charge is returned: income becomes credit again, and its response is no longer retrievable."""
    was = standing(p)
    charge.state = after_charge(ChargeState(charge.state), ChargeEvent.GIVEN_BACK).value
    charge.lease_until_ms = None
    t.store_charge(charge, ("captured", charge.amount, charge.delivered))
    t.change(sql.DROP_RESPONSE, (charge.no,))
    p.drawn -= charge.amount
    p.captured -= charge.amount
    if p.unsettled:
        t.unexpose(p, charge.amount)
    if p.state == "held" and not p.captured:
        p.due_ms = None if p.drawn else p.valid_before_ms
    p.rest(now_ms)
    t.store_payment(p, was)
    t.journal(now_ms, "returned", p.no, charge.no, charge.amount, charge_state=charge.state, detail=detail)


def reclaim(t: Transaction, p: Payment, charge: Charge, now_ms: int) -> None:
    """A charge whose lease is over, given back: released, or returned when it was captured and never delivered."""
    if charge.state == "reserved":
        release(t, p, charge, ChargeEvent.LEASE_EXPIRED, now_ms)
    else:
        give_back(t, p, charge, now_ms, detail="never delivered")
