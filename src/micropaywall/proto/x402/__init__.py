"""x402, versions 2 and 1: challenges, credentials and receipts over HTTP.

Source: the specifications of the x402 foundation and the behaviour of PyPI x402 2.25.0 and npm @x402 2.27; where they and
the legacy clients (PyPI x402 0.2.1, npm x402-fetch 1.2.0) ask for more, that is written so as to satisfy all of them.
"""

from __future__ import annotations

from micropaywall.proto.x402.challenge import (
    PAYMENT_REQUIRED,
    Challenge,
    OfferRead,
    Resource,
    asset_id,
    read_challenge,
    v1_accepts,
    write_payment_required_v2,
)
from micropaywall.proto.x402.credential import (
    CREDENTIAL_HEADERS,
    PAYMENT_SIGNATURE,
    X_PAYMENT,
    read_credential,
    write_payment_v1,
    write_payment_v2,
)
from micropaywall.proto.x402.receipt import (
    PAYMENT_RESPONSE,
    RECEIPT_HEADERS,
    X_PAYMENT_RESPONSE,
    read_receipt,
    write_receipt,
)

__all__ = [
    "CREDENTIAL_HEADERS",
    "PAYMENT_REQUIRED",
    "PAYMENT_RESPONSE",
    "PAYMENT_SIGNATURE",
    "RECEIPT_HEADERS",
    "X_PAYMENT",
    "X_PAYMENT_RESPONSE",
    "Challenge",
    "OfferRead",
    "Resource",
    "asset_id",
    "read_challenge",
    "read_credential",
    "read_receipt",
    "v1_accepts",
    "write_payment_required_v2",
    "write_payment_v1",
    "write_payment_v2",
    "write_receipt",
]
