"""What observers are told of outcomes."""

from __future__ import annotations

from typing import assert_never

from micropaywall import observe
from micropaywall.core.book import PaymentRow
from micropaywall.core.model import Outcome, Rejected, Settled, Unknown
from micropaywall.ids import payment_id

__all__ = ["outcome_event"]


def outcome_event(payment: PaymentRow, outcome: Outcome) -> observe.Event:
    """The event for a payment's outcome."""
    ident = payment_id(payment.key)
    match outcome:
        case Settled():
            return observe.Settled(
                payment_id=ident,
                rail=payment.rail,
                network=payment.network,
                transaction=outcome.transaction,
                amount_atomic=outcome.amount_atomic,
                asset=payment.asset,
            )
        case Rejected():
            return observe.Rejected(payment_id=ident, rail=payment.rail, code=outcome.code, detail=outcome.detail)
        case Unknown():
            return observe.Unknown(payment_id=ident, rail=payment.rail, detail=outcome.detail)
        case _:
            assert_never(outcome)
