"""What the reference ledger keeps: plain mutable records in dictionaries, and the double-entry journal as a list."""

from __future__ import annotations

from dataclasses import dataclass, field

from micropaywall.core.book import ChargeRow, PaymentRow, RefundRow
from micropaywall.core.lives import ChargeState, PaymentEvent, PaymentState, after_payment
from micropaywall.core.model import SettleMode, StoredResponse
from micropaywall.ids import Fingerprint, ReplayKey, RowId

LIVE = (ChargeState.RESERVED, ChargeState.CAPTURED)
"""Charges that hold or have taken credit."""
UNSETTLED = (PaymentState.HELD, PaymentState.SETTLING)


@dataclass(slots=True)
class Payment:
    """A payment with everything that the rules need; ``row`` is what others see.

    ``captured`` is the part of ``drawn`` that captured charges have taken. ``owner`` has the settlement's lease, which
    ends at ``due_ms``; without an owner ``due_ms`` is when the background looks at the payment (None: never).
    """

    id: RowId
    key: ReplayKey
    state: PaymentState
    rail: str
    network: str
    asset: str
    payer: str
    payee: str
    amount: int
    mode: SettleMode
    dialect: str
    binding: bytes
    instruction: bytes
    valid_before_ms: int
    created_ms: int
    drawn: int = 0
    captured: int = 0
    refunded: int = 0
    settled_ms: int | None = None
    transaction: str = ""
    block: int | None = None
    reason: str = ""
    attempts: int = 0
    owner: str = ""
    due_ms: int | None = None
    checked_ms: int = 0
    charges: list[RowId] = field(default_factory=list)
    refunds: list[RowId] = field(default_factory=list)

    @property
    def free(self) -> int:
        """Credit that may still be drawn."""
        return self.amount - self.drawn - self.refunded

    def leased(self, now_ms: int) -> bool:
        """Whether somebody is settling it right now."""
        return self.owner != "" and self.due_ms is not None and self.due_ms > now_ms

    def see(self, event: PaymentEvent) -> None:
        """Take the step of the table; LookupError when there is none."""
        self.state = after_payment(self.state, event)

    def row(self) -> PaymentRow:
        return PaymentRow(
            id=self.id,
            key=self.key,
            state=self.state,
            rail=self.rail,
            network=self.network,
            asset=self.asset,
            payer=self.payer,
            payee=self.payee,
            amount=self.amount,
            drawn=self.drawn,
            refunded=self.refunded,
            mode=self.mode,
            dialect=self.dialect,
            binding=self.binding,
            instruction=self.instruction,
            valid_before_ms=self.valid_before_ms,
            created_ms=self.created_ms,
            settled_ms=self.settled_ms,
            transaction=self.transaction,
            block=self.block,
            reason=self.reason,
            attempts=self.attempts,
        )


@dataclass(slots=True)
class Charge:
    """A charge; ``lease_until_ms`` 0 when nobody has to finish it."""

    id: RowId
    payment_id: RowId
    state: ChargeState
    fingerprint: Fingerprint
    amount: int
    endpoint: str
    url: str
    created_ms: int
    lease_until_ms: int
    owner: str
    idempotency_key: str = ""
    agent: str = ""
    captured_ms: int | None = None
    delivered: bool = False
    response: StoredResponse | None = None
    response_status: int | None = None
    response_bytes: int | None = None
    latency_ms: int | None = None

    def row(self) -> ChargeRow:
        return ChargeRow(
            id=self.id,
            payment_id=self.payment_id,
            state=self.state,
            fingerprint=self.fingerprint,
            amount=self.amount,
            endpoint=self.endpoint,
            url=self.url,
            created_ms=self.created_ms,
            lease_until_ms=self.lease_until_ms,
            captured_ms=self.captured_ms,
            delivered=self.delivered,
            response_status=self.response_status,
            response_bytes=self.response_bytes,
            latency_ms=self.latency_ms,
            idempotency_key=self.idempotency_key,
            agent=self.agent,
        )


@dataclass(slots=True)
class Refund:
    """A refund: ``due`` -> ``submitted`` -> ``paid``; ``due`` -> ``cancelled``; a refused one is due again."""

    id: RowId
    payment_id: RowId
    amount: int
    state: str
    reason: str
    created_ms: int
    owner: str = ""
    due_ms: int | None = None
    transaction: str = ""

    def row(self, payment: Payment) -> RefundRow:
        return RefundRow(
            id=self.id,
            payment_id=self.payment_id,
            amount=self.amount,
            asset=payment.asset,
            network=payment.network,
            rail=payment.rail,
            payer=payment.payer,
            payee=payment.payee,
            state=self.state,
            reason=self.reason,
            created_ms=self.created_ms,
            transaction=self.transaction,
        )


@dataclass(slots=True)
class Exposure:
    """What one payer has of one asset in `deferred` mode: reserved or delivered and unsettled; and what never came."""

    unsettled: int = 0
    lost: int = 0
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One immutable movement: ``amount`` from the account that is debited to the account that is credited."""

    kind: str
    payment_id: RowId
    amount: int


@dataclass(slots=True)
class State:
    """The whole book of the reference ledger."""

    payments: dict[RowId, Payment] = field(default_factory=dict)
    by_key: dict[ReplayKey, RowId] = field(default_factory=dict)
    charges: dict[RowId, Charge] = field(default_factory=dict)
    refunds: dict[RowId, Refund] = field(default_factory=dict)
    exposures: dict[tuple[str, str], Exposure] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def exposure(self, payment: Payment) -> Exposure:
        return self.exposures.setdefault((payment.payer, payment.asset), Exposure())

    def post(self, kind: str, payment: Payment, amount: int) -> None:
        """Enter a movement; nothing is entered for nothing."""
        if amount < 0:
            raise ValueError("an entry is never negative")
        if amount:
            self.entries.append(Entry(kind, payment.id, amount))
