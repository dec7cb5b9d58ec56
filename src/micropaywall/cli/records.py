"""The transaction record in its one JSON form."""

from __future__ import annotations

from micropaywall.cli.times import rfc3339
from micropaywall.core.book import Record

__all__ = ["record_document"]


def record_document(record: Record) -> dict[str, object]:
    """``{"timestamp", "amount", "currency", "clientId", "endpoint", "paymentToken", "status", "metadata"}``."""
    return {
        "timestamp": rfc3339(record.timestamp_ms),
        "amount": record.amount,
        "currency": record.currency,
        "clientId": record.client_id,
        "endpoint": record.endpoint,
        "paymentToken": record.payment_token,
        "status": record.status,
        "metadata": dict(record.metadata),
    }
