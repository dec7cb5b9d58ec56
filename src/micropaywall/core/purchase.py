"""The life of a payment as its buyer journals it, as a table of data.

    reserved    the budget has room for it and is held; nothing is signed
    signed      signed and journaled: from now on it may have been sent
    sent        it was sent at least once, and no answer was a verdict
    unknown     re-sent and asked for in vain; the caller was told so
    served      the resource came; when the answer breaks off half-way it is ``sent`` again, and may be sent once more
    rejected    the seller refused it; should another presentation of it be served after all, it was served, and it counts
    expired     its authorization ran out, and the seller says that it never moved; likewise
    released    given up before anything was signed

The budget is held in every state but ``released``, ``expired``, and ``rejected`` where the seller says that no money moved.
A payment that is signed is re-sent, never signed anew, until its outcome is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from micropaywall.core.model import Dialect
from micropaywall.core.policy import Realm
from micropaywall.errors import MoneyMoved
from micropaywall.ids import Fingerprint, PaymentId, ReplayKey, RowId
from micropaywall.money import Money

__all__ = ["LIFE", "OPEN", "VERDICTS", "HeaderLine", "PurchaseEvent", "PurchaseRow", "PurchaseState", "after", "counts"]


class PurchaseState(str, Enum):
    """Where a payment of ours is."""

    RESERVED = "reserved"
    SIGNED = "signed"
    SENT = "sent"
    UNKNOWN = "unknown"
    SERVED = "served"
    REJECTED = "rejected"
    EXPIRED = "expired"
    RELEASED = "released"


class PurchaseEvent(str, Enum):
    """What happens to it."""

    DROPPED = "dropped"
    JOURNALED = "journaled"
    UNANSWERED = "unanswered"
    GIVEN_UP = "given_up"
    DELIVERED = "delivered"
    REFUSED = "refused"
    LAPSED = "lapsed"
    CUT_OFF = "cut_off"


S, E = PurchaseState, PurchaseEvent

_VERDICTS: Final = {E.DELIVERED: S.SERVED, E.REFUSED: S.REJECTED, E.LAPSED: S.EXPIRED}

LIFE: Final[dict[PurchaseState, dict[PurchaseEvent, PurchaseState]]] = {
    S.RESERVED: {E.DROPPED: S.RELEASED, E.JOURNALED: S.SIGNED},
    S.SIGNED: {E.UNANSWERED: S.SENT, E.GIVEN_UP: S.UNKNOWN, **_VERDICTS},
    S.SENT: {E.UNANSWERED: S.SENT, E.GIVEN_UP: S.UNKNOWN, **_VERDICTS},
    S.UNKNOWN: {E.UNANSWERED: S.SENT, E.GIVEN_UP: S.UNKNOWN, **_VERDICTS},
    S.SERVED: {E.DELIVERED: S.SERVED, E.CUT_OFF: S.SENT},
    S.REJECTED: {E.DELIVERED: S.SERVED},
    S.EXPIRED: {E.DELIVERED: S.SERVED},
    S.RELEASED: {},
}

VERDICTS: Final = frozenset({S.SERVED, S.REJECTED, S.EXPIRED})
"""Somebody knows what became of it: a step that the table does not have then changes nothing."""
OPEN: Final = frozenset({S.SIGNED, S.SENT, S.UNKNOWN})
"""Signed, and no verdict: these are re-sent, asked for, and hold their budget."""


def after(state: PurchaseState, event: PurchaseEvent) -> PurchaseState:
    """The next state; LookupError when the table has no such step."""
    try:
        return LIFE[state][event]
    except KeyError:
        raise LookupError(f"a payment that is {state.value} cannot see {event.value}") from None


def counts(state: PurchaseState, moved: MoneyMoved) -> bool:
    """Whether a payment in ``state`` counts against budgets."""
    if state is S.REJECTED:
        return moved != "no"
    return state not in (S.RELEASED, S.EXPIRED)


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """A header that carries a payment. Its value buys things while the payment is not spent: it is in no repr."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseRow:
    """A payment in the buyer's journal. Times are Unix milliseconds.

    ``endpoint`` is ``"GET https://api.example.com/resource"``, without query: query strings may hold secrets.
    ``call_key`` is the idempotency key of the logical call, or "". ``credential`` is None until it is signed.
    """

    id: RowId
    state: PurchaseState
    agent: str
    call_key: str
    fingerprint: Fingerprint
    endpoint: str
    origin: str
    authority: str
    realm: Realm
    scheme: str
    network: str
    price: Money
    payer: str
    payee: str
    dialect: Dialect
    created_ms: int
    key: ReplayKey | None = None
    payment_id: PaymentId | None = None
    credential: HeaderLine | None = None
    valid_before_ms: int = 0
    signed_ms: int | None = None
    concluded_ms: int | None = None
    attempts: int = 0
    money_moved: MoneyMoved = "no"
    reason: str = ""
    response_status: int | None = None
    transaction: str = ""
