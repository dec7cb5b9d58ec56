"""Quotes: what ties a payment to one request at one price (promise 5 of `docs/architecture.md`).

A seller puts ``extra.quote`` into each x402 v2 offer: an expiry and a MAC over the request and the price. Compliant clients
echo it. Our buyer also derives the 32-byte authorization nonce from it, so the payer's signature covers the quote:

    nonce = salt (16 bytes) || SHA-256("micropaywall/nonce/1" || salt || payer (20 bytes) || quote)[:16]

The salt is random per payment and travels inside the nonce, so no field is added to the wire, and a seller recomputes the
second half. Limits: a client that ignores quotes is bound by its first presentation only; see `docs/security.md`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache
from typing import Final, NamedTuple

from micropaywall import limits
from micropaywall.errors import QuoteExpired, QuoteInvalid

_MAC_BYTES: Final = 16
_TAG: Final = b"micropaywall/quote/1"
_NONCE_TAG: Final = b"micropaywall/nonce/1"
QUOTE_CHARS: Final = 27
_SEEN_BYTES: Final = 12
_SEEN_TAG: Final = b"micropaywall/seen/1"
LONG_QUOTE_CHARS: Final = QUOTE_CHARS + _SEEN_BYTES * 4 // 3
"""20 bytes, and 12 more where a price function saw more of the request than its terms."""


class Terms(NamedTuple):
    """What a quote fixes. ``body_digest`` is SHA-256 of the request body where the route binds it, else b""."""

    method: str
    url: str
    scheme: str
    network: str
    asset: str
    amount_atomic: int
    pay_to: str
    body_digest: bytes = b""


def _computed_mac(key: bytes, terms: Terms, expiry: bytes) -> bytes:
    parts = (
        terms.method.encode(),
        terms.url.encode("utf-8", "surrogateescape"),
        terms.scheme.encode(),
        terms.network.encode(),
        terms.asset.lower().encode(),
        str(terms.amount_atomic).encode(),
        terms.pay_to.lower().encode(),
        terms.body_digest,
    )
    message = _TAG + expiry + b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    return hmac.digest(key, message, "sha256")[:_MAC_BYTES]


_remembered_mac = lru_cache(maxsize=limits.QUOTES_REMEMBERED_MAX)(_computed_mac)
"""Quotes of one URL are equal for ten seconds."""


def _mac(key: bytes, terms: Terms, expiry: bytes) -> bytes:
    """The MAC over ``terms`` and a 4-byte expiry; remembered, unless strangers could fill memory with it."""
    compute = _remembered_mac if len(terms.url) <= limits.CACHED_URL_CHARS_MAX else _computed_mac
    return compute(key, terms, expiry)


def write_quote(key: bytes, terms: Terms, *, expires_s: int, seen: bytes = b"") -> str:
    """The 27-character quote for ``terms``, valid until ``expires_s`` (Unix seconds).

    ``seen``: a digest of what else of the request decided the price. It makes the quote longer, and is no part of the terms:
    a client may send other headers with its payment, as long as the price is the same (see `is_same_request`).
    """
    expiry = expires_s.to_bytes(4, "big")
    quote = base64.urlsafe_b64encode(expiry + _mac(key, terms, expiry)).rstrip(b"=")
    return (quote + base64.urlsafe_b64encode(_seen_mac(key, quote, seen))).decode() if seen else quote.decode()


def _seen_mac(key: bytes, quote: bytes, seen: bytes) -> bytes:
    return hmac.digest(key, _SEEN_TAG + quote + seen, "sha256")[:_SEEN_BYTES]


def is_same_request(key: bytes, quote: object, seen: bytes) -> bool:
    """Whether ``quote``, checked already, was given to a request that looked the same to its price function."""
    if not isinstance(quote, str) or len(quote) != LONG_QUOTE_CHARS:
        return False
    short, mac = quote[:QUOTE_CHARS].encode(), quote[QUOTE_CHARS:].encode()
    return hmac.compare_digest(mac, base64.urlsafe_b64encode(_seen_mac(key, short, seen)))


def check_quote(key: bytes, terms: Terms, quote: object, *, now_s: int) -> None:
    """Accept ``quote`` as ours for exactly these terms, or raise QuoteInvalid or QuoteExpired."""
    if not isinstance(quote, str) or len(quote) not in (QUOTE_CHARS, LONG_QUOTE_CHARS):
        raise QuoteInvalid("the echoed quote does not have the form of ours", expected="the quote of a current 402")
    try:
        raw = base64.b64decode(quote[:QUOTE_CHARS] + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise QuoteInvalid("the echoed quote is not base64url", expected="the quote of a current 402") from None
    expiry, mac = raw[:4], raw[4:]
    if not hmac.compare_digest(mac, _mac(key, terms, expiry)):
        raise QuoteInvalid(
            "the quote was written for another request, price or payee",
            hint="Request the resource without a payment and pay the quote of that answer.",
        )
    if int.from_bytes(expiry, "big") < now_s:
        raise QuoteExpired(
            "the quote has expired", hint="Request the resource again for a new quote; nothing was charged."
        )


def derive_nonce(quote: str, payer_20: bytes, salt_16: bytes) -> bytes:
    """The authorization nonce that binds ``quote`` and ``payer_20`` (address bytes) under ``salt_16``."""
    return salt_16 + hashlib.sha256(_NONCE_TAG + salt_16 + payer_20 + quote.encode()).digest()[:16]


def is_derived(nonce: bytes, quote: str, payer_20: bytes) -> bool:
    """Whether ``nonce`` was derived from ``quote`` by ``payer_20``."""
    return len(nonce) == 32 and hmac.compare_digest(nonce, derive_nonce(quote, payer_20, nonce[:16]))
