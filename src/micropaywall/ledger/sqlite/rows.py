"""Rows of the book as the engine holds them: column order is that of `statements.*_COLUMNS`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from micropaywall.core.book import ChargeRow, PaymentRow, RefundRow
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.core.model import SettleMode, StoredResponse
from micropaywall.ids import Fingerprint, ReplayKey, RowId
from micropaywall.ledger.statements import CHARGE_COLUMNS, PAYMENT_COLUMNS, REFUND_COLUMNS

_LENGTHS = struct.Struct(">HI")

Sql = tuple[Any, ...]
"""A row as sqlite3 gives it."""


@dataclass(slots=True)
class Payment:
    """A payment's row, to be changed and stored back by `Transaction.store_payment`."""

    no: int
    id: RowId
    key: ReplayKey
    state: str
    rail: str
    network: str
    asset: str
    payer: str
    payee: str
    amount: int
    drawn: int
    captured: int
    refunded: int
    mode: SettleMode
    dialect: str
    binding: bytes
    instruction: bytes
    valid_before_ms: int
    created_ms: int
    settled_ms: int | None
    transaction: str
    block: int | None
    reason: str
    attempts: int
    owner: str
    due_ms: int | None
    checked_ms: int | None

    @property
    def free(self) -> int:
        """Credit that may still be drawn."""
        return self.amount - self.drawn - self.refunded

    @property
    def unsettled(self) -> bool:
        return self.state in ("held", "settling")

    def leased(self, now_ms: int) -> bool:
        """Whether somebody is settling it right now."""
        return self.owner != "" and self.due_ms is not None and self.due_ms > now_ms

    def rest(self, now_ms: int) -> None:
        """When the background must look at a settled payment again: when unused credit may not be drawn any more."""
        if self.state in ("settled", "final"):
            self.owner = ""
            self.due_ms = max(self.valid_before_ms, now_ms) if self.free > 0 else None

    def row(self) -> PaymentRow:
        return PaymentRow(
            id=self.id,
            key=self.key,
            state=PaymentState(self.state),
            rail=self.rail,
            network=self.network,
            asset=self.asset,
            payer=self.payer,
            payee=self.payee,
            amount=self.amount,
            drawn=self.drawn,
            refunded=self.refunded,
            mode=self.mode,
            dialect=self.dialect,
            binding=self.binding,
            instruction=self.instruction,
            valid_before_ms=self.valid_before_ms,
            created_ms=self.created_ms,
            settled_ms=self.settled_ms,
            transaction=self.transaction,
            block=self.block,
            reason=self.reason,
            attempts=self.attempts,
        )


@dataclass(slots=True)
class Charge:
    """A charge's row, to be changed and stored back by `Transaction.store_charge`."""

    no: int
    id: RowId
    payment_no: int
    state: str
    fingerprint: Fingerprint
    reserved: int
    amount: int
    endpoint: str
    url: str
    created_ms: int
    lease_until_ms: int | None
    owner: str
    idempotency_key: str
    agent: str
    captured_ms: int | None
    delivered: int
    response_status: int | None
    response_bytes: int | None
    latency_ms: int | None

    @property
    def live(self) -> bool:
        return self.state in ("reserved", "captured")

    def row(self, payment_id: RowId) -> ChargeRow:
        return ChargeRow(
            id=self.id,
            payment_id=payment_id,
            state=ChargeState(self.state),
            fingerprint=self.fingerprint,
            amount=self.amount,
            endpoint=self.endpoint,
            url=self.url,
            created_ms=self.created_ms,
            lease_until_ms=self.lease_until_ms or 0,
            captured_ms=self.captured_ms,
            delivered=bool(self.delivered),
            response_status=self.response_status,
            response_bytes=self.response_bytes,
            latency_ms=self.latency_ms,
            idempotency_key=self.idempotency_key,
            agent=self.agent,
        )


@dataclass(slots=True)
class Refund:
    """A refund's row."""

    no: int
    id: RowId
    payment_no: int
    amount: int
    state: str
    reason: str
    created_ms: int
    owner: str
    due_ms: int | None
    transaction: str

    def row(self, payment: Payment) -> RefundRow:
        return RefundRow(
            id=self.id,
            payment_id=payment.id,
            amount=self.amount,
            asset=payment.asset,
            network=payment.network,
            rail=payment.rail,
            payer=payment.payer,
            payee=payment.payee,
            state=self.state,
            reason=self.reason,
            created_ms=self.created_ms,
            transaction=self.transaction,
        )


def _columns(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(","))


for _kind, _listed in ((Payment, PAYMENT_COLUMNS), (Charge, CHARGE_COLUMNS), (Refund, REFUND_COLUMNS)):
    _fields = tuple(_kind.__dataclass_fields__)
    if tuple(name.removesuffix("_id") if name == "transaction_id" else name for name in _columns(_listed)) != _fields:
        raise AssertionError(f"the columns of {_kind.__name__} are not its fields")


@lru_cache(maxsize=256)
def pack_headers(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Header lines as bytes, lengths first: what a handler wrote comes back as it was."""
    return b"".join(_LENGTHS.pack(len(name), len(value)) + name + value for name, value in headers)


def unpack_headers(packed: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The inverse of `pack_headers`."""
    lines: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(packed):
        name_length, value_length = _LENGTHS.unpack_from(packed, at)
        at += _LENGTHS.size
        lines.append((packed[at : at + name_length], packed[at + name_length : at + name_length + value_length]))
        at += name_length + value_length
    return tuple(lines)


def response_of(row: Sql | None) -> StoredResponse | None:
    """A stored response from its ``status, headers, body``."""
    return None if row is None else StoredResponse(row[0], unpack_headers(row[1]), row[2])
