"""What the seller's flow asks its adapter to do, as typed values, and what comes back.

An effect is yielded by `core.paywall.serve`; the adapter performs it and sends its result in. Results are documented at each.
Nobody changes one; those of every paid request are not frozen, because a frozen dataclass costs several times as much to make.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from micropaywall.core import book
from micropaywall.core.model import Dialect, Headers, Offer, Receipt, Request, StoredResponse
from micropaywall.core.routes import Route
from micropaywall.ids import ReplayKey, RowId
from micropaywall.money import Price
from micropaywall.observe import Event


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Read the whole request body, at most ``limit`` bytes (RequestBodyTooLarge). Result: bytes."""

    limit: int


@dataclass(frozen=True, slots=True)
class AskPrice:
    """Call the route's price function with the request. Result: what it returned."""

    route: Route
    request: Request


@dataclass(slots=True)
class Book:
    """Carry out a command in the book. Result: book.Answer."""

    command: book.Command


@dataclass(frozen=True, slots=True)
class FindPayment:
    """Look a payment up by its replay key. Result: PaymentRow | None."""

    key: ReplayKey


@dataclass(frozen=True, slots=True)
class FindResponse:
    """Fetch the kept response of a charge. Result: StoredResponse | None."""

    charge_id: RowId


@dataclass(slots=True)
class Settle:
    """Submit the payment (or ask for it, when it was submitted before) and wait, bounded. Result: Outcome."""

    payment: book.PaymentRow
    ask_first: bool


@dataclass(slots=True)
class RunHandler:
    """Run the resource, and keep the lease of ``charge_id`` alive meanwhile. Result: Handled.

    An exception thrown in releases the charge and comes out again. ``facts`` is what the application may know of the payment:
    ``paymentId``, ``payer``, ``amount`` (atomic), ``asset``, ``network``.
    """

    timeout_s: float
    facts: Mapping[str, str]
    charge_id: RowId | None = None


@dataclass(slots=True)
class Stream:
    """Send the head now, with the receipt (None: nothing was paid), then pass the rest through as it comes.

    Result: StoredResponse | None, the whole of it when it stayed below the limit for keeping.
    """

    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class NewIds:
    """Result: (now in milliseconds, two fresh row ids)."""


@dataclass(frozen=True, slots=True)
class Now:
    """Result: milliseconds since the epoch."""


@dataclass(slots=True)
class NoteRequest:
    """Show a rail the request behind a payment (the sandbox reads its faults from it). May raise RequestRefused."""

    rail: str
    network: str
    key: ReplayKey
    headers: Headers


@dataclass(slots=True)
class Tell:
    """Tell the observer."""

    event: Event


Effect = (
    ReadBody
    | AskPrice
    | Book
    | FindPayment
    | FindResponse
    | Settle
    | RunHandler
    | Stream
    | NewIds
    | Now
    | NoteRequest
    | Tell
)


@dataclass(slots=True)
class Handled:
    """What the resource answered. ``response`` is None when it streams, or is too large to hold or to keep."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    response: StoredResponse | None


@dataclass(slots=True)
class Answer:
    """What goes back to the buyer. ``response`` None: it was streamed already."""

    response: StoredResponse | None
    receipt: Receipt | None
    dialect: Dialect
    served: bool


class Site(Protocol):
    """What the flow needs to know of the seller; pure."""

    owner: str
    quote_key: bytes
    observed: bool
    noted_headers: frozenset[bytes]

    def offers(self, route: Route, price: Price) -> Sequence[tuple[Any, Offer]]:
        """The (SellerRail, Offer without quote) pairs of a route at a price."""
        ...


Flow = Generator[Effect, Any, Answer]
