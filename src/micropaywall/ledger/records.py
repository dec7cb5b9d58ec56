"""One line of the transaction log, made from a charge and its payment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal

from micropaywall.core.book import ChargeRow, PaymentRow, Record
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.ids import ReplayKey, payment_id
from micropaywall.money import Asset, format_decimal

_MOVED = (PaymentState.SETTLED, PaymentState.FINAL, PaymentState.REFUND_DUE, PaymentState.REFUNDED)


def payment_token(key: ReplayKey) -> str:
    """What the log calls a payment: a hash, from which neither the credential nor the replay key can be computed."""
    return hashlib.sha256(b"micropaywall/token/1" + key).hexdigest()


def status_of(payment: PaymentRow, charge: ChargeRow) -> str:
    """``success``, ``failure`` or ``pending``; see `core.book.Record`."""
    if charge.state is ChargeState.RESERVED:
        return "pending"
    if charge.state is not ChargeState.CAPTURED or payment.state in (PaymentState.FAILED, PaymentState.VOID):
        return "failure"
    return "success" if payment.state in _MOVED or payment.mode == "deferred" else "pending"


def record_of(payment: PaymentRow, charge: ChargeRow, assets: Mapping[str, Asset]) -> Record:
    """The record of ``charge``. An asset that the book does not know is given in atomic units under its CAIP-19 id."""
    asset = assets.get(payment.asset)
    if asset is None:
        amount, currency = str(charge.amount), payment.asset
    else:
        amount, currency = format_decimal(Decimal(charge.amount).scaleb(-asset.decimals)), asset.symbol
    return Record(
        timestamp_ms=charge.created_ms,
        amount=amount,
        currency=currency,
        client_id=charge.agent or payment.payer,
        endpoint=charge.endpoint,
        payment_token=payment_token(payment.key),
        status=status_of(payment, charge),
        metadata={
            "paymentId": payment_id(payment.key),
            "chargeId": charge.id.hex(),
            "url": charge.url,
            "responseStatus": charge.response_status,
            "responseBytes": charge.response_bytes,
            "latencyMs": charge.latency_ms,
            "rail": payment.rail,
            "network": payment.network,
            "asset": payment.asset,
            "amountAtomic": str(charge.amount),
            "payer": payment.payer,
            "payee": payment.payee,
            "transaction": payment.transaction,
            "paymentState": payment.state.value,
            "chargeState": charge.state.value,
            "reason": payment.reason,
        },
    )
