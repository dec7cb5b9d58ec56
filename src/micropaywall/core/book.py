"""What one can tell the book, and what it answers.

Commands are values with everything in them: time, ids, amounts. The same command given twice has the effect of one.
`ledger.rules` is the meaning of each in plain Python (specification and test oracle); the engines do the same in SQL.

    Reserve        a credential was verified: know the payment, draw a charge from its credit       one commit, before the handler
    Capture        the handler succeeded: fix the amount, keep the response (and begin settling)     one commit
    Release        the handler failed: the credit is whole again
    Delivered      a response that could not be kept has left
    Extend         a handler or a stream goes on: keep the charge's lease alive
    BeginSettle    the payment is about to be submitted to the rail
    EndSettle      the rail's outcome: Settled, Rejected or Unknown
    Reorganise     a settled payment is no longer on the chain
    BeginRefund, EndRefund, CancelRefund      value back to the payer

Double entry. Three kinds of account per asset: ``wallet:<rail>:<network>:<payee>`` (what we own on a rail),
``credit:<payer>`` (what we owe a payer; negative = delivered and not yet settled: exposure), ``income:<payee>``.

    settled        wallet  +amount     credit +amount
    captured       credit  -amount     income +amount
    returned       income  -amount     credit +amount
    reorganised    credit  -amount     wallet -amount
    refunded       credit  -amount     wallet -amount    (after a return, when income was already taken)
    written off    loss    +amount     credit +amount    (delivered in `deferred` mode, rail said never)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.core.model import Outcome, SettleMode, StoredResponse
from micropaywall.ids import Fingerprint, ReplayKey, RowId


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRow:
    """A payment as the book has it. Amounts are atomic units of ``asset`` (a CAIP-19 id). Times are Unix milliseconds.

    ``drawn`` is what its charges hold or have taken; ``refunded`` what went back. ``attempts`` counts submissions without
    verdict. ``binding`` is the digest of the request that it is tied to (method and URL), or b"".
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
    drawn: int
    refunded: int
    mode: SettleMode
    dialect: str
    binding: bytes
    instruction: bytes
    valid_before_ms: int
    created_ms: int
    settled_ms: int | None = None
    transaction: str = ""
    block: int | None = None
    reason: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRow:
    """A charge as the book has it. ``endpoint`` is ``"GET /api/resource"``: the route's pattern, not the URL."""

    id: RowId
    payment_id: RowId
    state: ChargeState
    fingerprint: Fingerprint
    amount: int
    endpoint: str
    url: str
    created_ms: int
    lease_until_ms: int
    captured_ms: int | None = None
    delivered: bool = False
    response_status: int | None = None
    response_bytes: int | None = None
    latency_ms: int | None = None
    idempotency_key: str = ""
    agent: str = ""


# -- commands ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)  # frozen would cost 2 us on the hot path; never changed
class Reserve:
    """Know the payment by its replay key and draw one charge from it.

    ``payment_id`` and ``charge_id`` are used when the payment or the charge is new. ``begin_settle``: the payment is
    submitted before the handler runs (`before`), leased to ``owner`` until ``settle_lease_ms``.
    ``exposure_cap``: most that this payer may have delivered or reserved and unsettled in `deferred` mode; None elsewhere.
    """

    payment_id: RowId
    charge_id: RowId
    key: ReplayKey
    rail: str
    network: str
    asset: str
    payer: str
    payee: str
    amount: int
    charge_amount: int
    mode: SettleMode
    dialect: str
    binding: bytes
    fingerprint: Fingerprint
    instruction: bytes
    valid_before_ms: int
    endpoint: str
    url: str
    owner: str
    now_ms: int
    lease_until_ms: int
    begin_settle: bool = False
    settle_lease_ms: int = 0
    exposure_cap: int | None = None
    idempotency_key: str = ""
    agent: str = ""


@dataclass(slots=True, kw_only=True)  # frozen would cost 2 us on the hot path; never changed
class Capture:
    """The handler succeeded. ``response`` None: too large to keep; `Delivered` must follow.

    ``begin_settle``: the same commit marks the payment as submitted, leased to ``owner`` until ``settle_lease_ms`` (`after`).
    In `deferred` mode the payment becomes due for the settlement worker at ``settle_due_ms``.
    """

    charge_id: RowId
    payment_id: RowId
    amount: int
    owner: str
    now_ms: int
    response: StoredResponse | None
    latency_ms: int = 0
    begin_settle: bool = False
    settle_lease_ms: int = 0
    settle_due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The handler failed (or the request was cancelled before it answered): nobody is charged."""

    charge_id: RowId
    payment_id: RowId
    owner: str
    now_ms: int
    reason: str = ""
    response_status: int | None = None


@dataclass(slots=True, kw_only=True)  # frozen would cost time on the hot path; never changed
class Delivered:
    """The last byte of a response that `Capture` could not keep was handed to the server.

    ``response``: the whole of a stream after all, when it stayed small enough to keep for a retry.
    """

    charge_id: RowId
    now_ms: int
    response: StoredResponse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """The owner still works on the charge (a long handler, a stream that is still leaving): its lease ends later.

    Without it, a charge whose lease is over is given back and the buyer may draw it again.
    """

    charge_id: RowId
    owner: str
    now_ms: int
    lease_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginSettle:
    """Take the right to submit the payment, until ``lease_until_ms``; refused while somebody else has it."""

    payment_id: RowId
    owner: str
    now_ms: int
    lease_until_ms: int


@dataclass(slots=True, kw_only=True)  # frozen would cost time on the hot path; never changed
class EndSettle:
    """The rail's outcome for a payment that is settling. ``retry_ms``: when to ask again after Unknown."""

    payment_id: RowId
    owner: str
    now_ms: int
    outcome: Outcome
    retry_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorganise:
    """The transaction of a settled payment is gone; it is settling again, due at once."""

    payment_id: RowId
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginRefund:
    """Give ``amount`` back. ``refund_id`` is the caller's: the same id with another amount is refused.

    With a lease the caller pays the refund itself, now; without one (``lease_until_ms`` not after ``now_ms``) it is left
    to whoever leases work, and may still be cancelled.
    """

    refund_id: RowId
    payment_id: RowId
    amount: int
    reason: str
    owner: str
    now_ms: int
    lease_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRefund:
    """The rail's outcome of a refund: Settled, Rejected or Unknown.

    After Rejected it is due again at ``retry_ms``, or cancelled when that is None. After Unknown it is due at ``retry_ms``.
    """

    refund_id: RowId
    owner: str
    now_ms: int
    outcome: Outcome
    retry_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRefund:
    """Give up a refund that nobody has submitted; Lost when somebody has (its outcome must be learnt first)."""

    refund_id: RowId
    now_ms: int
    reason: str = ""


ChargeCommand = Reserve | Capture | Release | Delivered | Extend
PaymentCommand = BeginSettle | EndSettle | Reorganise
RefundCommand = BeginRefund | EndRefund | CancelRefund
Command = ChargeCommand | PaymentCommand | RefundCommand


# -- answers ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)  # frozen would cost time on the hot path; never changed
class Applied:
    """The command took effect now (or had taken effect when the very same command came before).

    After Reserve: run the handler; ``payment_state`` tells whether it is paid already. ``settling``: the caller has the
    lease of the settlement and brings it to an end before the handler runs. ``payment_id``/``charge_id`` are the ones in
    the book, which are the command's own unless the payment was known.
    """

    payment_id: RowId
    charge_id: RowId | None = None
    payment_state: PaymentState = PaymentState.HELD


@dataclass(frozen=True, slots=True)
class Replayed:
    """Reserve: the same credential with the same request was served before; here is its response (None: not kept)."""

    payment: PaymentRow
    charge: ChargeRow
    response: StoredResponse | None


@dataclass(frozen=True, slots=True)
class Busy:
    """Reserve: another presentation holds the charge (or is settling it) right now. Ask again."""

    payment_id: RowId
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Open:
    """Reserve: the request was handled, the settlement has no verdict and nobody is working on it. Ask the rail."""

    payment: PaymentRow
    charge: ChargeRow


@dataclass(frozen=True, slots=True)
class Foreign:
    """Refused: the key is known with other fields, or for another request. ``field`` names the first that differs."""

    field: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Refused: the payment is used up, void, failed or refunded."""

    state: PaymentState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Denied:
    """Refused: ``exposure`` (cap would be exceeded), ``suspended`` (payer), ``idempotency`` (key used for another request),
    ``refund`` (more than is left of the payment).
    """

    why: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The caller's lease is over and somebody else (or nobody) has the charge or payment; nothing was changed.

    ``state`` is the current one, so that the caller can tell what happened.
    """

    state: PaymentState | ChargeState


Answer = Applied | Replayed | Busy | Open | Foreign | Spent | Denied | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the transaction log for people and auditors (DESIGN section 8); ``to_json`` has the fixed names.

    ``status`` is ``success`` once the charge is captured and the payment settled (or, in `deferred`, owed within the
    exposure), ``failure`` when nothing was delivered or the money never came, ``pending`` before either is known.
    """

    timestamp_ms: int
    amount: str
    currency: str
    client_id: str
    endpoint: str
    payment_token: str
    status: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the background has to do, leased to the caller: payments to submit or ask for, refunds to pay."""

    settle: Sequence[PaymentRow] = ()
    ask: Sequence[PaymentRow] = ()
    refunds: Sequence[RefundRow] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRow:
    """A refund as the book has it; ``state`` is ``due``, ``submitted``, ``paid`` or ``cancelled``."""

    id: RowId
    payment_id: RowId
    amount: int
    asset: str
    network: str
    rail: str
    payer: str
    payee: str
    state: str
    reason: str
    created_ms: int
    transaction: str = ""
