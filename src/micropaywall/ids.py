"""Identifiers: typed, time-ordered where the book sorts by them, and readable in text.

A *payment id* is public and derived from the replay key, so that buyer and seller compute the same one without talking:
``pay_`` and the first 20 bytes of the key in hex. Row ids are 16 bytes: 48 bits of milliseconds, then 80 random bits
(the layout of UUID version 7, RFC 9562 section 5.7, without the version bits): inserts go to the right edge of an index.
"""

from __future__ import annotations

import re
from typing import Final, NewType

ReplayKey = NewType("ReplayKey", bytes)
"""32 bytes: one per value that can move once, whatever the encoding of the credential that carries it."""
RowId = NewType("RowId", bytes)
"""16 bytes, time-ordered."""
PaymentId = NewType("PaymentId", str)
"""``pay_`` + 40 hex digits."""
Fingerprint = NewType("Fingerprint", bytes)
"""32 bytes: a digest of one request (method, URL, body)."""

_PAYMENT_ID: Final = re.compile(r"pay_[0-9a-f]{40}", re.ASCII)
PAYMENT_ID_KEY_BYTES: Final = 20


def payment_id(key: ReplayKey) -> PaymentId:
    """The public id of the payment with this replay key."""
    return PaymentId("pay_" + key[:PAYMENT_ID_KEY_BYTES].hex())


def key_prefix(text: str) -> bytes | None:
    """The first 20 bytes of the replay key that a payment id names; None when ``text`` is no payment id."""
    return bytes.fromhex(text[4:]) if _PAYMENT_ID.fullmatch(text) else None


def row_id(now_ms: int, random_10: bytes) -> RowId:
    """A time-ordered id from a time in milliseconds and 10 random bytes, both given by the caller."""
    return RowId(now_ms.to_bytes(6, "big") + random_10)
