"""What a seller may send a buyer: challenges and receipts are read or refused, and come back as they were written."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from micropaywall.core.model import Offer, Receipt
from micropaywall.errors import ChallengeInvalid, CredentialMalformed
from micropaywall.limits import CREDENTIAL_JSON_DEPTH_MAX
from micropaywall.money import MAX_ATOMIC, Asset
from micropaywall.proto import x402
from micropaywall.proto.json import nesting
from micropaywall.proto.x402.wire import amount_of
from micropaywall.sandbox.token import SANDBOX_TOKEN

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
offers = st.builds(
    lambda scheme, amount, payee, life, extra, v1: Offer(
        scheme,
        SANDBOX_TOKEN.network,
        SANDBOX_TOKEN.asset.money(amount),
        SANDBOX_TOKEN.address_text,
        payee,
        life,
        extra,
        v1,
    ),
    words,
    st.integers(0, MAX_ATOMIC),
    words,
    st.integers(1, 86_400),
    st.dictionaries(words, words | st.integers(0, 100) | st.none(), max_size=4),
    st.sampled_from(["", "base-sepolia", "base"]),
)


def assets(network: str, address: str) -> Asset | None:
    return SANDBOX_TOKEN.asset if address == SANDBOX_TOKEN.address_text else None


def kept(extra):
    return {key: value for key, value in extra.items() if value is not None}


@given(st.lists(offers, min_size=1, max_size=5), words, words, words)
def test_v2_offers_come_back_as_they_were_written(written, url, description, error):
    resource = x402.Resource(url, description, "text/plain")
    value = x402.write_payment_required_v2(written, resource, error=error)
    challenge = x402.read_challenge(402, [(b"payment-required", value)], b"ignored", assets=assets)
    assert challenge.dialect == "x402/2"
    assert challenge.resource_url == url
    assert not challenge.unreadable
    for offer, read in zip(written, challenge.offers, strict=True):
        assert (read.offer.scheme, read.offer.price, read.offer.pay_to) == (offer.scheme, offer.price, offer.pay_to)
        assert (read.offer.max_timeout_s, read.offer.extra) == (offer.max_timeout_s, kept(offer.extra))
        _, paid = x402.write_payment_v2(read.raw, {"a": 1}, resource=challenge.resource)
        assert b'"accepted":' + read.raw + b',"payload":{"a":1}' in base64.b64decode(paid)


@given(st.lists(offers, max_size=5), words)
def test_v1_offers_come_back_without_the_networks_that_v1_cannot_name(written, url):
    accepts = x402.v1_accepts(written, x402.Resource(url))
    named = [offer for offer in written if offer.v1_network]
    body = json.dumps({"x402Version": 1, "accepts": accepts, "error": "pay"}).encode()
    if not named:
        with pytest.raises(ChallengeInvalid):
            x402.read_challenge(402, [], body)
        return
    challenge = x402.read_challenge(402, [], body, assets=assets)
    for offer, read in zip(named, challenge.offers, strict=True):
        assert (read.offer.price, read.offer.v1_network) == (offer.price, offer.v1_network)
        assert read.offer.extra == {key: value for key, value in kept(offer.extra).items() if key != "quote"}


@given(st.integers(0, 1000), st.binary(max_size=200), st.none() | st.binary(max_size=200))
def test_any_answer_is_a_challenge_or_invalid(status, value, body):
    with pytest.raises(ChallengeInvalid):
        x402.read_challenge(status, [(b"payment-required", value)], body)
    with pytest.raises(ChallengeInvalid):
        x402.read_challenge(status, [], body)


@given(json_values, json_values, json_values, json_values)
def test_any_members_are_a_challenge_or_invalid(accepts, resource, error, extensions):
    members = {"x402Version": 2, "accepts": accepts, "resource": resource, "error": error, "extensions": extensions}
    text = json.dumps(members).encode()
    refusal = None
    try:
        challenge = x402.read_challenge(402, [(b"payment-required", base64.b64encode(text))], None)
    except ChallengeInvalid as invalid:
        refusal = invalid.problem()
    if refusal is not None:
        assert json.dumps(refusal)
    else:
        assert not challenge.offers
        assert len(challenge.unreadable) == len(accepts)


@given(st.text(max_size=400))
def test_a_sellers_error_text_is_short_and_plain(text):
    members = {"x402Version": 2, "accepts": [{}], "error": text}
    value = base64.b64encode(json.dumps(members).encode("utf-8"))
    challenge = x402.read_challenge(402, [(b"payment-required", value)], None)
    assert challenge.error.isprintable()
    assert len(challenge.error) <= 200


receipts = st.builds(
    lambda settled, reason, transaction, amount: Receipt(
        "pay_" + "0" * 40,
        settled,
        "0x" + "11" * 20,
        "eip155:4020402",
        transaction if settled else "",
        amount if settled else 0,
        "" if settled else reason,
    ),
    st.booleans(),
    words,
    words,
    st.integers(0, MAX_ATOMIC),
)


@given(receipts)
def test_receipts_come_back_as_they_were_written(receipt):
    assert x402.read_receipt([x402.write_receipt(receipt, "x402/2")]) == receipt


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_receipt_that_cannot_be_read_is_none(text):
    read = x402.read_receipt([(b"payment-response", base64.b64encode(text))])
    assert read is None or isinstance(json.loads(text)["success"], bool)


# -- the guards below the formats -------------------------------------------------------------------------------------------


def depth(value) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(member) for member in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(member) for member in value), default=0)
    return 0


@given(json_values)
def test_nesting_is_counted_as_a_parser_would(value):
    assert nesting(json.dumps(value).encode()) == depth(value)


@given(st.integers(0, 30), st.text('[{]}"\\', max_size=40))
def test_brackets_in_strings_do_not_nest(levels, text):
    value = text
    for _ in range(levels):
        value = [value]
    raw = json.dumps({"x402Version": 2, "accepted": {}, "payload": {}, "resource": value}).encode()
    with pytest.raises(CredentialMalformed) as caught:
        x402.read_credential([(b"payment-signature", base64.b64encode(raw))])
    assert ("deeper" in caught.value.detail) == (levels + 1 > CREDENTIAL_JSON_DEPTH_MAX)


@given(st.integers(0, 2**257))
def test_amounts_are_plain_decimals_of_a_uint256(number):
    expected = number if number < 2**256 else None
    assert amount_of(str(number)) == expected
    for other in (
        f"0{number}",
        f"+{number}",
        f"-{number}",
        f" {number}",
        f"{number}.0",
        f"{number}e0",
        number,
        f"{number}_0",
    ):
        assert amount_of(other) is None


@given(st.text(st.characters(categories=["Nd", "No", "Nl"]), min_size=1, max_size=5))
@example("１２")
@example("٣")
def test_only_ascii_digits_are_amounts(text):
    read = amount_of(text)
    assert read is None or text == str(read)
