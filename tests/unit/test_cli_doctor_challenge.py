"""What `doctor` says of a 402: what it offers, and everything that could keep a buyer from paying it."""

from __future__ import annotations

import base64
import json
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from micropaywall.cli.diagnosis.answer import HttpAnswer, read_saved
from micropaywall.cli.diagnosis.challenge import examine
from micropaywall.cli.diagnosis.finding import Finding
from micropaywall.cli.diagnosis.offers import Buyer
from micropaywall.errors import ConfigurationError
from micropaywall.sandbox.token import SANDBOX_NETWORK, SANDBOX_TOKEN

URL = "https://api.example.com/report"
NOW_MS = 1_800_000_000_000
OFFER: dict[str, Any] = {
    "scheme": "exact",
    "network": SANDBOX_NETWORK,
    "amount": "1000",
    "asset": SANDBOX_TOKEN.address_text,
    "payTo": "0x413de4C78dCc19bBe669Fe8e6a36437DFf0C7332",
    "maxTimeoutSeconds": 300,
    "extra": {"name": "USDC", "version": "2"},
}
GOOD_HEADERS = {
    "cache-control": "no-store",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "PAYMENT-REQUIRED, PAYMENT-RESPONSE",
    "date": formatdate(NOW_MS / 1000, usegmt=True),
}
BUYER = Buyer(
    assets=lambda network, asset: SANDBOX_TOKEN.asset if network == SANDBOX_NETWORK else None,
    can_pay=lambda offer: offer.network == SANDBOX_NETWORK,
)


def v2(*offers: dict[str, Any], url: str = URL) -> str:
    wire = {"x402Version": 2, "error": "pay", "resource": {"url": url}, "accepts": list(offers)}
    return base64.b64encode(json.dumps(wire).encode()).decode()


def v1(**changes: Any) -> bytes:
    offer = {k: v for k, v in OFFER.items() if k != "amount"}
    offer |= {
        "network": "base-sepolia",
        "maxAmountRequired": "1000",
        "resource": URL,
        "description": "",
        "mimeType": "",
    }
    return json.dumps({"x402Version": 1, "error": "pay", "accepts": [offer | changes]}).encode()


def answer(status: int = 402, body: bytes = b"", hops: tuple[str, ...] = (), **headers: str | None) -> HttpAnswer:
    lines = GOOD_HEADERS | {"payment-required": v2(OFFER)} | {k.replace("_", "-"): v for k, v in headers.items()}  # type: ignore[dict-item]
    raw = tuple((name.encode(), value.encode()) for name, value in lines.items() if value is not None)
    return HttpAnswer(URL, status, raw, body, hops, NOW_MS)


def named(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name and finding.level != "note")


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def test_a_good_402_has_nothing_wrong() -> None:
    findings = examine(answer(), URL, BUYER)
    assert levels(findings) <= {"good", "note"}
    assert "0.001 USDC by exact" in " ".join(finding.text for finding in findings)


def test_both_dialects_are_read() -> None:
    findings = examine(answer(body=v1()), URL, BUYER)
    assert named(findings, "v1").level == named(findings, "v2").level == "good"


@pytest.mark.parametrize(
    ("changed", "name", "level"),
    [
        ({"status": 200}, "status", "bad"),
        ({"status": 404}, "status", "bad"),
        ({"payment_required": v2(OFFER, url="http://api.example.com/report")}, "public-url", "bad"),
        ({"payment_required": v2(OFFER, url="https://10.0.0.7:8000/report")}, "public-url", "bad"),
        ({"payment_required": v2(OFFER, url="https://api.example.com/inner/report")}, "resource", "warn"),
        ({"payment_required": v2(OFFER | {"network": "eip155:8453"})}, "wallet", "warn"),
        ({"payment_required": v2(OFFER | {"amount": "0"})}, "amount", "bad"),
        ({"payment_required": v2(OFFER | {"maxTimeoutSeconds": 5})}, "timeout", "bad"),
        ({"payment_required": v2(OFFER | {"payTo": "0x" + "0" * 40})}, "payee", "bad"),
        ({"payment_required": v2(OFFER | {"payTo": "0x413De4C78dCc19bBe669Fe8e6a36437DFf0C7332"})}, "payee", "bad"),
        ({"payment_required": v2(OFFER | {"extra": {"name": "USDC"}})}, "extra", "bad"),
        ({"payment_required": "!!!"}, "v2", "bad"),
        ({"payment_required": None}, "dialect", "bad"),
        ({"payment_required": None, "body": v1()}, "v2", "warn"),
        ({"body": v1(network="celo")}, "v1-network", "warn"),
        ({"cache_control": None}, "cache-control", "warn"),
        ({"cache_control": "public, max-age=60"}, "cache-control", "bad"),
        ({"access_control_expose_headers": None}, "cors", "warn"),
        ({"access_control_allow_origin": None}, "cors", "warn"),
        ({"x_filler": "x" * 4_096}, "header-size", "warn"),
        ({"x_filler": "x" * 8_192}, "header-size", "bad"),
        ({"date": formatdate(NOW_MS / 1000 + 120, usegmt=True)}, "clock", "bad"),
        ({"date": formatdate(NOW_MS / 1000 - 120, usegmt=True)}, "clock", "bad"),
        ({"hops": ("https://elsewhere.example/report",)}, "redirect", "bad"),
    ],
)
def test_every_fault_is_found(changed: dict[str, Any], name: str, level: str) -> None:
    assert named(examine(answer(**changed), URL, BUYER), name).level == level


def test_every_finding_that_is_bad_says_something_to_do_or_is_plain() -> None:
    found = examine(answer(payment_required=v2(OFFER, url="http://10.0.0.7:8000/report")), URL, BUYER)
    finding = named(found, "public-url")
    assert finding.hint is not None
    assert 'public_url = "https://api.example.com"' in finding.hint


def test_plain_http_is_wrong_off_loopback_only() -> None:
    insecure = examine(answer(), "http://api.example.com/report", BUYER)
    assert named(insecure, "transport").level == "bad"
    local = examine(answer(payment_required=v2(OFFER, url="http://localhost:3000/")), "http://127.0.0.1:3000/", BUYER)
    assert "bad" not in levels(local), "localhost and 127.0.0.1 are one place"


def test_lightning_and_other_schemes_are_named() -> None:
    findings = examine(answer(www_authenticate='L402 macaroon="x", invoice="y"'), URL, BUYER)
    assert any("L402" in finding.text for finding in findings)


def test_a_saved_answer_is_read_as_curl_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "answer.txt"
    file.write_bytes(
        b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n"
        b"HTTP/1.1 402 Payment Required\r\nPayment-Required: " + v2(OFFER).encode() + b"\r\nA: 1\r\nA: 2\r\n\r\n{}"
    )
    saved = read_saved(file)
    assert (saved.status, saved.values("A"), saved.body) == (402, ["1", "2"], b"{}")
    assert named(examine(saved, "", BUYER), "v2").level == "good"


def test_a_file_that_is_no_answer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "answer.txt"
    file.write_text("HTTP/nonsense\n\n")
    with pytest.raises(ConfigurationError):
        read_saved(file)
