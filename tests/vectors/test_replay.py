"""The committed vectors, replayed through the public functions; and their own staleness check."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from tools import generate_vectors

from micropaywall.core.model import Offer
from micropaywall.crypto.address import parse_address
from micropaywall.errors import RequestRefused
from micropaywall.ids import payment_id
from micropaywall.money import parse_price
from micropaywall.proto import x402
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.rails.exact.facilitator import reason_of
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.exact.types import read_instruction
from micropaywall.sandbox.token import SANDBOX_TOKEN

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
TOKENS = {token.network: token for token in generate_vectors.TOKENS.values()}


def load(name):
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


PAYMENTS = load("payments.json")
REFUSALS = load("refusals.json")
RECORDED = load("recorded.json")
HTTP = load("http.json")


@pytest.mark.parametrize("name", sorted(generate_vectors.FILES))
def test_vectors_are_what_the_code_makes(name):
    assert (VECTORS / name).read_text(encoding="utf-8") == generate_vectors.render(name)


def test_check_fails_for_a_stale_file(tmp_path, monkeypatch, capsys):
    for name in generate_vectors.FILES:
        (tmp_path / name).write_text((VECTORS / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(generate_vectors, "ROOT", tmp_path)
    assert generate_vectors.main(["--check"]) == 0
    (tmp_path / "eip712.json").write_text("{}\n", encoding="utf-8")
    assert generate_vectors.main(["--check"]) == 1
    assert "eip712.json is stale" in capsys.readouterr().err
    assert generate_vectors.main([]) == 0
    assert generate_vectors.main(["--check"]) == 0


def header_line(dialect, value):
    return (x402.PAYMENT_SIGNATURE if dialect == "x402/2" else x402.X_PAYMENT, value.encode())


@pytest.mark.parametrize("case", PAYMENTS["payments"], ids=lambda case: case["name"])
def test_payment_is_taken_with_its_key_and_instruction(case):
    token = TOKENS[case["token"]["network"]]
    authorization = case["payload"]["authorization"]
    seller = ExactSeller(token, authorization["to"])
    offer = seller.offer(parse_price(int(authorization["value"])), lifetime_s=300)
    credential = x402.read_credential([header_line(case["dialect"], case["header"])])
    verified = seller.verify(offer, credential, now_s=PAYMENTS["nowS"])
    assert "0x" + verified.key.hex() == case["replayKey"]
    assert payment_id(verified.key) == case["paymentId"]
    assert verified.instruction.decode() == case["instruction"]
    assert verified.payer == authorization["from"]
    assert str(verified.price.amount_atomic) == authorization["value"]
    assert seller.identify(credential) == (verified.key, verified.instruction)
    instruction = read_instruction(verified.instruction)
    assert token.digest(instruction.authorization, instruction.chain_id).hex() == case["digest"][2:]


def test_both_dialects_of_an_authorization_have_one_key():
    keys = {}
    for case in PAYMENTS["payments"]:
        network, name = case["token"]["network"], case["name"].split(", ")[-1]
        keys.setdefault((network, name), set()).add(case["replayKey"])
    assert all(len(found) == 1 for found in keys.values())
    assert len({key for found in keys.values() for key in found}) == len(
        {(case["token"]["network"], case["payload"]["authorization"]["nonce"]) for case in PAYMENTS["payments"]}
    )


@pytest.mark.parametrize("case", REFUSALS["refusals"], ids=lambda case: case["name"])
def test_refusal_has_its_code_and_reason(case):
    seller = ExactSeller(SANDBOX_TOKEN, REFUSALS["payTo"])
    offer = seller.offer(parse_price(int(REFUSALS["amount"])), lifetime_s=300)
    with pytest.raises(RequestRefused) as caught:
        seller.verify(
            offer,
            x402.read_credential([(case["header"].lower().encode(), case["value"].encode())]),
            now_s=REFUSALS["nowS"],
        )
    assert caught.value.code == case["code"]
    assert reason_of(caught.value) == case["x402Reason"]
    assert 400 <= caught.value.status < 500
    assert caught.value.money_moved == "no"


# -- other people's bytes -----------------------------------------------------------------------------------------------


def recorded_offer(token) -> Offer:
    return ExactSeller(token, RECORDED["payee"]).offer(parse_price(int(RECORDED["amount"])), lifetime_s=300)


@pytest.mark.parametrize(
    ("name", "member", "dialect", "network"),
    [
        ("baseSepolia", "paymentSignature", "x402/2", "eip155:84532"),
        ("sandbox", "paymentSignature", "x402/2", "eip155:4020402"),
        ("baseSepoliaV1", "xPayment", "x402/1", "eip155:84532"),
        ("sandboxV1", "xPayment", "x402/1", "eip155:4020402"),
        ("sandboxV1Legacy", "xPayment", "x402/1", "eip155:4020402"),
    ],
)
def test_payments_of_the_official_clients_are_taken(name, member, dialect, network):
    token = TOKENS[network]
    seller = ExactSeller(token, RECORDED["payee"])
    credential = x402.read_credential([header_line(dialect, RECORDED["recorded"][name][member])])
    verified = seller.verify(recorded_offer(token), credential, now_s=RECORDED["nowS"])
    assert verified.payer == RECORDED["payer"]
    assert verified.key == token.replay_key(parse_address(RECORDED["payer"]), b"\x01" * 32)


@pytest.mark.parametrize("name", ["baseSepolia", "sandbox"])
def test_official_v2_challenge_is_read_and_echoed_byte_for_byte(name):
    header = RECORDED["recorded"][name]["paymentRequired"]
    buyer = ExactBuyer(TOKENS.values())
    challenge = x402.read_challenge(402, [(x402.PAYMENT_REQUIRED, header.encode())], None, assets=buyer.asset_of)
    (read,) = challenge.offers
    assert read.offer.price.asset == TOKENS[read.offer.network].asset
    assert str(read.offer.price) == "0.01 USDC"
    assert challenge.resource_url == "https://api.example.com/weather"
    assert buyer.can_pay(read.offer)
    _, value = x402.write_payment_v2(read.raw, {}, resource=challenge.resource, extensions=challenge.extensions)
    assert read.raw in base64.b64decode(header)
    assert read.raw in base64.b64decode(value)
    assert challenge.resource in base64.b64decode(value)


@pytest.mark.parametrize("name", ["baseSepoliaV1", "sandboxV1", "sandboxV1Legacy"])
def test_official_v1_challenge_is_read(name):
    body = RECORDED["recorded"][name]["body"].encode()
    buyer = ExactBuyer(TOKENS.values())
    challenge = x402.read_challenge(402, [], body, assets=buyer.asset_of)
    (read,) = challenge.offers
    assert (challenge.dialect, read.offer.v1_network, read.offer.network) == ("x402/1", "base-sepolia", "eip155:84532")
    assert str(read.offer.price) == "0.01 USDC"
    assert buyer.can_pay(read.offer)


@pytest.mark.parametrize("name", ["baseSepolia", "sandbox"])
def test_official_receipts_are_read(name):
    recorded = RECORDED["recorded"][name]
    settled = x402.read_receipt([(x402.PAYMENT_RESPONSE, recorded["paymentResponse"].encode())])
    assert settled.settled
    assert settled.transaction == "0x" + "11" * 32
    refused = x402.read_receipt([(x402.PAYMENT_RESPONSE, recorded["paymentResponseFailed"].encode())])
    assert not refused.settled
    assert refused.reason == "invalid_exact_evm_nonce_already_used"


# -- our bytes, as others read them ---------------------------------------------------------------------------------------


def has_null(value):
    if isinstance(value, dict):
        return any(has_null(member) for member in value.values())
    if isinstance(value, list):
        return any(has_null(member) for member in value)
    return value is None


def test_nothing_that_we_write_holds_a_null():
    texts = [HTTP["paymentRequired"], *(receipt["value"] for receipt in HTTP["receipts"])]
    for text in texts:
        assert not has_null(json.loads(base64.b64decode(text, validate=True)))
    assert not has_null(HTTP["v1Accepts"])


def test_v2_challenge_has_the_members_that_official_clients_ask_for():
    members = json.loads(base64.b64decode(HTTP["paymentRequired"]))
    assert members["x402Version"] == 2
    assert members["resource"] == {
        "url": "https://api.example.com/weather",
        "description": "Weather report",
        "mimeType": "application/json",
    }
    for accepted in members["accepts"]:
        assert set(accepted) == {"scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"}
        assert isinstance(accepted["amount"], str)
    assert members["accepts"][0]["extra"]["quote"]


def test_v1_offers_have_the_members_that_legacy_clients_ask_for():
    for accepted in HTTP["v1Accepts"]:
        assert accepted["network"] == "base-sepolia"
        assert all(
            isinstance(accepted[member], str)
            for member in ("scheme", "maxAmountRequired", "resource", "description", "mimeType", "payTo", "asset")
        )
        assert "quote" not in accepted["extra"]
