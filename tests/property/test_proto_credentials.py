"""What a stranger may send in a payment header: it is read, or refused by an error of the tree; and one payment has one key."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from micropaywall.core.model import Credential
from micropaywall.crypto.secp256k1 import ORDER, PrivateKey
from micropaywall.errors import CredentialMalformed, CredentialsConflict, RequestRefused
from micropaywall.money import parse_price
from micropaywall.proto import x402
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.exact.types import Authorization, write_payload
from micropaywall.sandbox.token import SANDBOX_TOKEN

NOW_S = 1_800_000_000
PAYER = PrivateKey(bytes(31) + b"\x07")
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SELLER = ExactSeller(SANDBOX_TOKEN, PAYEE)
OFFER = SELLER.offer(parse_price(10_000), lifetime_s=300)
BASE = Authorization(PAYER.address_bytes, bytes.fromhex(PAYEE[2:]), 10_000, 0, NOW_S + 300, b"\x01" * 32)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([b"payment-signature", b"x-payment"])
bytes_32 = st.binary(min_size=32, max_size=32)


def signed(authorization: Authorization, chain_id: int = SANDBOX_TOKEN.chain_id):
    return write_payload(authorization, PAYER.sign_digest(SANDBOX_TOKEN.digest(authorization, chain_id)))


GOOD = signed(BASE)
ACCEPTED = {"scheme": "exact", "network": SANDBOX_TOKEN.network, "amount": "10000", "asset": SANDBOX_TOKEN.address_text}


def header(members) -> bytes:
    return base64.b64encode(json.dumps(members).encode())


def v2(payload, **changes) -> Credential:
    members = {"x402Version": 2, "accepted": ACCEPTED, "payload": payload, **changes}
    return x402.read_credential([(b"payment-signature", header(members))])


def judge(headers) -> None:
    """Read, identify, verify: the only errors are refusals, and the payment is never taken."""
    with pytest.raises(RequestRefused) as caught:
        present(headers)
    assert json.dumps(caught.value.problem())


def present(headers) -> None:
    credential = x402.read_credential(headers)
    SELLER.accepts(credential)
    SELLER.identify(credential)
    SELLER.verify(OFFER, credential, now_s=NOW_S)


@given(names, st.binary(max_size=200))
@example(b"payment-signature", b"")
def test_any_bytes_are_refused(name, value):
    judge([(name, value)])


@given(names, st.binary(max_size=200))
def test_any_bytes_behind_base64_are_refused(name, text):
    judge([(name, base64.b64encode(text))])


@given(names, json_values)
def test_any_json_is_refused(name, value):
    judge([(name, header(value))])


@given(st.sampled_from([1, 2]), json_values, json_values, json_values, json_values)
def test_any_members_are_refused(version, payload, accepted, resource, extensions):
    members = {"payload": payload, "accepted": accepted, "resource": resource, "extensions": extensions}
    judge([(b"payment-signature", header({"x402Version": version, **members}))])
    judge([(b"x-payment", header({"x402Version": version, "scheme": "exact", "network": accepted, **members}))])


@given(st.sampled_from([*GOOD["authorization"], "signature"]), json_values)
def test_a_member_of_another_kind_is_refused(member, value):
    payload = json.loads(json.dumps(GOOD))
    (payload if member == "signature" else payload["authorization"])[member] = value
    assume(payload != GOOD)
    judge([(b"payment-signature", header({"x402Version": 2, "accepted": ACCEPTED, "payload": payload}))])


@given(st.sampled_from([*GOOD["authorization"], "signature"]), st.data())
def test_every_digit_that_is_edited_after_signing_is_refused(member, data):
    payload = json.loads(json.dumps(GOOD))
    where = payload if member == "signature" else payload["authorization"]
    text = where[member]
    start = 2 if text.startswith("0x") else 0
    at = data.draw(st.integers(start, len(text) - 1))
    digits = "0123456789abcdef" if start else "0123456789"
    digit = data.draw(st.sampled_from(digits))
    assume(digit != text[at].lower())
    where[member] = text[:at] + digit + text[at + 1 :]
    judge([(b"payment-signature", header({"x402Version": 2, "accepted": ACCEPTED, "payload": payload}))])


@given(st.binary(min_size=65, max_size=65))
def test_a_signature_of_chance_is_refused(signature):
    payload = {**GOOD, "signature": "0x" + signature.hex()}
    judge([(b"payment-signature", header({"x402Version": 2, "accepted": ACCEPTED, "payload": payload}))])


@given(bytes_32)
def test_the_malleable_twin_of_a_signature_is_refused(nonce):
    payload = signed(BASE._replace(nonce=nonce))
    raw = bytes.fromhex(payload["signature"][2:])
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big") + bytes([55 - raw[64]])
    payload["signature"] = "0x" + twin.hex()
    judge([(b"payment-signature", header({"x402Version": 2, "accepted": ACCEPTED, "payload": payload}))])


# -- one payment, one key -------------------------------------------------------------------------------------------------


@st.composite
def recased(draw, text):
    """``text`` with its hex digits in any case."""
    flips = draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    changed = [char.upper() if flip else char.lower() for char, flip in zip(text[2:], flips[2:], strict=True)]
    return "0x" + "".join(changed)


@given(st.data(), bytes_32, json_values, st.booleans())
def test_every_encoding_of_a_payment_has_its_key_and_instruction(data, nonce, extra, pretty):
    authorization = BASE._replace(nonce=nonce)
    payload = signed(authorization)
    expected = SELLER.identify(v2(payload))
    members = payload["authorization"]
    for member in ("from", "to", "nonce"):
        members[member] = data.draw(recased(members[member]))
    payload["signature"] = data.draw(recased(payload["signature"]))
    payload["authorization"] = dict(data.draw(st.permutations(sorted(members.items()))))
    payload["authorization"]["more"] = extra
    document = {"payload": payload, "accepted": ACCEPTED, "x402Version": 2, "extensions": {"any": extra}, "more": extra}
    text = json.dumps(document, indent=3 if pretty else None).encode()
    credential = x402.read_credential([(b"payment-signature", base64.b64encode(text))])
    assert SELLER.identify(credential) == expected
    verified = SELLER.verify(OFFER, credential, now_s=NOW_S)
    assert (verified.key, verified.instruction) == expected


@given(bytes_32, bytes_32)
def test_both_dialects_have_one_key_and_other_nonces_have_others(nonce, other):
    assume(nonce != other)

    def key(dialect, nonce):
        authorization = BASE._replace(nonce=nonce)
        if dialect == 2:
            return SELLER.verify(OFFER, v2(signed(authorization)), now_s=NOW_S).key
        payload = signed(authorization, SANDBOX_TOKEN.v1_chain_id)
        members = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload}
        credential = x402.read_credential([(b"x-payment", header(members))])
        return SELLER.verify(OFFER, credential, now_s=NOW_S).key

    assert key(1, nonce) == key(2, nonce)
    assert key(2, nonce) != key(2, other)


@given(
    st.integers(1, 2**62 - 1),
    st.integers(0, NOW_S - 1),
    st.integers(NOW_S + 6, NOW_S + 86_400),
    bytes_32,
    st.sampled_from([1, 2]),
)
def test_what_is_signed_for_the_offer_is_taken(amount, valid_after, valid_before, nonce, dialect):
    offer = SELLER.offer(parse_price(amount), lifetime_s=300)
    authorization = Authorization(PAYER.address_bytes, BASE.payee, amount, valid_after, valid_before, nonce)
    chain_id = SANDBOX_TOKEN.chain_id if dialect == 2 else SANDBOX_TOKEN.v1_chain_id
    payload = signed(authorization, chain_id)
    if dialect == 2:
        credential = v2(payload)
    else:
        name, value = x402.write_payment_v1("exact", "base-sepolia", payload)
        credential = x402.read_credential([(name.lower().encode(), value.encode())])
    verified = SELLER.verify(offer, credential, now_s=NOW_S)
    assert verified.price.amount_atomic == amount
    assert (verified.valid_after, verified.valid_before, verified.nonce) == (valid_after, valid_before, nonce)
    assert verified.payer == PAYER.address


# -- several headers ------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(names, st.sampled_from([header({"x402Version": 2, "accepted": ACCEPTED, "payload": {}}), b"x"])))
)
def test_several_payment_headers_are_one_payment_or_a_conflict(lines):
    values = {value for _, value in lines}
    others = [(b"host", b"x"), (b"accept", b"*/*")]
    if not lines:
        assert x402.read_credential(others) is None
    elif len(values) > 1:
        with pytest.raises(CredentialsConflict):
            x402.read_credential([*others, *lines])
    elif any(name == b"payment-signature" for name, _ in lines) and values != {b"x"}:
        assert x402.read_credential([*lines, *others]).dialect == "x402/2"
    else:
        with pytest.raises(CredentialMalformed):
            x402.read_credential([*lines, *others])
