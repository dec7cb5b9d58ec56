"""A purchase of ours as the transaction log writes it: the same record as the seller's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from micropaywall.core.book import Record
from micropaywall.core.export import record_document
from micropaywall.core.purchase import OPEN, PurchaseState
from micropaywall.ledger.records import payment_token
from micropaywall.money import format_decimal

if TYPE_CHECKING:
    from micropaywall.core.purchase import PurchaseRow

__all__ = ["purchase_document", "purchase_record"]


def purchase_record(row: PurchaseRow) -> Record:
    """The record. ``paymentToken`` is the seller's for the same payment, so that two logs can be laid side by side."""
    status = "pending" if row.state in OPEN else "success" if row.state is PurchaseState.SERVED else "failure"
    return Record(
        timestamp_ms=row.created_ms,
        amount=format_decimal(row.price.decimal) if row.price.asset.symbol else str(row.price.amount_atomic),
        currency=row.price.asset.symbol or row.price.asset.id,
        client_id=row.payer,
        endpoint=row.endpoint,
        payment_token=payment_token(row.key) if row.key is not None else "",
        status=status,
        metadata={
            "paymentId": row.payment_id,
            "state": row.state.value,
            "moneyMoved": row.money_moved,
            "reason": row.reason,
            "responseStatus": row.response_status,
            "network": row.network,
            "asset": row.price.asset.id,
            "amountAtomic": str(row.price.amount_atomic),
            "payer": row.payer,
            "payee": row.payee,
            "host": row.authority,
            "transaction": row.transaction,
            "agent": row.agent,
            "attempts": row.attempts,
        },
    )


def purchase_document(row: PurchaseRow) -> dict[str, object]:
    """The record as JSON."""
    return record_document(purchase_record(row))
