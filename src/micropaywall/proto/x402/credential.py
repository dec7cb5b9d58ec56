"""The payment in a request: `PAYMENT-SIGNATURE` (v2) and `X-PAYMENT` (v1), read by sellers and written by buyers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from micropaywall.core.model import Credential, Dialect, Headers
from micropaywall.errors import CredentialMalformed, CredentialsConflict
from micropaywall.limits import CREDENTIAL_HEADER_BYTES_MAX
from micropaywall.proto.headers import decode_base64, encode_header
from micropaywall.proto.json import NotReadable, encode_json, read_json
from micropaywall.proto.x402.wire import ABSENT, PaymentPayload, PaymentPayloadOut, PaymentPayloadV1Out

__all__ = [
    "CREDENTIAL_HEADERS",
    "PAYMENT_SIGNATURE",
    "X_PAYMENT",
    "read_credential",
    "write_payment_v1",
    "write_payment_v2",
]

PAYMENT_SIGNATURE: Final = b"payment-signature"
X_PAYMENT: Final = b"x-payment"
CREDENTIAL_HEADERS: Final = (PAYMENT_SIGNATURE, X_PAYMENT)
"""Request headers, lower case, that carry a payment. They are secret while the payment is not spent."""

_DIALECTS: Final[dict[bytes, Dialect]] = {PAYMENT_SIGNATURE: "x402/2", X_PAYMENT: "x402/1"}
_VERSIONS: Final = {"x402/2": 2, "x402/1": 1}
_NAMES: Final = {"x402/2": "PAYMENT-SIGNATURE", "x402/1": "X-PAYMENT"}
_EXPECTED: Final = {
    "x402/2": "base64 of JSON with x402Version 2, accepted and payload",
    "x402/1": "base64 of JSON with x402Version 1, scheme, network and payload",
}
_NOTHING: Final[Mapping[str, Any]] = {}

_decoder: Final = msgspec.json.Decoder(PaymentPayload)


def read_credential(headers: Headers) -> Credential | None:
    """The payment that a request carries, or None.

    The same value twice (in two lines, or in both headers) is one payment. Raises CredentialsConflict when the values
    differ, CredentialMalformed when the value cannot be read. Parsed once: what is verified is what was parsed, so a
    doubled JSON key has one meaning (its last).
    """
    found: bytes | None = None
    dialect: Dialect = "x402/2"
    for name, value in headers:
        if name in CREDENTIAL_HEADERS:
            if found is None:
                found, dialect = value, _DIALECTS[name]
            elif value != found:
                raise CredentialsConflict(
                    "the request carries two payments that differ",
                    expected="one PAYMENT-SIGNATURE (x402 v2) or one X-PAYMENT (v1)",
                    hint="Send one of them; nothing was charged.",
                )
            elif name == PAYMENT_SIGNATURE:
                dialect = "x402/2"
    return None if found is None else _read(found, dialect)


def _read(value: bytes, dialect: Dialect) -> Credential:
    try:
        wire = read_json(decode_base64(value, limit=CREDENTIAL_HEADER_BYTES_MAX), _decoder)
    except NotReadable as error:
        raise _malformed(dialect, str(error)) from None
    if wire.x402_version != _VERSIONS[dialect]:
        raise _malformed(dialect, f"it says x402Version {wire.x402_version}")
    if dialect == "x402/2":
        accepted = wire.accepted
        if accepted is None:
            raise _malformed(dialect, "it has no accepted")
        scheme, network = accepted.get("scheme"), accepted.get("network")
    else:
        accepted = None
        scheme, network = wire.scheme, wire.network
    if type(scheme) is not str or type(network) is not str:
        raise _malformed(dialect, "it names no scheme or no network")
    resource = wire.resource
    url = resource.get("url") if type(resource) is dict else None
    return Credential(
        dialect,
        scheme,
        network,
        accepted,
        wire.payload,
        url if type(url) is str else None,
        wire.extensions or _NOTHING,
        value,
    )


def _malformed(dialect: Dialect, why: str) -> CredentialMalformed:
    return CredentialMalformed(
        f"{_NAMES[dialect]} could not be read: {why}",
        expected=_EXPECTED[dialect],
        received=why,
        hint="Request the resource without a payment to see its offers.",
    )


def write_payment_v2(
    requirements: bytes,
    payload: Mapping[str, Any],
    *,
    resource: bytes | None = None,
    extensions: Mapping[str, Any] | bytes | None = None,
) -> tuple[str, str]:
    """Header name and value of a v2 payment.

    ``requirements`` and ``resource`` are raw JSON as the challenge had them, and are echoed byte for byte;
    ``extensions`` likewise, or an object of one's own.
    """
    if extensions is not None and not isinstance(extensions, bytes):
        extensions = encode_json(extensions)
    wire = PaymentPayloadOut(
        2,
        msgspec.Raw(requirements),
        dict(payload),
        ABSENT if resource is None else msgspec.Raw(resource),
        ABSENT if extensions is None else msgspec.Raw(extensions),
    )
    return _NAMES["x402/2"], encode_header(wire).decode("ascii")


def write_payment_v1(scheme: str, network: str, payload: Mapping[str, Any]) -> tuple[str, str]:
    """Header name and value of a v1 payment; ``network`` is the v1 name."""
    return _NAMES["x402/1"], encode_header(PaymentPayloadV1Out(1, scheme, network, dict(payload))).decode("ascii")
