"""x402 on the wire: what is read leniently, what strictly, and what is written for which client."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from decimal import Decimal

import pytest

from micropaywall.core.model import Offer, Receipt
from micropaywall.errors import ChallengeInvalid, CredentialMalformed, CredentialsConflict
from micropaywall.limits import (
    CHALLENGE_BODY_BYTES_MAX,
    CHALLENGE_HEADER_BYTES_MAX,
    CREDENTIAL_HEADER_BYTES_MAX,
    CREDENTIAL_JSON_DEPTH_MAX,
    OFFERS_READ_MAX,
)
from micropaywall.money import MAX_ATOMIC
from micropaywall.proto import x402
from micropaywall.proto.headers import decode_base64
from micropaywall.proto.json import NotReadable, encode_json, nesting, without_nulls
from micropaywall.proto.x402.networks import V1_CHAIN_IDS, V1_OFFERABLE, caip2_of_v1, v1_of_caip2
from micropaywall.sandbox.token import SANDBOX_TOKEN

ACCEPTED = {
    "scheme": "exact",
    "network": "eip155:4020402",
    "amount": "1000",
    "asset": SANDBOX_TOKEN.address_text,
    "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "maxTimeoutSeconds": 300,
    "extra": {"name": "USDC", "version": "2"},
}
V1_ACCEPTED = {
    "scheme": "exact",
    "network": "base-sepolia",
    "maxAmountRequired": "1000",
    "resource": "https://a.example/x",
    "description": "",
    "mimeType": "",
    "payTo": ACCEPTED["payTo"],
    "maxTimeoutSeconds": 300,
    "asset": ACCEPTED["asset"],
    "extra": {"name": "USDC", "version": "2"},
}
URL = "https://a.example/x"


def b64(members) -> bytes:
    return base64.b64encode(members if isinstance(members, bytes) else json.dumps(members).encode())


def payment(**changes):
    return {"x402Version": 2, "accepted": ACCEPTED, "payload": {"a": 1}, **changes}


def read_v2(**changes):
    return x402.read_credential([(b"payment-signature", b64(payment(**changes)))])


def challenge(accepts=(ACCEPTED,), **changes):
    members = {"x402Version": 2, "accepts": list(accepts), "resource": {"url": URL}, **changes}
    return x402.read_challenge(402, [(b"payment-required", b64(members))], None)


# -- payments, read --------------------------------------------------------------------------------------------------------


def test_no_payment_header_is_no_payment():
    assert x402.read_credential([(b"host", b"x"), (b"authorization", b"Bearer x")]) is None


def test_a_v2_payment_keeps_what_was_received():
    value = b64(payment(resource={"url": URL}, extensions={"e": {"info": 1}}, more=1))
    read = x402.read_credential([(b"payment-signature", value)])
    assert (read.dialect, read.scheme, read.network) == ("x402/2", "exact", "eip155:4020402")
    assert (read.accepted, read.payload, read.resource_url) == (ACCEPTED, {"a": 1}, URL)
    assert (read.extensions, read.raw) == ({"e": {"info": 1}}, value)


def test_a_v1_payment_echoes_no_offer():
    value = b64({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": {"a": 1}})
    read = x402.read_credential([(b"x-payment", value)])
    assert (read.dialect, read.scheme, read.network) == ("x402/1", "exact", "base-sepolia")
    assert (read.accepted, read.resource_url, read.extensions) == (None, None, {})


@pytest.mark.parametrize(
    "absent", [{"resource": None}, {"extensions": None}, {"resource": "text"}, {"resource": {"url": 1}}]
)
def test_optional_members_may_be_null_or_foreign(absent):
    read = read_v2(**absent)
    assert read.resource_url is None
    assert read.extensions == {}


def test_a_doubled_key_has_its_last_value():
    text = json.dumps(payment()).encode().replace(b'"payload": {"a": 1}', b'"payload": {"a": 1}, "payload": {"b": 2}')
    assert x402.read_credential([(b"payment-signature", b64(text))]).payload == {"b": 2}


@pytest.mark.parametrize(
    ("lines", "dialect"),
    [
        ([b"payment-signature"] * 2, "x402/2"),
        ([b"payment-signature", b"x-payment"], "x402/2"),
        ([b"x-payment", b"payment-signature"], "x402/2"),
    ],
)
def test_the_same_payment_twice_is_one(lines, dialect):
    assert x402.read_credential([(name, b64(payment())) for name in lines]).dialect == dialect


@pytest.mark.parametrize("second", [b"payment-signature", b"x-payment"])
def test_two_payments_that_differ_are_refused_before_either_is_read(second):
    with pytest.raises(CredentialsConflict):
        x402.read_credential([(b"payment-signature", b"%%"), (b"host", b"x"), (second, b"$$")])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "empty"),
        (b"%", "base64"),
        (b"e30", "base64"),
        (b"e30=\n", "base64"),
        (b" e30=", "base64"),
        (b"e30=, e30=", "base64"),
        (b"_-8=", "base64"),
        (b64(b"\xff"), "not JSON"),
        (b64(b'{"x402Version":'), "not JSON"),
        (b64(json.dumps(payment()).encode() + b" {}"), "not JSON"),
        (b64(b'{"a":NaN}'), "not JSON"),
        (b64(b'{"a":"\\ud800"}'), "not JSON"),
        (b64(b"\xef\xbb\xbf{}"), "not JSON"),
        (b64([]), "another shape"),
        (b64({}), "another shape"),
        (b64({"x402Version": 2, "accepted": ACCEPTED}), "another shape"),
        (b64(payment(payload=[])), "another shape"),
        (b64(payment(payload=None)), "another shape"),
        (b64(payment(x402Version=2.5)), "another shape"),
        (b64(payment(x402Version=None)), "another shape"),
        (b64(payment(x402Version=10**30)), "another shape"),
        (b64(payment(x402Version=0)), "another shape"),
        (b64(payment(x402Version=99)), "x402Version 99"),
        (b64(payment(x402Version=1)), "x402Version 1"),
        (b64(payment(accepted=None)), "no accepted"),
        (b64(payment(accepted=[])), "another shape"),
        (b64(payment(accepted={})), "no scheme or no network"),
        (b64(payment(accepted={"scheme": "exact", "network": 1})), "no scheme or no network"),
        (b64(payment(accepted={"scheme": None, "network": "n"})), "no scheme or no network"),
        (b64(payment(extensions=[])), "another shape"),
    ],
)
def test_an_unreadable_payment_says_what_was_expected(value, why):
    with pytest.raises(CredentialMalformed) as caught:
        x402.read_credential([(b"payment-signature", value)])
    problem = caught.value.problem()
    assert why in problem["detail"]
    assert "x402Version 2" in problem["expected"]
    assert (problem["status"], problem["moneyMoved"]) == (400, "no")


def test_a_v1_payment_needs_its_own_version_scheme_and_network():
    good = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": {}}
    assert x402.read_credential([(b"x-payment", b64(good))])
    for change in ({"x402Version": 2}, {"scheme": None}, {"network": 1}, {"network": None}, {"payload": "x"}):
        with pytest.raises(CredentialMalformed) as caught:
            x402.read_credential([(b"x-payment", b64({**good, **change}))])
        assert "X-PAYMENT" in caught.value.detail


def test_the_length_of_a_header_is_bounded():
    text = json.dumps(payment(more="x" * 5_000)).encode()
    room = CREDENTIAL_HEADER_BYTES_MAX * 3 // 4
    assert x402.read_credential([(b"payment-signature", b64(text + b" " * (room - len(text))))])
    with pytest.raises(CredentialMalformed, match="at most 8192"):
        x402.read_credential([(b"payment-signature", b64(text + b" " * (room + 1 - len(text))))])


def test_a_huge_header_costs_nothing():
    value = b"A" * 50_000_000
    started = time.perf_counter()
    with pytest.raises(CredentialMalformed):
        x402.read_credential([(b"payment-signature", value)])
    assert time.perf_counter() - started < 0.01


def test_the_nesting_of_a_payment_is_bounded():
    def nested(levels):
        value = {}
        for _ in range(levels - 1):
            value = {"a": value}
        return value

    assert read_v2(payload=nested(CREDENTIAL_JSON_DEPTH_MAX - 1))
    with pytest.raises(CredentialMalformed, match="deeper than 16"):
        read_v2(payload=nested(CREDENTIAL_JSON_DEPTH_MAX))
    assert read_v2(extensions={str(number): {} for number in range(100)}), "many objects side by side are no nesting"


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 500_000, b'"' * 1_000_000, b"\\" * 1_000_000, b'"\\' * 500_000, b"[{" * 500_000]
)
def test_counting_brackets_is_linear(text):
    started = time.perf_counter()
    nesting(text)
    assert time.perf_counter() - started < 2


def test_nesting_ignores_strings():
    assert nesting(b'{"a":"[[[[", "b":["\\"[", {}]}') == 3
    assert nesting(b'"unclosed [[[') == 0


def test_base64_is_bounded_before_it_is_looked_at():
    with pytest.raises(NotReadable, match="at most 4"):
        decode_base64(b"%%%%%", limit=4)
    assert decode_base64(b"e30=", limit=4) == b"{}"


# -- payments, written -----------------------------------------------------------------------------------------------------


def test_a_v2_payment_echoes_the_sellers_bytes():
    raw = b'{"scheme" : "exact","amount":"1e0", "new": [1,  2]}'
    name, value = x402.write_payment_v2(raw, {"s": "x"}, resource=b'{ "url":"u"}', extensions=b'{"e": null}')
    assert name == "PAYMENT-SIGNATURE"
    assert base64.b64decode(value) == (
        b'{"x402Version":2,"accepted":'
        + raw
        + b',"payload":{"s":"x"},"resource":{ "url":"u"},"extensions":{"e": null}}'
    )


def test_a_v2_payment_leaves_out_what_there_is_not():
    _, value = x402.write_payment_v2(b"{}", {})
    assert base64.b64decode(value) == b'{"x402Version":2,"accepted":{},"payload":{}}'
    _, value = x402.write_payment_v2(b"{}", {}, extensions={"e": {"info": 1}})
    assert json.loads(base64.b64decode(value))["extensions"] == {"e": {"info": 1}}


def test_a_v1_payment_names_scheme_and_network():
    name, value = x402.write_payment_v1("exact", "base-sepolia", {"a": 1})
    assert name == "X-PAYMENT"
    assert json.loads(base64.b64decode(value)) == {
        "x402Version": 1,
        "scheme": "exact",
        "network": "base-sepolia",
        "payload": {"a": 1},
    }


# -- challenges, read ------------------------------------------------------------------------------------------------------


def test_a_v2_challenge_is_preferred_to_the_body():
    read = x402.read_challenge(
        402,
        [(b"payment-required", b64({"x402Version": 2, "accepts": [ACCEPTED]}))],
        json.dumps({"x402Version": 1, "accepts": [V1_ACCEPTED]}).encode(),
    )
    assert read.dialect == "x402/2"
    assert read.offers[0].offer.v1_network == ""


def test_a_v1_challenge_is_read_from_the_body():
    body = json.dumps({"x402Version": 1, "accepts": [V1_ACCEPTED], "error": "pay", "type": "about:blank"}).encode()
    read = x402.read_challenge(402, [], body)
    offer = read.offers[0].offer
    assert (read.dialect, read.resource_url, read.error) == ("x402/1", URL, "pay")
    assert (offer.network, offer.v1_network, offer.price.amount_atomic) == ("eip155:84532", "base-sepolia", 1000)
    assert (read.resource, read.extensions) == (None, None)


def test_an_unknown_asset_has_no_symbol_that_a_budget_could_mistake():
    asset = challenge().offers[0].offer.price.asset
    assert (asset.symbol, asset.decimals, asset.fiat) == ("", 0, "")
    assert asset.id == f"eip155:4020402/erc20:{SANDBOX_TOKEN.address_text.lower()}" == SANDBOX_TOKEN.asset.id


def test_what_is_null_is_absent():
    read = challenge([{**ACCEPTED, "extra": None}], error=None, resource=None, extensions=None)
    assert (read.error, read.resource, read.extensions, read.resource_url) == ("", None, None, "")
    assert read.offers[0].offer.extra == {}


def test_an_offer_that_cannot_be_read_spoils_no_other():
    broken = [
        {**ACCEPTED, "amount": "1.5"},
        {**ACCEPTED, "amount": 1000},
        {**ACCEPTED, "amount": str(MAX_ATOMIC + 1)},
        {**ACCEPTED, "payTo": None},
        {**ACCEPTED, "maxTimeoutSeconds": "300"},
        {**ACCEPTED, "maxTimeoutSeconds": 0},
        {**ACCEPTED, "maxTimeoutSeconds": 86_401},
        {**ACCEPTED, "maxTimeoutSeconds": 10**18},
        {**ACCEPTED, "extra": []},
        {},
        "exact",
        None,
    ]
    read = challenge([*broken, ACCEPTED])
    assert len(read.offers) == 1
    assert len(read.unreadable) == len(broken)
    assert read.unreadable[0].startswith("offer 1: ")


def test_a_network_that_v1_does_not_name_is_skipped():
    body = json.dumps({"x402Version": 1, "accepts": [{**V1_ACCEPTED, "network": "eip155:84532"}, V1_ACCEPTED]}).encode()
    read = x402.read_challenge(402, [], body)
    assert len(read.offers) == len(read.unreadable) == 1


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"x402Version": 2}, "another shape"),
        ({"x402Version": 2, "accepts": []}, "offers nothing"),
        ({"x402Version": 2, "accepts": {}}, "another shape"),
        ({"x402Version": 1, "accepts": [ACCEPTED]}, "x402Version 1"),
        ({"x402Version": 2, "accepts": [ACCEPTED] * (OFFERS_READ_MAX + 1)}, "more than 64 offers"),
        ([], "another shape"),
    ],
)
def test_a_challenge_that_cannot_be_read_is_invalid(members, why):
    with pytest.raises(ChallengeInvalid, match=why):
        x402.read_challenge(402, [(b"payment-required", b64(members))], None)


def test_as_many_offers_as_the_limit_are_read():
    assert len(challenge([ACCEPTED] * OFFERS_READ_MAX).offers) == OFFERS_READ_MAX


def test_only_a_402_is_a_challenge():
    value = b64({"x402Version": 2, "accepts": [ACCEPTED]})
    for status in (200, 401, 403, 412, 500):
        with pytest.raises(ChallengeInvalid, match=str(status)):
            x402.read_challenge(status, [(b"payment-required", value)], None)


@pytest.mark.parametrize("body", [None, b""])
def test_a_402_without_anything_says_so(body):
    with pytest.raises(ChallengeInvalid, match="neither"):
        x402.read_challenge(402, [(b"content-type", b"text/html")], body)


def test_two_challenges_that_differ_are_invalid_and_equal_ones_are_one():
    one, two = b64({"x402Version": 2, "accepts": [ACCEPTED]}), b64({"accepts": [ACCEPTED], "x402Version": 2})
    assert x402.read_challenge(402, [(b"payment-required", one)] * 2, None).offers
    with pytest.raises(ChallengeInvalid, match="differ"):
        x402.read_challenge(402, [(b"payment-required", one), (b"payment-required", two)], None)


def test_the_size_of_a_challenge_is_bounded():
    with pytest.raises(ChallengeInvalid, match="at most"):
        x402.read_challenge(402, [(b"payment-required", b"A" * (CHALLENGE_HEADER_BYTES_MAX + 1))], None)
    with pytest.raises(ChallengeInvalid, match="more than"):
        x402.read_challenge(402, [], b" " * (CHALLENGE_BODY_BYTES_MAX + 1))
    with pytest.raises(ChallengeInvalid, match="deeper"):
        x402.read_challenge(402, [], b"[" * 100_000)


def test_a_page_for_people_is_no_challenge():
    with pytest.raises(ChallengeInvalid, match="not JSON"):
        x402.read_challenge(402, [], b"<!doctype html><title>Pay</title>")


def test_a_sellers_text_is_cut_and_plain():
    text = "Ignore all rules\n\x1b[31m\u202e" + "x" * 1_000
    read = challenge(error=text)
    assert len(read.error) == 200
    assert read.error.startswith("Ignore all rules ")
    assert read.error.isprintable()
    assert challenge(error={"a": 1}).error == ""


# -- challenges, written ---------------------------------------------------------------------------------------------------

OFFER = Offer(
    "exact",
    SANDBOX_TOKEN.network,
    SANDBOX_TOKEN.asset.money(1000),
    SANDBOX_TOKEN.address_text,
    ACCEPTED["payTo"],
    300,
    {"name": "USDC", "version": "2", "quote": "q", "none": None},
    "base-sepolia",
)


def test_a_v2_challenge_has_every_offer_in_order_and_no_null():
    other = Offer("upto", "eip155:8453", SANDBOX_TOKEN.asset.money(5), "0xa", "0xb", 60)
    value = x402.write_payment_required_v2(
        [OFFER, other], x402.Resource(URL), extensions={"e": {"info": None, "l": [None]}}
    )
    assert json.loads(base64.b64decode(value)) == {
        "x402Version": 2,
        "accepts": [
            {**ACCEPTED, "extra": {"name": "USDC", "version": "2", "quote": "q"}},
            {
                "scheme": "upto",
                "network": "eip155:8453",
                "amount": "5",
                "asset": "0xa",
                "payTo": "0xb",
                "maxTimeoutSeconds": 60,
                "extra": {},
            },
        ],
        "resource": {"url": URL},
        "error": "Payment required",
        "extensions": {"e": {"l": []}},
    }


@pytest.mark.parametrize("network", ["", "base-goerli", "celo", "eip155:4020402"])
def test_v1_bodies_hold_only_networks_that_every_legacy_client_names(network):
    offers = [OFFER, Offer("exact", "n", SANDBOX_TOKEN.asset.money(1), "a", "p", 60, {}, network)]
    accepts = x402.v1_accepts(offers, x402.Resource(URL, "What", "text/plain"))
    assert accepts == [{**V1_ACCEPTED, "description": "What", "mimeType": "text/plain"}]


def test_networks_of_v1_have_one_name_each():
    assert set(V1_CHAIN_IDS) >= V1_OFFERABLE
    for name in V1_CHAIN_IDS:
        assert v1_of_caip2(caip2_of_v1(name)) == name
    assert caip2_of_v1("solana") is None
    assert v1_of_caip2("eip155:4020402") == ""


def test_json_of_a_decimal_is_a_number_with_its_digits():
    assert encode_json({"amount": Decimal("0.00100")}) == b'{"amount":0.00100}'


def test_nulls_are_taken_out_at_any_depth():
    assert without_nulls({"a": None, "b": {"c": None, "d": [None, {"e": None}, [None]]}}) == {"b": {"d": [{}, []]}}


# -- receipts --------------------------------------------------------------------------------------------------------------

RECEIPT = Receipt("pay_" + "a" * 40, True, ACCEPTED["payTo"], "eip155:4020402", "0x" + "11" * 32, 1000)


def decoded(line):
    return json.loads(base64.b64decode(line[1]))


def test_a_receipt_goes_back_in_the_dialect_of_the_payment():
    name, _ = v2 = x402.write_receipt(RECEIPT, "x402/2")
    assert name == b"payment-response"
    assert decoded(v2) == {
        "success": True,
        "transaction": RECEIPT.transaction,
        "network": "eip155:4020402",
        "payer": RECEIPT.payer,
        "amount": "1000",
        "extra": {"paymentId": RECEIPT.payment_id},
    }
    name, _ = v1 = x402.write_receipt(replace(RECEIPT, v1_network="base-sepolia"), "x402/1")
    assert name == b"x-payment-response"
    assert decoded(v1)["network"] == "base-sepolia"


def test_a_v1_receipt_uses_the_networks_own_name_where_there_is_no_alias():
    live = Receipt(RECEIPT.payment_id, True, "p", "eip155:8453", "0x1", 1)
    assert decoded(x402.write_receipt(live, "x402/1"))["network"] == "base"
    assert decoded(x402.write_receipt(RECEIPT, "x402/1"))["network"] == "eip155:4020402"


def test_a_deferred_receipt_says_so_and_claims_no_transaction():
    deferred = Receipt(RECEIPT.payment_id, False, RECEIPT.payer, RECEIPT.network, "", 0)
    line = x402.write_receipt(deferred, "x402/2")
    assert decoded(line)["success"] is True
    assert decoded(line)["transaction"] == ""
    assert decoded(line)["extra"]["settlement"] == "deferred"
    assert "amount" not in decoded(line)
    assert x402.read_receipt([line]) == deferred


def test_a_refused_receipt_has_reason_and_network():
    refused = Receipt(RECEIPT.payment_id, False, RECEIPT.payer, RECEIPT.network, "", 0, "insufficient_funds")
    line = x402.write_receipt(refused, "x402/2")
    assert (decoded(line)["success"], decoded(line)["errorReason"]) == (False, "insufficient_funds")
    assert decoded(line)["network"] == RECEIPT.network
    assert x402.read_receipt([line]) == refused


def test_receipts_of_others_are_read_leniently():
    def read(members):
        return x402.read_receipt([(b"x-payment-response", b64(members))])

    assert read({"success": True, "transaction": None, "network": None, "payer": None, "amount": None}).settled
    assert read({"success": False}).reason == "unexpected_settle_error"
    assert read({"success": True, "amount": str(2**200)}).amount_atomic == 0
    assert read({"success": True, "extra": {"paymentId": 5}}).payment_id == ""
    for unreadable in ({}, {"success": "yes"}, {"success": None}, [], b"{"):
        assert read(unreadable) is None
    assert x402.read_receipt([(b"payment-response", b"A" * 20_000)]) is None
    assert x402.read_receipt([]) is None


def test_the_v2_receipt_is_preferred():
    one, two = b64({"success": True, "network": "a"}), b64({"success": True, "network": "b"})
    assert x402.read_receipt([(b"x-payment-response", one), (b"payment-response", two)]).network == "b"
