"""Which of our offers a credential means, and whether it was quoted for this very request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from micropaywall.core.effects import Site
from micropaywall.core.model import Credential, Offer, Request, VerifiedPayment
from micropaywall.core.quote import Terms, check_quote, is_derived, is_same_request
from micropaywall.core.routes import Route
from micropaywall.errors import OfferMismatch, QuoteInvalid
from micropaywall.ids import Fingerprint
from micropaywall.money import Money, Price
from micropaywall.proto.x402 import CREDENTIAL_HEADERS


def terms_of(route: Route, request: Request, offer: Offer) -> Terms:
    """What a quote for this request and offer fixes."""
    return Terms(
        method=_method(request.method),
        url=request.url,
        scheme=offer.scheme,
        network=offer.network,
        asset=offer.asset_address,
        amount_atomic=offer.price.amount_atomic,
        pay_to=offer.pay_to,
        body_digest=hashlib.sha256(request.body or b"").digest() if route.bind_body else b"",
    )


def seen_of(route: Route, request: Request) -> bytes:
    """A digest of what a price function could see besides method and URL; b"" where the price is fixed.

    Headers that differ between a request and the same request with its payment, or from hop to hop, are left out.
    """
    if isinstance(route.price, Price):
        return b""
    digest = hashlib.sha256(hashlib.sha256(request.body or b"").digest() if route.quotes_body else b"")
    for name, value in sorted((bytes(name), bytes(value)) for name, value in request.headers):
        if name not in _PASSING_HEADERS:
            digest.update(b"%d:%b%d:%b" % (len(name), name, len(value), value))
    return digest.digest()


_PASSING_HEADERS: Final = frozenset(
    {
        *CREDENTIAL_HEADERS,
        b"access-control-expose-headers",  # the official x402 clients send it with a payment
        b"connection",
        b"content-length",
        b"idempotency-key",
        b"keep-alive",
        b"sandbox-fault",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"x-request-id",
    }
)


def binding_of(request: Request) -> bytes:
    """What a payment is tied to by its first presentation: method and URL."""
    return hashlib.sha256(f"{_method(request.method)} {request.url}".encode("utf-8", "surrogateescape")).digest()


def fingerprint_of(request: Request) -> Fingerprint:
    """One request: method, URL and body. The same credential with the same fingerprint gets the stored response."""
    digest = hashlib.sha256(f"{request.method} {request.url}\n".encode("utf-8", "surrogateescape"))
    digest.update(request.body or b"")
    return Fingerprint(digest.digest())


def _method(method: str) -> str:
    return "GET" if method == "HEAD" else method


def match_offer(
    site: Site, route: Route, price: Price, request: Request, credential: Credential, *, now_s: int
) -> tuple[Any, Offer, str | None]:
    """Our own offer that the credential means, recomputed; its rail; and the echoed quote, checked.

    A valid quote for another amount is honoured: the price may have changed since. One for less than what a price function
    asks now is honoured only for the very request that it was given to: another may simply be dearer. What the client echoes
    is only ever compared, never believed. Raises OfferMismatch, QuoteInvalid, QuoteExpired.
    """
    candidates = [(rail, offer) for rail, offer in site.offers(route, price) if rail.accepts(credential)]
    if not candidates:
        raise OfferMismatch(
            "this resource does not take payments of that scheme on that network",
            expected=[f"{offer.scheme} on {offer.network}" for _, offer in site.offers(route, price)],
            received=f"{credential.scheme} on {credential.network}"[:200],
        )
    accepted = credential.accepted
    if accepted is None:
        return *candidates[0], None
    differs: tuple[str, object, object] = ("offer", "", "")
    quote = _quote_in(accepted)
    for rail, current in candidates:
        offer = current
        found = _difference(offer, accepted)
        if found is not None and found[0] == "amount" and quote is not None:
            offer = _at_quoted_amount(offer, accepted)
            found = _difference(offer, accepted)
        if found is None:
            if quote is not None:
                check_quote(site.quote_key, terms_of(route, request, offer), quote, now_s=now_s)
            if offer is current or pays_for(route, current, offer.price):
                return rail, offer, quote
            if is_same_request(site.quote_key, quote, seen_of(route, request)):
                return rail, offer, quote
            found = _difference(current, accepted)
        if found is None:
            raise LookupError("an offer differs from itself in nothing")
        differs = found
    raise OfferMismatch(
        f"the payment accepts an offer whose {differs[0]} is not ours",
        expected=differs[1],
        received=str(differs[2])[:200],
        hint="Request the resource without a payment and accept one of the offers of that answer, unchanged.",
    )


def pays_for(route: Route, current: Offer, price: Money) -> bool:
    """Whether what was agreed at another price still buys the request, which costs ``current`` now.

    A fixed price that has changed is the seller's affair. A price function's cheaper answer may have been to another request.
    """
    return isinstance(route.price, Price) or price.amount_atomic >= current.price.amount_atomic


def _same(offer: Offer, accepted: Mapping[str, Any]) -> bool:
    """Whether ``accepted`` repeats the offer to the letter, as nearly all do: `_difference` cheaply, where there is none."""
    get = accepted.get
    timeout_s = get("maxTimeoutSeconds")
    extra = get("extra") or {}
    return (
        get("payTo") == offer.pay_to
        and get("amount") == str(offer.price.amount_atomic)
        and get("asset") == offer.asset_address
        and get("network") == offer.network
        and get("scheme") == offer.scheme
        and timeout_s == offer.max_timeout_s
        and timeout_s.__class__ is int
        and extra.__class__ is dict
        and all(name in extra and extra[name] == expected for name, expected in offer.extra.items())
    )


def _difference(offer: Offer, accepted: Mapping[str, Any]) -> tuple[str, object, object] | None:
    if _same(offer, accepted):
        return None
    ours: dict[str, object] = {
        "scheme": offer.scheme,
        "network": offer.network,
        "asset": offer.asset_address.lower(),
        "payTo": offer.pay_to.lower(),
        "amount": str(offer.price.amount_atomic),
        "maxTimeoutSeconds": offer.max_timeout_s,
    }
    for name, expected in ours.items():
        received = accepted.get(name)
        if name in ("asset", "payTo") and isinstance(received, str):
            received = received.lower()
        if received != expected or isinstance(received, bool):
            return name, expected, received
    extra = accepted.get("extra") or {}
    for name, expected in offer.extra.items():
        if not isinstance(extra, Mapping) or extra.get(name) != expected:
            return f"extra.{name}", expected, extra.get(name) if isinstance(extra, Mapping) else extra
    return None


def _quote_in(accepted: Mapping[str, Any]) -> str | None:
    extra = accepted.get("extra")
    quote = extra.get("quote") if isinstance(extra, Mapping) else None
    if quote is not None and not isinstance(quote, str):
        raise QuoteInvalid("the echoed quote is not a string", received=type(quote).__name__)
    return quote


def _at_quoted_amount(offer: Offer, accepted: Mapping[str, Any]) -> Offer:
    amount = accepted.get("amount")
    if (
        not isinstance(amount, str)
        or not amount.isascii()
        or not amount.isdigit()
        or len(amount) > 19
        or int(amount) == 0
    ):
        return offer
    price = Money(int(amount), offer.price.asset)
    return Offer(
        offer.scheme,
        offer.network,
        price,
        offer.asset_address,
        offer.pay_to,
        offer.max_timeout_s,
        offer.extra,
        offer.v1_network,
    )


def check_binding(route: Route, verified: VerifiedPayment, quote: str | None) -> None:
    if route.binding == "first":
        return
    if quote is None:
        raise QuoteInvalid(
            "this resource takes only payments that echo its quote",
            expected="accepted.extra.quote of a current 402",
            hint="Use an x402 v2 client, which echoes the accepted offer.",
        )
    if route.binding == "strict" and not is_derived(verified.nonce, quote, bytes.fromhex(verified.payer[2:])):
        raise QuoteInvalid(
            "this resource takes only payments whose nonce is derived from its quote",
            expected='salt(16) || SHA-256("micropaywall/nonce/1" || salt || payer || quote)[:16]',
            hint="The micropaywall client does this; see the page on security in the documentation.",
        )
