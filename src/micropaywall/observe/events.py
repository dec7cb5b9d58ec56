"""What happens to payments, as values that may be logged, counted and traced.

An event holds ids, names, addresses, amounts and codes: nothing that could move money or prove identity. No header, no
signature, no body, no authorization ever stands in one (tests/unit/test_observe.py keeps the list of field types closed).

Seller's side, in the order of a payment's life:

    Offered       a 402 went out                             Settled      the value moved
    Refused       a credential or request was refused        Rejected     the rail says that it never will
    Reserved      a payment is known, a charge drawn         Unknown      the rail gave no verdict; asked again later
    Served        a response was captured for a charge       Reorganised  a settled payment is no longer on the chain
    Released      the charge was given back                  Refunded     value went back to the payer
    Replayed      a kept response was served again           Recovered    the background finished what a crash left

Buyer's side: Paid (a payment was signed and sent), Bought (its response came), Declined (policy said no, nothing was signed).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

Severity = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. ``name`` is stable; ``severity`` is for logs."""

    name: ClassVar[str] = "event"
    severity: ClassVar[Severity] = "info"

    def facts(self) -> dict[str, str | int]:
        """The fields that say something, by name, in order."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value not in ("", None)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered(Event):
    """A 402 went out. ``route`` is ``"GET /path"`` as in the book."""

    name: ClassVar[str] = "offered"
    severity: ClassVar[Severity] = "debug"
    route: str
    price: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """A request was refused; ``code`` is the error's (`micropaywall.errors`)."""

    name: ClassVar[str] = "refused"
    route: str
    code: str
    payment_id: str = ""
    payer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved(Event):
    """A charge of ``amount_atomic`` units of ``asset`` was drawn from a payment."""

    name: ClassVar[str] = "reserved"
    severity: ClassVar[Severity] = "debug"
    payment_id: str
    route: str
    rail: str
    payer: str
    amount_atomic: int
    asset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Event):
    """The handler's response was captured; ``latency_ms`` is the handler's."""

    name: ClassVar[str] = "served"
    payment_id: str
    route: str
    status: int | None
    amount_atomic: int
    asset: str
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Event):
    """The handler failed or gave up: nobody is charged."""

    name: ClassVar[str] = "released"
    severity: ClassVar[Severity] = "warning"
    payment_id: str
    route: str
    reason: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed(Event):
    """The same credential with the same request got the kept response again."""

    name: ClassVar[str] = "replayed"
    payment_id: str
    route: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Event):
    """The value moved."""

    name: ClassVar[str] = "settled"
    payment_id: str
    rail: str
    network: str
    transaction: str
    amount_atomic: int
    asset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Event):
    """The rail says that the value will never move; ``code`` is the rail's reason."""

    name: ClassVar[str] = "rejected"
    severity: ClassVar[Severity] = "warning"
    payment_id: str
    rail: str
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Event):
    """The rail gave no verdict; the payment stays in settling and is asked for again."""

    name: ClassVar[str] = "unknown"
    severity: ClassVar[Severity] = "warning"
    payment_id: str
    rail: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorganised(Event):
    """A settled payment is no longer on the chain; it is submitted again."""

    name: ClassVar[str] = "reorganised"
    severity: ClassVar[Severity] = "warning"
    payment_id: str
    rail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded(Event):
    """``amount_atomic`` units of ``asset`` went back to the payer."""

    name: ClassVar[str] = "refunded"
    payment_id: str
    transaction: str
    amount_atomic: int
    asset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Event):
    """The background took up ``count`` payments or charges that a crash or a lost answer had left; ``what`` says how."""

    name: ClassVar[str] = "recovered"
    what: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid(Event):
    """A payment was signed, journaled and sent (buyer)."""

    name: ClassVar[str] = "paid"
    payment_id: str
    host: str
    network: str
    payee: str
    amount_atomic: int
    asset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought(Event):
    """The response to a payment came (buyer)."""

    name: ClassVar[str] = "bought"
    payment_id: str
    host: str
    status: int
    transaction: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined(Event):
    """The policy did not allow a payment; nothing was signed (buyer). ``code`` is the error's."""

    name: ClassVar[str] = "declined"
    severity: ClassVar[Severity] = "warning"
    host: str
    code: str
