"""Whether an offer that a client echoes is ours: the short comparison takes nothing that the careful one would not."""

from __future__ import annotations

from typing import Any

import pytest

from micropaywall.core.matching import _difference
from micropaywall.core.model import Offer
from micropaywall.money import parse_price
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.sandbox.token import SANDBOX_TOKEN

PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def offered() -> Offer:
    offer = ExactSeller(SANDBOX_TOKEN, PAYEE, name="sandbox").offer(parse_price("$0.001"), lifetime_s=1)
    assert offer is not None
    return offer


def echoed(offer: Offer, **edits: Any) -> dict[str, Any]:
    return {
        "scheme": offer.scheme,
        "network": offer.network,
        "asset": offer.asset_address,
        "payTo": offer.pay_to,
        "amount": str(offer.price.amount_atomic),
        "maxTimeoutSeconds": offer.max_timeout_s,
        "extra": {**offer.extra, "quote": "q"},
        **edits,
    }


def test_an_offer_echoed_unchanged_differs_in_nothing_however_its_addresses_are_written() -> None:
    offer = offered()
    assert _difference(offer, echoed(offer)) is None
    assert _difference(offer, echoed(offer, payTo=PAYEE.lower(), asset=offer.asset_address.upper())) is None


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("scheme", "upto", "scheme"),
        ("network", "eip155:1", "network"),
        ("asset", PAYEE, "asset"),
        ("payTo", "0x" + "11" * 20, "payTo"),
        ("amount", "999", "amount"),
        ("amount", 1000, "amount"),
        ("maxTimeoutSeconds", 2, "maxTimeoutSeconds"),
        ("maxTimeoutSeconds", True, "maxTimeoutSeconds"),
        ("maxTimeoutSeconds", None, "maxTimeoutSeconds"),
        ("extra", {"name": "USDC", "version": "9"}, "extra.version"),
        ("extra", {"name": "other", "version": "2"}, "extra.name"),
        ("extra", {}, "extra.name"),
        ("extra", None, "extra.name"),
        ("extra", ["name"], "extra.name"),
    ],
)
def test_an_edited_offer_differs_in_the_field_that_was_edited(field: str, value: object, named: str) -> None:
    offer = offered()
    assert offer.max_timeout_s == 1  # so that True equals it
    found = _difference(offer, echoed(offer, **{field: value}))
    assert found is not None
    assert found[0] == named
