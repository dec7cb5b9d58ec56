"""The nouns of a paid request as values: request, offer, credential, verified payment, receipt, outcome of a settlement.

Nothing here knows a wire version or a database; `proto` translates to and from bytes, `core.book` to and from the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

from micropaywall.ids import ReplayKey
from micropaywall.money import Money

Headers = Sequence[tuple[bytes, bytes]]
"""Raw header lines, in order, names lower-cased; repeated names stay repeated."""

SettleMode = Literal["before", "after", "deferred"]
"""When the money moves, seen from the handler (DESIGN section 4; `docs/concepts.md`)."""

Binding = Literal["first", "required", "strict"]
"""How firmly a payment is tied to one request.

``first``: an echoed quote is enforced; a payment without one is tied to the first request that presents it.
``required``: a valid echoed quote is needed. ``strict``: the payment's nonce must also be derived from the quote, which
makes a stolen credential useless elsewhere; only our buyer does that.
"""

Dialect = Literal["x402/2", "x402/1"]
"""The wire form in which a credential came, and in which its receipt goes back."""


@dataclass(slots=True)
class Request:
    """One HTTP request as the paywall sees it. ``url`` is the public one, absolute, without fragment.

    ``target`` is the raw request target (path and query, bytes as received); ``path`` the percent-decoded path as the
    framework routes it. ``body`` is None until it was read (only when a price, a fingerprint or a binding needs it).
    ``framed``: the protocol is HTTP/1, where headers announce a body; over HTTP/2 and 3 one may come without.
    """

    method: str
    target: bytes
    path: str
    url: str
    headers: Headers
    client: str = ""
    body: bytes | None = None
    framed: bool = True

    @property
    def may_have_body(self) -> bool:
        """Whether there can be a body: in HTTP/1 when the headers announce one (RFC 9112 section 6)."""
        return not self.framed or any(
            key == b"transfer-encoding" or (key == b"content-length" and value != b"0") for key, value in self.headers
        )

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's parameters, decoded, each with all its values in order."""
        return parse_qs(self.target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True, max_num_fields=1_000)

    def header(self, name: bytes) -> bytes | None:
        """The value of the only header line called ``name`` (lower case), or None; the first when there are several."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def header_all(self, name: bytes) -> list[bytes]:
        """Every value of the header ``name`` (lower case), in order."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Offer:
    """One acceptable way to pay: x402's PaymentRequirements, version-neutral.

    ``network`` is CAIP-2, ``price.asset`` carries the asset; ``asset_address`` is what goes on the wire. ``extra`` is
    scheme data (EIP-712 domain name and version, quote). ``v1_network`` names the network for x402 v1, or "" when v1
    clients cannot pay this offer.
    """

    scheme: str
    network: str
    price: Money
    asset_address: str
    pay_to: str
    max_timeout_s: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    v1_network: str = ""


@dataclass(slots=True)  # frozen would cost time on the hot path; never changed
class Credential:
    """What a buyer sent: parsed once, raw bytes kept.

    ``accepted`` is the offer the client says it took (None for x402 v1, which echoes none): a hint for matching, never a
    source of truth. ``payload`` is the scheme's own object. ``raw`` is the header value as received.
    """

    dialect: Dialect
    scheme: str
    network: str
    accepted: Mapping[str, Any] | None
    payload: Mapping[str, Any]
    resource_url: str | None
    extensions: Mapping[str, Any]
    raw: bytes


@dataclass(slots=True)  # frozen would cost time on the hot path; never changed
class VerifiedPayment:
    """A credential whose signature, amount, payee and window a rail has checked locally.

    ``key`` is canonical: every encoding and dialect of the same authorization gives the same 32 bytes.
    ``instruction`` is all the rail needs to settle it later, in a stable encoding; it is stored with the payment.
    ``nonce`` is the 32-byte authorization nonce (for quote binding). Times are Unix seconds.
    """

    key: ReplayKey
    rail: str
    network: str
    price: Money
    payer: str
    payee: str
    valid_after: int
    valid_before: int
    nonce: bytes
    instruction: bytes


@dataclass(slots=True)  # frozen would cost time on the hot path; never changed
class StoredResponse:
    """A handler's response, kept so that a retry gets the same bytes. Hop-by-hop headers are not in ``headers``."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


# -- what a rail says of a settlement ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settled:
    """The value moved. ``final`` when it can no longer be reorganised away (depth reached)."""

    transaction: str
    amount_atomic: int
    block: int | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The rail says that the value will never move. ``code`` is the x402 reason."""

    code: str
    detail: str = ""


Doubt = Literal["unanswered", "absent", "pending", "in_flight"]
"""Why there is no verdict: no answer came (ask before anything else), the network answered that it has no such transfer (it
may be submitted, again), the network has it and waits for a block, or our own call has not ended yet."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No verdict: a lost answer, a timeout, a transaction not mined yet. Ask again."""

    detail: str
    transaction: str = ""
    doubt: Doubt = "unanswered"


Outcome = Settled | Rejected | Unknown


@dataclass(slots=True)  # frozen would cost time on the hot path; never changed
class Receipt:
    """What the buyer gets with the response: the decoded PAYMENT-RESPONSE, version-neutral.

    ``settled`` False with ``reason`` "" means accepted and settled later (`deferred`). ``v1_network`` is the name that x402 v1
    clients know the network by.
    """

    payment_id: str
    settled: bool
    payer: str
    network: str
    transaction: str
    amount_atomic: int
    reason: str = ""
    v1_network: str = ""
