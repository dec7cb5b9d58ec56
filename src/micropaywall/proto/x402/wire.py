"""The objects of x402 as they are on the wire, versions 2 and 1. Only `proto.x402` sees them.

Optional members may be absent or null when read, and are absent when written. Members that we do not know are skipped by
the structs and stay in the raw bytes, which travel with the parsed value.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

__all__ = [
    "ABSENT",
    "Amount",
    "PaymentPayload",
    "PaymentPayloadOut",
    "PaymentPayloadV1Out",
    "PaymentRequired",
    "PaymentRequiredOut",
    "PaymentRequirements",
    "PaymentRequirementsV1",
    "ResourceInfo",
    "SettleResponse",
    "Version",
    "amount_of",
]

_NAMES = {
    "x402_version": "x402Version",
    "pay_to": "payTo",
    "max_timeout_s": "maxTimeoutSeconds",
    "max_amount_required": "maxAmountRequired",
    "mime_type": "mimeType",
    "service_name": "serviceName",
    "icon_url": "iconUrl",
    "output_schema": "outputSchema",
    "error_reason": "errorReason",
    "error_message": "errorMessage",
}


ABSENT: Final = msgspec.Raw(b"")
"""A raw member that is not there: the very object is what `omit_defaults` leaves out."""


Version = Annotated[int, msgspec.Meta(ge=1, le=99)]
"""x402Version; bounded, because refusals repeat it."""


class _Wire(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename=_NAMES):
    """Named in camel case on the wire, never emitting what was left out."""


AMOUNT_DIGITS_MAX: Final = 78
"""Decimal digits of 2^256 - 1."""
Amount = str
"""Atomic units as a decimal string without sign, leading zero or exponent."""


def amount_of(text: object) -> int | None:
    """The number that a decimal string on the wire stands for, or None when it is none (or above 2^256 - 1)."""
    if type(text) is not str or len(text) > AMOUNT_DIGITS_MAX or not text.isascii() or not text.isdecimal():
        return None
    if text[0] == "0" and text != "0":
        return None
    value = int(text)
    return value if value.bit_length() <= 256 else None


class ResourceInfo(_Wire, frozen=True):
    """v2: what is being sold."""

    url: str
    description: str | None = None
    mime_type: str | None = None
    service_name: str | None = None
    tags: list[str] | None = None
    icon_url: str | None = None


class PaymentRequirements(_Wire, frozen=True):
    """v2: one acceptable way to pay."""

    scheme: str
    network: str
    amount: Amount
    asset: str
    pay_to: str
    max_timeout_s: int
    extra: dict[str, Any] | None = None


class PaymentRequirementsV1(_Wire, frozen=True):
    """v1: one acceptable way to pay. Legacy clients require every member but the last two to be there."""

    scheme: str
    network: str
    max_amount_required: Amount
    asset: str
    pay_to: str
    max_timeout_s: int
    resource: str | None = None
    description: str | None = None
    mime_type: str | None = None
    output_schema: Any = None
    extra: Any = None


class PaymentRequired(_Wire, frozen=True):
    """v1 and v2: a challenge as read. ``accepts`` stay raw, so that one that we do not know spoils no other."""

    x402_version: Version
    accepts: list[msgspec.Raw]
    error: Any = None
    resource: msgspec.Raw = ABSENT
    extensions: msgspec.Raw = ABSENT


class PaymentRequiredOut(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename=_NAMES):
    """v2: a challenge as written."""

    x402_version: Version
    accepts: list[PaymentRequirements]
    resource: ResourceInfo | None = None
    error: str | None = None
    extensions: dict[str, Any] | None = None


class PaymentPayload(_Wire, frozen=True):
    """v1 and v2: a payment as read. v1 has ``scheme`` and ``network``, v2 has ``accepted``."""

    x402_version: Version
    payload: dict[str, Any]
    accepted: dict[str, Any] | None = None
    resource: Any = None
    extensions: dict[str, Any] | None = None
    scheme: str | None = None
    network: str | None = None


class PaymentPayloadOut(_Wire, frozen=True):
    """v2: a payment as written; ``accepted``, ``resource`` and ``extensions`` are the seller's own bytes."""

    x402_version: Version
    accepted: msgspec.Raw
    payload: dict[str, Any]
    resource: msgspec.Raw = ABSENT
    extensions: msgspec.Raw = ABSENT


class PaymentPayloadV1Out(_Wire, frozen=True):
    """v1: a payment as written."""

    x402_version: Version
    scheme: str
    network: str
    payload: dict[str, Any]


class SettleResponse(_Wire, frozen=True):
    """v1 and v2: what became of the payment."""

    success: bool
    transaction: str | None = None
    network: str | None = None
    payer: str | None = None
    amount: Amount | None = None
    error_reason: str | None = None
    error_message: str | None = None
    extra: dict[str, Any] | None = None
