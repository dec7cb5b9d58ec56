"""The receipt in a response: `PAYMENT-RESPONSE` (v2) and `X-PAYMENT-RESPONSE` (v1)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from micropaywall.core.model import Dialect, Headers, Receipt
from micropaywall.limits import RECEIPT_HEADER_BYTES_MAX
from micropaywall.money import MAX_ATOMIC
from micropaywall.proto.headers import decode_base64, encode_header
from micropaywall.proto.json import NotReadable, read_json
from micropaywall.proto.x402.networks import v1_of_caip2
from micropaywall.proto.x402.wire import SettleResponse, amount_of

__all__ = ["PAYMENT_RESPONSE", "RECEIPT_HEADERS", "X_PAYMENT_RESPONSE", "read_receipt", "write_receipt"]

PAYMENT_RESPONSE: Final = b"payment-response"
X_PAYMENT_RESPONSE: Final = b"x-payment-response"
RECEIPT_HEADERS: Final = (PAYMENT_RESPONSE, X_PAYMENT_RESPONSE)

_NAMES: Final[dict[str, bytes]] = {"x402/2": PAYMENT_RESPONSE, "x402/1": X_PAYMENT_RESPONSE}
_ID: Final = "paymentId"
_SETTLEMENT: Final = "settlement"
_DEFERRED: Final = "deferred"
"""Our own members of ``extra``; clients that do not know them skip them."""

_decoder: Final = msgspec.json.Decoder(SettleResponse)


def write_receipt(receipt: Receipt, dialect: Dialect) -> tuple[bytes, bytes]:
    """Header name (lower case) and value of ``receipt`` in the dialect that the payment came in.

    A deferred receipt says ``success`` with no transaction and ``extra.settlement`` "deferred".
    """
    deferred = not receipt.settled and not receipt.reason
    extra: dict[str, Any] = {_ID: receipt.payment_id}
    if deferred:
        extra[_SETTLEMENT] = _DEFERRED
    network = receipt.network
    if dialect == "x402/1":
        network = receipt.v1_network or v1_of_caip2(network) or network
    wire = SettleResponse(
        success=receipt.settled or deferred,
        transaction=receipt.transaction,
        network=network,
        payer=receipt.payer or None,
        amount=str(receipt.amount_atomic) if receipt.settled else None,
        error_reason=receipt.reason or None,
        extra=extra,
    )
    return _NAMES[dialect], encode_header(wire)


def read_receipt(headers: Headers) -> Receipt | None:
    """The receipt of a response, or None when there is none that can be read.

    A receipt is the seller's word, not a proof: the caller has the body either way, so one that cannot be read is no error.
    ``network`` is as on the wire (a v1 name in v1). ``amount_atomic`` is 0 where the seller names none, as most do.
    """
    value = _first(headers, PAYMENT_RESPONSE) or _first(headers, X_PAYMENT_RESPONSE)
    if value is None:
        return None
    try:
        wire = read_json(decode_base64(value, limit=RECEIPT_HEADER_BYTES_MAX), _decoder)
    except NotReadable:
        return None
    extra = wire.extra or {}
    own_id = extra.get(_ID)
    amount = amount_of(wire.amount) or 0
    return Receipt(
        payment_id=own_id if type(own_id) is str else "",
        settled=wire.success and extra.get(_SETTLEMENT) != _DEFERRED,
        payer=wire.payer or "",
        network=wire.network or "",
        transaction=wire.transaction or "",
        amount_atomic=amount if amount <= MAX_ATOMIC else 0,
        reason="" if wire.success else wire.error_reason or "unexpected_settle_error",
    )


def _first(headers: Headers, name: bytes) -> bytes | None:
    for key, value in headers:
        if key == name:
            return value
    return None
