"""Two small lives: the payment's (money) and the charge's (delivery), as tables of data.

A payment is value that a payer gave or promised. A charge is one delivery drawn from what a payment lets the payer still
draw (its credit). A single-use authorization is one payment with one charge; an account or a channel is one payment
with many. The two lives meet in one place only: a charge can be reserved while its payment is held or settled.

Everything that changes a state looks it up here: the ledger engines, the reference ledger, the tests and the diagram in
`docs/concepts.md`. An (state, event) pair that is not in the table is an error of the program, never a no-op.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class PaymentState(str, Enum):
    """Where the money is."""

    HELD = "held"
    SETTLING = "settling"
    SETTLED = "settled"
    FINAL = "final"
    FAILED = "failed"
    VOID = "void"
    REFUND_DUE = "refund_due"
    REFUNDED = "refunded"


class PaymentEvent(str, Enum):
    """What happens to a payment."""

    EXPIRED = "expired"
    SUBMITTED = "submitted"
    UNANSWERED = "unanswered"
    MOVED = "moved"
    NEVER = "never"
    DEEP_ENOUGH = "deep_enough"
    REORGANISED = "reorganised"
    REFUND_DECIDED = "refund_decided"
    REFUND_PAID = "refund_paid"
    REFUND_PART_PAID = "refund_part_paid"
    REFUND_CANCELLED = "refund_cancelled"


class ChargeState(str, Enum):
    """Where the delivery is."""

    RESERVED = "reserved"
    RELEASED = "released"
    CAPTURED = "captured"
    RETURNED = "returned"


class ChargeEvent(str, Enum):
    """What happens to a charge."""

    HANDLER_FAILED = "handler_failed"
    LEASE_EXPIRED = "lease_expired"
    HANDLER_SUCCEEDED = "handler_succeeded"
    GIVEN_BACK = "given_back"


P, PE, C, CE = PaymentState, PaymentEvent, ChargeState, ChargeEvent

PAYMENT_LIFE: Final[dict[PaymentState, dict[PaymentEvent, PaymentState]]] = {
    P.HELD: {PE.EXPIRED: P.VOID, PE.SUBMITTED: P.SETTLING},
    P.SETTLING: {
        PE.UNANSWERED: P.SETTLING,
        PE.MOVED: P.SETTLED,
        PE.NEVER: P.FAILED,
    },
    P.SETTLED: {
        PE.DEEP_ENOUGH: P.FINAL,
        PE.REORGANISED: P.SETTLING,
        PE.REFUND_DECIDED: P.REFUND_DUE,
    },
    P.FINAL: {PE.REFUND_DECIDED: P.REFUND_DUE},
    P.REFUND_DUE: {
        PE.REFUND_PAID: P.REFUNDED,
        PE.REFUND_PART_PAID: P.FINAL,
        PE.REFUND_CANCELLED: P.FINAL,
    },
    P.FAILED: {},
    P.VOID: {},
    P.REFUNDED: {},
}
"""``held`` is also where a payment of value that moved beforehand would start; ``failed``, ``void`` and ``refunded`` end."""

CHARGE_LIFE: Final[dict[ChargeState, dict[ChargeEvent, ChargeState]]] = {
    C.RESERVED: {
        CE.HANDLER_FAILED: C.RELEASED,
        CE.LEASE_EXPIRED: C.RELEASED,
        CE.HANDLER_SUCCEEDED: C.CAPTURED,
    },
    C.CAPTURED: {CE.GIVEN_BACK: C.RETURNED},
    C.RELEASED: {},
    C.RETURNED: {},
}

DRAWABLE: Final = frozenset({P.HELD, P.SETTLED, P.FINAL})
"""Payments from whose credit a new charge may be reserved."""
OPEN: Final = frozenset({P.HELD, P.SETTLING, P.SETTLED, P.REFUND_DUE})
"""Payments that something may still happen to without anybody asking."""


def after_payment(state: PaymentState, event: PaymentEvent) -> PaymentState:
    """The payment's next state; LookupError when the table has no such step."""
    try:
        return PAYMENT_LIFE[state][event]
    except KeyError:
        raise LookupError(f"a payment that is {state.value} cannot see {event.value}") from None


def after_charge(state: ChargeState, event: ChargeEvent) -> ChargeState:
    """The charge's next state; LookupError when the table has no such step."""
    try:
        return CHARGE_LIFE[state][event]
    except KeyError:
        raise LookupError(f"a charge that is {state.value} cannot see {event.value}") from None
