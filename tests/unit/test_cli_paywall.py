"""Every setting of a seller reaches its paywall."""

from __future__ import annotations

from pathlib import Path

from micropaywall.cli import parts
from micropaywall.settings import load_settings, routes

SETTINGS = """
[seller]
pay_to = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
public_url = "https://api.example.com"
quote_lifetime_s = 11
held_body_memory_bytes = 12
held_body_disk_bytes = 13
stored_response_bytes = 14
settle_timeout_s = 15
handler_timeout_s = 16
exposure_atomic = 17
max_body_bytes = 18
settle = "before"
binding = "strict"

[[seller.routes]]
path = "/x"
price = "$1"

[ledger]
url = "sqlite:///book.db"
response_retention_s = 19

[rails.sandbox]
"""


def test_every_setting_reaches_the_paywall(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(SETTINGS)
    loaded = load_settings(file, environ={})
    paywall = parts.make_paywall(loaded, routes(loaded.settings.seller), sandbox=False)
    assert paywall.public_url == "https://api.example.com"
    assert (paywall.held_memory_bytes, paywall.held_disk_bytes, paywall.stored_bytes) == (12, 13, 14)
    assert (paywall._lifetime_s, paywall._settle_timeout_s, paywall._retention_s) == (11, 15, 19)
    assert paywall._ledger_given == "sqlite:///book.db"
    route = paywall.table.routes[0][3]
    assert (route.timeout_s, route.exposure_atomic, route.max_body) == (16.0, 17, 18)
    assert (route.settle, route.binding) == ("before", "strict")
    offers = paywall.offers(route, route.price)  # type: ignore[arg-type]
    assert [offer.pay_to for _, offer in offers] == ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]
