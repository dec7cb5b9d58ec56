"""What ``GET /payments/{id}`` shows the holder of a credential: the state of the money, the deliveries, the kept response."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from micropaywall.core.book import ChargeRow, PaymentRow
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import StoredResponse
from micropaywall.ids import payment_id
from micropaywall.proto.json import encode_json

_MONEY_MOVED = {
    PaymentState.HELD: "no",
    PaymentState.SETTLING: "unknown",
    PaymentState.SETTLED: "yes",
    PaymentState.FINAL: "yes",
    PaymentState.FAILED: "no",
    PaymentState.VOID: "no",
    PaymentState.REFUND_DUE: "yes",
    PaymentState.REFUNDED: "yes",
}


def payment_status(row: PaymentRow, charges: Sequence[ChargeRow], kept: StoredResponse | None) -> StoredResponse:
    """The JSON document of a payment; amounts are strings of atomic units, times RFC 3339 in UTC."""
    document: dict[str, object] = {
        "paymentId": payment_id(row.key),
        "state": row.state.value,
        "moneyMoved": _MONEY_MOVED[row.state],
        "amount": str(row.amount),
        "asset": row.asset,
        "network": row.network,
        "payer": row.payer,
        "payTo": row.payee,
        "transaction": row.transaction,
        "refunded": str(row.refunded),
        "reason": row.reason,
        "createdAt": _time(row.created_ms),
        "validBefore": _time(row.valid_before_ms),
        "charges": [
            {
                "state": charge.state.value,
                "amount": str(charge.amount),
                "endpoint": charge.endpoint,
                "responseStatus": charge.response_status,
                "createdAt": _time(charge.created_ms),
            }
            for charge in charges
        ],
    }
    if kept is not None:
        document["response"] = {
            "status": kept.status,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in kept.headers],
            "bodyBase64": base64.b64encode(kept.body).decode(),
        }
    body = encode_json(document)
    headers = (
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()),
    )
    return StoredResponse(200, headers, body)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
