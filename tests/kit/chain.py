"""Payments as the sandbox chain and the settlement see them: signed instructions, and rows of the book that carry them."""

from __future__ import annotations

import secrets
from typing import Any

from micropaywall.clock import ManualClock
from micropaywall.core.book import PaymentRow, RefundRow
from micropaywall.core.lives import PaymentState
from micropaywall.crypto.address import to_checksum
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.ids import RowId, row_id
from micropaywall.rails.exact.types import Authorization, Instruction
from micropaywall.sandbox.token import SANDBOX_CHAIN_ID, SANDBOX_NETWORK, SANDBOX_TOKEN

START_MS = ManualClock().now_ms()
START_S = START_MS // 1000
PAYEE = bytes.fromhex("70997970c51812dc3a010c7d01b50e0d17dc79c8")


def new_key() -> PrivateKey:
    return PrivateKey(secrets.token_bytes(32))


def instruct(key: PrivateKey, value: int = 1_000, *, chain_id: int = SANDBOX_CHAIN_ID, **fields: Any) -> Instruction:
    """A signed transfer from ``key``; ``fields`` are members of the authorization that are signed."""
    members = {
        "payer": key.address_bytes,
        "payee": PAYEE,
        "value": value,
        "valid_after": 0,
        "valid_before": START_S + 300,
        "nonce": secrets.token_bytes(32),
        **fields,
    }
    authorization = Authorization(**members)
    signature = key.sign_digest(SANDBOX_TOKEN.digest(authorization, chain_id))
    return Instruction(SANDBOX_TOKEN.address, chain_id, authorization, signature)


def payment(instruction: Instruction, *, rail: str = "sandbox", **changes: Any) -> PaymentRow:
    """The row of a payment that is settling with ``instruction``."""
    a = instruction.authorization
    fields: dict[str, Any] = {
        "id": new_row_id(),
        "key": SANDBOX_TOKEN.replay_key(a.payer, a.nonce),
        "state": PaymentState.SETTLING,
        "rail": rail,
        "network": SANDBOX_NETWORK,
        "asset": SANDBOX_TOKEN.asset.id,
        "payer": to_checksum(a.payer),
        "payee": to_checksum(a.payee),
        "amount": a.value,
        "drawn": a.value,
        "refunded": 0,
        "mode": "after",
        "dialect": "x402/2",
        "binding": b"",
        "instruction": instruction.encode(),
        "valid_before_ms": a.valid_before * 1000,
        "created_ms": START_MS,
        **changes,
    }
    return PaymentRow(**fields)


def refund_of(row: PaymentRow, amount: int, *, refund_id: RowId | None = None) -> RefundRow:
    return RefundRow(
        id=refund_id or new_row_id(),
        payment_id=row.id,
        amount=amount,
        asset=row.asset,
        network=row.network,
        rail=row.rail,
        payer=row.payer,
        payee=row.payee,
        state="submitted",
        reason="test",
        created_ms=START_MS,
    )


def new_row_id() -> RowId:
    return row_id(START_MS, secrets.token_bytes(10))
