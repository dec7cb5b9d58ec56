"""Commands for tests of the book: short to write, valid by default."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

from micropaywall.core import book
from micropaywall.core.model import Settled, StoredResponse
from micropaywall.ids import Fingerprint, ReplayKey, RowId, row_id
from micropaywall.ledger.memory import MemoryLedger
from micropaywall.ledger.port import Ledger
from micropaywall.ledger.sqlite import SqliteLedger
from micropaywall.money import Asset

NOW = 1_800_000_000_000
SECOND = 1_000
EXPIRY = NOW + 300 * SECOND
LEASE = 150 * SECOND
USDC = Asset("eip155:4020402/erc20:0x5c00000000000000000000000000000000000001", "USDC", 6, "USD")
RESPONSE = StoredResponse(200, ((b"content-type", b"application/json"),), b'{"ok":true}')
_count = itertools.count(1)


def new_id(now_ms: int = NOW) -> RowId:
    return row_id(now_ms, next(_count).to_bytes(4, "big") + os.urandom(6))


def key_of(name: str) -> ReplayKey:
    return ReplayKey(hashlib.sha256(f"key {name}".encode()).digest())


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def reserve(name: str = "a", *, request: str = "GET /a", body: str = "", at: int = NOW, **more: Any) -> book.Reserve:
    """Reserve of payment ``name`` for ``request`` with ``body``."""
    facts: dict[str, Any] = {
        "payment_id": new_id(at),
        "charge_id": new_id(at),
        "key": key_of(name),
        "rail": "exact",
        "network": "eip155:4020402",
        "asset": USDC.id,
        "payer": "0x" + "a1" * 20,
        "payee": "0x" + "b2" * 20,
        "amount": 1000,
        "mode": "after",
        "dialect": "x402/2",
        "binding": digest(request) if request else b"",
        "fingerprint": Fingerprint(digest(f"{request} {body}")),
        "instruction": b"instruction " + name.encode(),
        "valid_before_ms": EXPIRY,
        "endpoint": "GET /api/resource",
        "url": "http://localhost:3000/api/resource",
        "owner": "w1",
        "now_ms": at,
        "lease_until_ms": at + LEASE,
        "settle_lease_ms": at + 60 * SECOND,
    }
    facts.update(more)
    facts.setdefault("charge_amount", facts["amount"])
    if facts["mode"] == "deferred":
        facts.setdefault("exposure_cap", 10_000)
    return book.Reserve(**facts)


def capture(applied: Any, *, at: int = NOW, **more: Any) -> book.Capture:
    facts: dict[str, Any] = {
        "charge_id": applied.charge_id,
        "payment_id": applied.payment_id,
        "amount": 1000,
        "owner": "w1",
        "now_ms": at,
        "response": RESPONSE,
        "latency_ms": 7,
        "settle_lease_ms": at + 60 * SECOND,
    }
    facts.update(more)
    return book.Capture(**facts)


def release(applied: Any, *, at: int = NOW, **more: Any) -> book.Release:
    facts = {"charge_id": applied.charge_id, "payment_id": applied.payment_id, "owner": "w1", "now_ms": at, **more}
    return book.Release(**facts)


def end_settle(applied: Any, outcome: Any = None, *, at: int = NOW, **more: Any) -> book.EndSettle:
    facts: dict[str, Any] = {
        "payment_id": applied.payment_id,
        "owner": "w1",
        "now_ms": at,
        "outcome": outcome or moved(),
    }
    facts.update(more)
    return book.EndSettle(**facts)


def moved(amount: int = 1000, **more: Any) -> Settled:
    return Settled(**{"transaction": "0xfeed", "amount_atomic": amount, "block": 7, **more})


def refund(applied: Any, amount: int, *, at: int = NOW, **more: Any) -> book.BeginRefund:
    facts: dict[str, Any] = {
        "refund_id": new_id(at),
        "payment_id": applied.payment_id,
        "amount": amount,
        "reason": "asked for",
        "owner": "w1",
        "now_ms": at,
        "lease_until_ms": at + 60 * SECOND,
    }
    facts.update(more)
    return book.BeginRefund(**facts)


async def open_kind(kind: str, path: Path) -> Ledger:
    """A ledger of the kind under test."""
    if kind == "memory":
        return MemoryLedger(assets=[USDC])
    return await SqliteLedger.open(path / "ledger.db", assets=[USDC])
