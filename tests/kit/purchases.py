"""Payments of a buyer for tests of its store: drafts that can be varied, and steps of a payment's life in one call."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

from micropaywall.core.budget import Budget
from micropaywall.core.buyer_effects import Draft
from micropaywall.core.model import Offer
from micropaywall.core.policy import Target
from micropaywall.core.purchase import HeaderLine, PurchaseEvent, PurchaseRow
from micropaywall.ids import Fingerprint, ReplayKey
from micropaywall.money import Asset
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.spending.store import SpendingStore

PLAY = SANDBOX_TOKEN.asset
REAL = Asset("eip155:8453/erc20:0xaa", "USDC", 6, "USD")
WIDE = Asset("eip155:8453/erc20:0xcc", "DAI", 18, "USD")
PAYEE, OTHER_PAYEE = "0x" + "11" * 20, "0x" + "22" * 20
CREDENTIAL = HeaderLine("PAYMENT-SIGNATURE", "c2VjcmV0IHBheW1lbnQ=")
_counter = itertools.count()


def draft(amount: int = 1000, **changes: Any) -> Draft:
    asset: Asset = changes.pop("asset", PLAY)
    host: str = changes.pop("host", "api.example.com")
    offer = Offer(
        "exact", asset.id.partition("/")[0], asset.money(amount), "0x" + "00" * 20, changes.pop("payee", PAYEE), 300
    )
    members: dict[str, Any] = {
        "agent": "default",
        "call_key": "",
        "replay_served": False,
        "fingerprint": Fingerprint(b"f" * 32),
        "endpoint": f"GET https://{host}/resource",
        "target": Target("https", host, 443),
        "offer": offer,
        "dialect": "x402/2",
        "payer": "0x" + "33" * 20,
    }
    return Draft(**(members | changes))


def signed(store: SpendingStore, amount: int = 1000, budget: Budget | None = None, **changes: Any) -> PurchaseRow:
    """A payment that is reserved, signed and journaled."""
    row, _ = store.reserve(draft(amount, **changes), budget)
    return store.journal(row, ReplayKey(secrets.token_bytes(32)), CREDENTIAL, 1_800_000_300)


def served(store: SpendingStore, amount: int = 1000, budget: Budget | None = None, **changes: Any) -> PurchaseRow:
    """One that was delivered as well."""
    return store.record(signed(store, amount, budget, **changes), PurchaseEvent.DELIVERED, "yes", status=200)
