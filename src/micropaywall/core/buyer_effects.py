"""What the buyer's flow takes, asks for and gives: values and typed effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from micropaywall.core.budget import Budget
from micropaywall.core.drive import Effect
from micropaywall.core.model import Dialect, Headers, Offer, Receipt
from micropaywall.core.policy import HostFacts, Policy, Reason, Target
from micropaywall.core.purchase import HeaderLine, PurchaseEvent, PurchaseRow
from micropaywall.errors import MoneyMoved
from micropaywall.ids import Fingerprint, ReplayKey
from micropaywall.money import Asset, Money

__all__ = [
    "Answer",
    "ApprovalRequest",
    "Approve",
    "AskStatus",
    "Bought",
    "Buyer",
    "Call",
    "Draft",
    "Entropy",
    "FindCall",
    "Journal",
    "KeepBody",
    "KnowHost",
    "NoAnswer",
    "Now",
    "OpenWallet",
    "Peek",
    "Record",
    "Reserve",
    "Send",
    "Sign",
    "Signed",
    "Wait",
]


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who buys: pure facts. ``payer`` is the wallet's address; ``can_ask`` says whether somebody can approve payments.

    ``budget`` None: only the limits that the user's store has. ``agent`` is the name under which they are counted.
    """

    policy: Policy
    budget: Budget | None
    agent: str
    payer: str
    can_ask: bool
    can_pay: Callable[[Offer], bool]
    assets: Callable[[str, str], Asset | None]


@dataclass(frozen=True, slots=True)
class Call:
    """One logical call of the program that buys. ``url`` is absolute, without userinfo and fragment.

    ``key`` is its idempotency key: the answer of a call with this key that was served before is fetched again.
    ``same_if_equal``: without a key, equal requests (method, URL, body) are one logical call as long as its payment has no
    verdict; else every call is one of its own.
    """

    method: str
    url: str
    key: str = ""
    same_if_equal: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, body unread. ``hops`` are the URLs that were asked, in order; the last one answered.

    ``handle`` is the adapter's own response object; the flow only passes it around.
    """

    status: int
    headers: Headers
    hops: tuple[str, ...]
    handle: object


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may or may not have arrived; no answer did."""

    cause: Exception


@dataclass(frozen=True, slots=True)
class Draft:
    """A payment that is about to be reserved. ``endpoint`` and ``call_key`` are those of `PurchaseRow`.

    ``replay_served``: a call with this key that was served before counts as the same call.
    """

    agent: str
    call_key: str
    replay_served: bool
    fingerprint: Fingerprint
    endpoint: str
    target: Target
    offer: Offer
    dialect: Dialect
    payer: str


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What a person is asked. No word of it comes from the seller but price, payee and network, which are checked values."""

    method: str
    url: str
    authority: str
    price: Money
    payee: str
    network: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed payment: the scheme's payload, its replay key, and when it stops being valid (Unix seconds)."""

    payload: Mapping[str, Any]
    key: ReplayKey
    valid_before_s: int


@dataclass(frozen=True, slots=True)
class Bought:
    """What comes out: the answer for the caller and, when something was paid, the payment and the seller's receipt."""

    answer: Answer
    purchase: PurchaseRow | None = None
    receipt: Receipt | None = None


# -- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send(Effect["Answer | NoAnswer"]):
    """Send the caller's request. With ``onto`` the request that got that answer, again; with ``credential`` as an extra header.

    Without a credential redirects are followed as the caller's client does; with one, never. A transport failure is
    NoAnswer. The answer to an earlier Send is closed.
    """

    credential: HeaderLine | None = None
    onto: Answer | None = None


@dataclass(frozen=True, slots=True)
class Peek(Effect["bytes | None"]):
    """Read and decode the beginning of an answer's body, without taking it away from the caller.

    None when it is longer than ``limit`` or cannot be decoded within it.
    """

    answer: Answer
    limit: int


@dataclass(frozen=True, slots=True)
class AskStatus(Effect["tuple[int, bytes | None] | None"]):
    """GET ``url`` with ``credential``, following nothing. Result: status and body up to ``limit``; None without an answer."""

    url: str
    credential: HeaderLine
    limit: int


@dataclass(frozen=True, slots=True)
class OpenWallet(Effect[Buyer]):
    """Who buys; opens the wallet the first time, which may ask for a passphrase. Raises WalletError subclasses."""


@dataclass(frozen=True, slots=True)
class KeepBody(Effect[bytes]):
    """Make sure that the request's body can be sent again. Result: its SHA-256. Raises RequestNotReplayable."""


@dataclass(frozen=True, slots=True)
class Wait(Effect[None]):
    """Let ``seconds`` pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now(Effect[int]):
    """The time: milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Entropy(Effect[bytes]):
    """``count`` random bytes."""

    count: int


@dataclass(frozen=True, slots=True)
class KnowHost(Effect[HostFacts]):
    """What is remembered of the host at ``authority``."""

    authority: str


@dataclass(frozen=True, slots=True)
class FindCall(Effect["PurchaseRow | None"]):
    """The payment of the logical call with this key, newest first, unless it was released, rejected or expired."""

    agent: str
    call_key: str


@dataclass(frozen=True, slots=True)
class Reserve(Effect["tuple[PurchaseRow, bool]"]):
    """Hold the budget for ``draft``, atomically. Result: the row, and whether it is new.

    It is not new when another call with the same key came first. Raises BudgetExceeded, KillSwitchOn, StoreUnavailable.
    """

    draft: Draft
    budget: Budget | None


@dataclass(frozen=True, slots=True)
class Approve(Effect[bool]):
    """Ask a person (or whatever the caller put there)."""

    request: ApprovalRequest


@dataclass(frozen=True, slots=True)
class Sign(Effect[Signed]):
    """Sign a payment of ``offer``. Raises WalletError subclasses."""

    offer: Offer
    now_s: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Journal(Effect[PurchaseRow]):
    """Write the signed payment down, durably. Raises KillSwitchOn, or PolicyRefused when the reservation is gone."""

    row: PurchaseRow
    key: ReplayKey
    credential: HeaderLine
    valid_before_s: int


@dataclass(frozen=True, slots=True)
class Record(Effect[PurchaseRow]):
    """Write down what happened to a payment."""

    row: PurchaseRow
    event: PurchaseEvent
    moved: MoneyMoved = "unknown"
    reason: str = ""
    status: int | None = None
    transaction: str = ""
