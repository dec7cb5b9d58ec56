"""The 402 that every kind of client finds its own offer in, and the headers of a paid answer.

One answer carries: the x402 v2 header, the x402 v1 body, the plain members of a simple agent, the RFC 9457 problem members,
and for browsers an HTML page instead of the body. Rendering is pure and cached: an unpaid request costs no I/O and, for a
URL seen in the last seconds, two dictionary look-ups. Which client reads what, and how it was tried, is in
`docs/interoperability.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from micropaywall import limits
from micropaywall.core import page
from micropaywall.core.matching import seen_of, terms_of
from micropaywall.core.model import Dialect, Offer, Receipt, Request, StoredResponse
from micropaywall.core.quote import write_quote
from micropaywall.core.routes import Route
from micropaywall.errors import MicropaywallError
from micropaywall.money import Price, format_decimal
from micropaywall.proto import x402
from micropaywall.proto.json import encode_json

EXPOSED = b"PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, Payment-Id, Retry-After"
REQUEST_HEADERS = b"PAYMENT-SIGNATURE, X-PAYMENT, Idempotency-Key"
_HTML = b"text/html; charset=utf-8"
_PROBLEM = b"application/problem+json"


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks: ``Accept`` names text/html and the agent calls itself Mozilla."""
    accept, agent = request.header(b"accept"), request.header(b"user-agent")
    return accept is not None and agent is not None and b"text/html" in accept and b"Mozilla" in agent


@dataclass(slots=True)
class Challenger:
    """Renders challenges for one seller. ``offers`` maps a route and price to offers without quotes, in order of preference."""

    quote_key: bytes = field(repr=False)
    offers: Callable[[Route, Price], Sequence[tuple[Any, Offer]]]
    lifetime_s: int = limits.QUOTE_LIFETIME_S
    _cache: dict[tuple[str, str, str, bool], tuple[int, StoredResponse]] = field(default_factory=dict)

    def unpaid(self, route: Route, request: Request, price: Price, *, now_s: int) -> StoredResponse:
        """The 402 for a request without a credential."""
        bucket = now_s // limits.QUOTE_BUCKET_S
        html = wants_page(request)
        key = (route.name, request.method, request.url, html)
        fixed = route.price is price and not route.bind_body
        if fixed:
            cached = self._cache.get(key)
            if cached is not None and cached[0] == bucket:
                return cached[1]
        answer = self._render(route, request, price, bucket, html, None)
        if fixed and len(request.url) <= limits.CACHED_URL_CHARS_MAX:
            if len(self._cache) >= limits.CHALLENGE_CACHE_ENTRIES_MAX:
                self._cache.clear()
            self._cache[key] = (bucket, answer)
        return answer

    def refused(
        self, route: Route, request: Request, price: Price | None, error: MicropaywallError, *, now_s: int
    ) -> StoredResponse:
        """The answer to a refused credential: 402 with a fresh challenge, or the problem alone for any other status."""
        if error.status == 402 and price is not None:
            return self._render(route, request, price, now_s // limits.QUOTE_BUCKET_S, wants_page(request), error)
        return problem_response(error)

    def _render(
        self, route: Route, request: Request, price: Price, bucket: int, html: bool, error: MicropaywallError | None
    ) -> StoredResponse:
        expires_s = (bucket + 1) * limits.QUOTE_BUCKET_S + self.lifetime_s
        pairs = self.offers(route, price)
        seen = seen_of(route, request)
        offers = [
            replace(
                offer,
                extra={
                    **offer.extra,
                    "quote": write_quote(
                        self.quote_key, terms_of(route, request, offer), expires_s=expires_s, seen=seen
                    ),
                },
            )
            for _, offer in pairs
        ]
        reason = error.detail if error else "Payment required"
        headers = [
            (b"content-type", _HTML if html else _PROBLEM),
            (b"cache-control", b"no-store"),
            (b"vary", b"Accept, User-Agent, PAYMENT-SIGNATURE, X-PAYMENT"),
            (b"access-control-allow-origin", b"*"),
            (b"access-control-expose-headers", EXPOSED),
        ]
        if html:
            headers += [
                (b"content-security-policy", page.CONTENT_SECURITY_POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
            ]
        if error is not None and "paymentId" in error.facts:
            headers.append((b"payment-id", str(error.facts["paymentId"]).encode()))
        body = (
            page.payment_page(
                url=request.url,
                description=route.description,
                price=str(offers[0].price) if offers else str(price),
                offers=_rows(offers),
                sandbox=bool(pairs) and all(rail.play_money for rail, _ in pairs),
                error=reason if error else None,
            )
            if html
            else _body(route, request, offers, reason, error)
        )
        headers.append((b"content-length", str(len(body)).encode()))
        room = limits.CHALLENGE_HEADERS_BYTES_MAX - sum(len(name) + len(value) + 4 for name, value in headers)
        headers.append((b"payment-required", _fitting(route, request, offers, reason, error, room)))
        return StoredResponse(402, tuple(headers), body)


def _fitting(
    route: Route, request: Request, offers: Sequence[Offer], reason: str, error: MicropaywallError | None, room: int
) -> bytes:
    """The v2 header within ``room`` bytes.

    Left out, in this order: description, detail of the error, the URL's query, its path, offers from the last.
    """
    code = error.code if error else "Payment required"
    url, plain = request.url, request.url.partition("?")[0]
    scheme, _, rest = plain.partition("://")
    origin = f"{scheme}://{rest.partition('/')[0]}/"
    attempts: list[tuple[str, str, str, Sequence[Offer]]] = [
        (url, route.description, reason, offers),
        (url, "", reason, offers),
        (url, "", code, offers),
        (plain, "", code, offers),
    ]
    attempts += [(origin, "", code, offers[:count]) for count in range(len(offers), 0, -1)]
    value = b""
    for shown, description, text, some in attempts:
        resource = x402.Resource(shown, description, route.mime_type)
        value = x402.write_payment_required_v2(some, resource, error=text)
        if len(value) + len(b"payment-required: \r\n") <= room:
            break
    return value


def _body(
    route: Route, request: Request, offers: Sequence[Offer], reason: str, error: MicropaywallError | None
) -> bytes:
    v1 = [] if route.binding != "first" else [offer for offer in offers if offer.v1_network]
    members: dict[str, Any] = {
        "x402Version": 1,
        "error": reason,
        "accepts": x402.v1_accepts(v1, x402.Resource(request.url, route.description, route.mime_type)),
    }
    members.update(
        error.problem()
        if error
        else {
            "type": "https://micropaywall.dev/problems/payment_required",
            "title": "Payment required",
            "status": 402,
            "detail": f"This resource costs {offers[0].price} per request." if offers else "This resource has a price.",
            "code": "payment_required",
            "retryable": True,
            "moneyMoved": "no",
        }
    )
    if offers:
        first = offers[0]
        members.update(
            amount=Decimal(format_decimal(first.price.decimal)),
            currency=first.price.asset.symbol,
            paymentAddress=first.pay_to,
            network=first.network,
            nonce=first.extra["quote"],
        )
    members.setdefault("hint", f"Pay with an x402 client, or: micropaywall get {request.url}")
    return encode_json(members) + b"\n"


def _rows(offers: Sequence[Offer]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for offer in offers:
        rows += [
            ("Amount", f"{offer.price} ({offer.price.amount_atomic} atomic units)"),
            ("Network", offer.network),
            ("Asset", offer.asset_address),
            ("Pay to", offer.pay_to),
            ("Scheme", f"x402 {offer.scheme}"),
        ]
    return rows


def problem_response(error: MicropaywallError) -> StoredResponse:
    """Any refusal as RFC 9457 problem+json, never cached."""
    body = encode_json(error.problem()) + b"\n"
    headers = [
        (b"content-type", _PROBLEM),
        (b"cache-control", b"no-store"),
        (b"access-control-allow-origin", b"*"),
        (b"access-control-expose-headers", EXPOSED),
        (b"content-length", str(len(body)).encode()),
    ]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if "paymentId" in error.facts:
        headers.append((b"payment-id", str(error.facts["paymentId"]).encode()))
    return StoredResponse(error.status, tuple(headers), body)


def paid_headers(
    headers: Sequence[tuple[bytes, bytes]], receipt: Receipt, dialect: Dialect
) -> list[tuple[bytes, bytes]]:
    """The handler's header lines as they go out with a paid answer: receipt added, never cacheable by others."""
    result: list[tuple[bytes, bytes]] = []
    exposed = False
    cache_control: list[bytes] = []
    for name, value in headers:
        if name == b"cache-control":
            cache_control.append(value)
        elif name == b"access-control-expose-headers":
            exposed = True
            result.append((name, value if value.strip() == b"*" else value + b", " + EXPOSED))
        elif name not in x402.RECEIPT_HEADERS:
            result.append((name, value))
    result.append((b"cache-control", _private(b", ".join(cache_control))))
    if not exposed:
        result.append((b"access-control-expose-headers", EXPOSED))
    result.append(x402.write_receipt(receipt, dialect))
    result.append((b"payment-id", receipt.payment_id.encode()))
    return result


def _private(value: bytes) -> bytes:
    """``Cache-Control`` for one buyer: what the handler said, less everything that lets a shared cache keep it."""
    if not value:
        return b"private, no-store"
    kept = [
        part
        for part in (piece.strip() for piece in value.split(b","))
        if part and part.split(b"=")[0].lower() not in (b"public", b"s-maxage", b"private")
    ]
    return b", ".join([b"private", *kept])
