"""What the background asks of the book, in SQL: dead charges, what is due, what is not final. See `rules_settlement`."""

from __future__ import annotations

from collections.abc import Callable

from micropaywall.core import book
from micropaywall.core.lives import PaymentEvent
from micropaywall.ledger import statements as sql
from micropaywall.ledger.rules_settlement import LEFTOVER, leftover_refund_id
from micropaywall.ledger.sqlite.endings import reclaim
from micropaywall.ledger.sqlite.rows import Charge, Payment, Refund
from micropaywall.ledger.sqlite.settlement import decide_refund, step
from micropaywall.ledger.sqlite.transaction import Transaction, standing


def lease_work(t: Transaction, *, owner: str, now_ms: int, lease_until_ms: int, limit: int) -> book.Work:
    for row in t.execute(sql.DEAD_CHARGES, (now_ms, limit)).fetchall():
        charge = Charge(*row)
        reclaim(t, t.payment_no(charge.payment_no), charge, now_ms)
    settle: list[book.PaymentRow] = []
    ask: list[book.PaymentRow] = []
    for row in t.execute(sql.DUE_PAYMENTS, (now_ms, limit)).fetchall():
        p = Payment(*row)
        was = standing(p)
        if p.state == "settling" or (p.state == "held" and p.captured):
            into = settle if p.state == "held" else ask
            if p.state == "held":
                t.journal(now_ms, "submitted", p.no, payment_state=step(p, PaymentEvent.SUBMITTED))
            p.owner, p.due_ms = owner, lease_until_ms
            t.store_payment(p, was)
            into.append(p.row())
        elif p.state == "held":
            t.journal(now_ms, "void", p.no, payment_state=step(p, PaymentEvent.EXPIRED))
            p.due_ms, p.reason = None, "expired unused"
            t.store_payment(p, was)
        elif p.drawn == p.captured and p.free > 0:
            decide_refund(t, p, _leftover(p, now_ms))
        else:
            p.due_ms = None
            t.store_payment(p, was)
    refunds: list[book.RefundRow] = []
    for row in t.execute(sql.DUE_REFUNDS, (now_ms, limit)).fetchall():
        refund = Refund(*row)
        refund_was = refund.state
        refund.state, refund.owner, refund.due_ms = "submitted", owner, lease_until_ms
        t.store_refund(refund, refund_was)
        refunds.append(refund.row(t.payment_no(refund.payment_no)))
    return book.Work(settle=settle, ask=ask, refunds=refunds)


def _leftover(p: Payment, now_ms: int) -> book.BeginRefund:
    return book.BeginRefund(
        refund_id=leftover_refund_id(p.id, p.refunded, now_ms),
        payment_id=p.id,
        amount=p.free,
        reason=LEFTOVER,
        owner="",
        now_ms=now_ms,
        lease_until_ms=now_ms,
    )


def unconfirmed(t: Transaction, *, now_ms: int, limit: int) -> list[book.PaymentRow]:
    """Settled payments that are not final, the longest unchecked first; they count as checked now."""
    rows = [Payment(*row) for row in t.execute(sql.UNCONFIRMED, (limit,)).fetchall()]
    for p in rows:
        t.change(sql.CHECKED, (now_ms, p.no))
    return [p.row() for p in rows]


def end_leases(t: Transaction, *, dead: Callable[[str], bool], now_ms: int) -> int:
    """End the leases of owners that are gone; the partial indexes hold only what is leased or due."""
    ended = 0
    for (owner,) in t.execute(sql.LEASE_OWNERS, (now_ms, now_ms)).fetchall():
        if dead(owner):
            ended += t.change(sql.END_CHARGE_LEASES, (now_ms, now_ms, owner))
            ended += t.change(sql.END_PAYMENT_LEASES, (now_ms, now_ms, owner))
    return ended


def meta(t: Transaction, name: str, new: bytes) -> bytes:
    """The value that all workers share; ``new`` when there was none."""
    row = t.one(sql.META, (name, new))
    if row is None:
        raise AssertionError("an upsert that returns its row returned none")
    return bytes(row[0])
