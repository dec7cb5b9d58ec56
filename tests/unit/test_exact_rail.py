"""The exact rail: what a seller takes and in which order it judges, what a buyer signs, what the book keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from micropaywall.core.model import Credential, Offer
from micropaywall.crypto.address import parse_address
from micropaywall.crypto.secp256k1 import PrivateKey, recover_address_bytes
from micropaywall.errors import (
    AuthorizationExpired,
    AuthorizationNotYetValid,
    CredentialMalformed,
    LedgerCorrupt,
    MicropaywallError,
    OfferMismatch,
    PriceError,
    RailError,
    SignatureInvalid,
    SignatureRefused,
)
from micropaywall.limits import AUTHORIZATION_LIFETIME_S_MAX, AUTHORIZATION_MARGIN_S, SIGNATURE_BYTES_MAX
from micropaywall.money import Asset, Price, parse_price
from micropaywall.proto import x402
from micropaywall.rails.exact import facilitator
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.exact.types import (
    Authorization,
    Instruction,
    Token,
    parse_payload,
    read_instruction,
    write_payload,
)
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.wallets.signer import LocalSigner

NOW_S = 1_800_000_000
KEY = PrivateKey(bytes(31) + b"\x2a")
OTHER_KEY = PrivateKey(bytes(31) + b"\x2b")
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SELLER = ExactSeller(SANDBOX_TOKEN, PAYEE, name="sandbox")
OFFER = SELLER.offer(parse_price("$0.001"), lifetime_s=300)
BUYER = ExactBuyer([SANDBOX_TOKEN])
BASE = Authorization(KEY.address_bytes, parse_address(PAYEE), 1_000, 0, NOW_S + 300, b"\x05" * 32)
USDC = Token(
    asset=Asset("eip155:8453/erc20:0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "USDC", 6, fiat="USD"),
    network="eip155:8453",
    chain_id=8453,
    address=parse_address("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
    name="USD Coin",
    version="2",
    v1_network="base",
    v1_chain_id=8453,
)


def credential(
    payload, *, dialect="x402/2", network=SANDBOX_TOKEN.network, scheme="exact", accepted=None
) -> Credential:
    return Credential(dialect, scheme, network, accepted, payload, None, {}, b"raw")


def signed(authorization=BASE, *, token=SANDBOX_TOKEN, chain_id=None, key=KEY):
    digest = token.digest(authorization, token.chain_id if chain_id is None else chain_id)
    return write_payload(authorization, key.sign_digest(digest))


def verify(authorization=BASE, **options):
    return SELLER.verify(OFFER, credential(signed(authorization)), now_s=options.get("now_s", NOW_S))


# -- the token -------------------------------------------------------------------------------------------------------------


def test_the_sandbox_token_is_the_one_that_was_agreed():
    assert SANDBOX_TOKEN.network == "eip155:4020402"
    assert (SANDBOX_TOKEN.chain_id, SANDBOX_TOKEN.v1_network, SANDBOX_TOKEN.v1_chain_id) == (
        4020402,
        "base-sepolia",
        84532,
    )
    assert (SANDBOX_TOKEN.name, SANDBOX_TOKEN.version, SANDBOX_TOKEN.asset.decimals) == ("USDC", "2", 6)
    assert SANDBOX_TOKEN.play_money
    assert SANDBOX_TOKEN.address_text == "0xa79378Fe030E2bE7d58Cd2B8E4A2BBa003F0f055"


def test_the_replay_key_covers_chain_token_payer_and_nonce_and_nothing_else():
    key = SANDBOX_TOKEN.replay_key(KEY.address_bytes, BASE.nonce)
    others = {
        replace(SANDBOX_TOKEN, chain_id=1).replay_key(KEY.address_bytes, BASE.nonce),
        replace(SANDBOX_TOKEN, address=bytes(20)).replay_key(KEY.address_bytes, BASE.nonce),
        SANDBOX_TOKEN.replay_key(OTHER_KEY.address_bytes, BASE.nonce),
        SANDBOX_TOKEN.replay_key(KEY.address_bytes, b"\x06" * 32),
    }
    assert len({key, *others}) == 5
    assert replace(SANDBOX_TOKEN, name="Other", version="1").replay_key(KEY.address_bytes, BASE.nonce) == key
    assert len(key) == 32


@pytest.mark.parametrize("half", [{"v1_network": "base"}, {"v1_chain_id": 8453}])
def test_a_token_has_both_v1_names_or_none(half):
    with pytest.raises(ValueError, match="both"):
        Token(USDC.asset, "n", 1, bytes(20), "a", "1", **half)


# -- the seller offers -----------------------------------------------------------------------------------------------------


def test_the_offer_has_what_every_client_needs():
    assert (
        Offer(
            "exact",
            "eip155:4020402",
            SANDBOX_TOKEN.asset.money(1_000),
            SANDBOX_TOKEN.address_text,
            PAYEE,
            300,
            {"name": "USDC", "version": "2"},
            "base-sepolia",
        )
        == OFFER
    )


def test_a_price_in_another_unit_is_no_offer_and_too_fine_a_price_is_an_error():
    assert SELLER.offer(parse_price("10 sat"), lifetime_s=300) is None
    with pytest.raises(PriceError):
        SELLER.offer(Price(Decimal("0.0000001"), "USD"), lifetime_s=300)


@pytest.mark.parametrize("payee", ["", "alice", "0x" + "0" * 39, "0x" + "0" * 40, PAYEE[2:]])
def test_a_payee_that_cannot_be_paid_stops_the_start(payee):
    with pytest.raises(RailError):
        ExactSeller(SANDBOX_TOKEN, payee)


def test_a_payee_is_shown_with_its_checksum():
    assert ExactSeller(SANDBOX_TOKEN, PAYEE.lower()).pay_to == PAYEE


# -- which credentials are this rail's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"scheme": "upto"}, False),
        ({"network": "eip155:84532"}, False),
        ({"network": "base-sepolia"}, False),
        ({"accepted": {"asset": SANDBOX_TOKEN.address_text.lower()}}, True),
        ({"accepted": {"asset": USDC.address_text}}, False),
        ({"accepted": {"asset": None}}, True),
        ({"dialect": "x402/1", "network": "base-sepolia"}, True),
        ({"dialect": "x402/1", "network": "base"}, False),
        ({"dialect": "x402/1"}, False),
    ],
)
def test_a_rail_knows_its_credentials_in_both_dialects(changes, expected):
    assert SELLER.accepts(credential({}, **changes)) is expected


def test_a_token_without_a_v1_name_takes_no_v1_payment():
    seller = ExactSeller(replace(SANDBOX_TOKEN, v1_network="", v1_chain_id=None), PAYEE)
    v1 = credential(signed(chain_id=84_532), dialect="x402/1", network="")
    assert not seller.accepts(v1)
    with pytest.raises(OfferMismatch) as caught:
        seller.verify(OFFER, v1, now_s=NOW_S)
    assert facilitator.reason_of(caught.value) == "network_mismatch"


# -- the seller verifies -----------------------------------------------------------------------------------------------------


def test_a_good_payment_is_verified_with_everything_that_settling_needs():
    verified = verify()
    assert (verified.rail, verified.network, verified.price) == ("sandbox", SANDBOX_TOKEN.network, OFFER.price)
    assert (verified.payer, verified.payee) == (KEY.address, PAYEE)
    assert (verified.valid_after, verified.valid_before, verified.nonce) == (0, NOW_S + 300, BASE.nonce)
    instruction = read_instruction(verified.instruction)
    assert instruction.authorization == BASE
    assert (instruction.token, instruction.chain_id) == (SANDBOX_TOKEN.address, 4020402)
    digest = SANDBOX_TOKEN.digest(instruction.authorization, instruction.chain_id)
    assert recover_address_bytes(digest, instruction.signature) == KEY.address_bytes


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"payee": OTHER_KEY.address_bytes}, OfferMismatch, "invalid_exact_evm_payload_recipient_mismatch"),
        ({"value": 999}, OfferMismatch, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"value": 1_001}, OfferMismatch, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"value": 0}, OfferMismatch, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"value": 2**256 - 1}, OfferMismatch, "invalid_exact_evm_payload_authorization_value_mismatch"),
        (
            {"valid_before": NOW_S + AUTHORIZATION_MARGIN_S - 1},
            AuthorizationExpired,
            "invalid_exact_evm_payload_authorization_valid_before",
        ),
        ({"valid_before": 0}, AuthorizationExpired, "invalid_exact_evm_payload_authorization_valid_before"),
        ({"valid_after": NOW_S}, AuthorizationNotYetValid, "invalid_exact_evm_payload_authorization_valid_after"),
        ({"valid_after": NOW_S + 1}, AuthorizationNotYetValid, "invalid_exact_evm_payload_authorization_valid_after"),
        ({"valid_after": 2**256 - 1}, AuthorizationNotYetValid, "invalid_exact_evm_payload_authorization_valid_after"),
        (
            {"valid_before": NOW_S + AUTHORIZATION_LIFETIME_S_MAX + 1},
            OfferMismatch,
            "invalid_exact_evm_payload_authorization_valid_before",
        ),
        ({"payer": OTHER_KEY.address_bytes}, SignatureInvalid, "invalid_exact_evm_payload_signature"),
    ],
)
def test_every_term_that_differs_is_refused_with_its_reason(change, error, reason):
    with pytest.raises(error) as caught:
        verify(BASE._replace(**change))
    assert type(caught.value) is error
    assert caught.value.facts["x402Reason"] == reason == facilitator.reason_of(caught.value)
    assert caught.value.problem()["x402Reason"] == reason


@pytest.mark.parametrize(
    "change",
    [
        {"valid_before": NOW_S + AUTHORIZATION_MARGIN_S},
        {"valid_before": NOW_S + AUTHORIZATION_LIFETIME_S_MAX},
        {"valid_after": NOW_S - 1},
    ],
)
def test_the_edges_of_the_window_are_inside(change):
    assert verify(BASE._replace(**change))


def test_checks_come_in_the_order_of_the_official_facilitator():
    """payee, amount, window, signature: each is reported although all that follow are wrong too."""
    wrong = {"payee": OTHER_KEY.address_bytes, "value": 5, "valid_before": NOW_S, "payer": OTHER_KEY.address_bytes}
    seen = []
    while wrong:
        with pytest.raises(MicropaywallError) as caught:
            verify(BASE._replace(**wrong))
        seen.append(facilitator.reason_of(caught.value).removeprefix("invalid_exact_evm_payload_"))
        del wrong[next(iter(wrong))]
    assert seen == ["recipient_mismatch", "authorization_value_mismatch", "authorization_valid_before", "signature"]


@pytest.mark.parametrize("length", [0, 1, 64, 66, 200])
def test_a_signature_that_is_not_an_ordinary_accounts_is_refused_and_says_why(length):
    payload = {**signed(), "signature": "0x" + "11" * length}
    with pytest.raises(SignatureInvalid, match="contract wallets") as caught:
        SELLER.verify(OFFER, credential(payload), now_s=NOW_S)
    assert caught.value.problem()["received"] == f"{length} bytes"
    assert caught.value.facts["x402Reason"] == "invalid_exact_evm_payload_signature"


@pytest.mark.parametrize("index", range(65))
def test_every_byte_of_a_signature_counts(index):
    payload = signed()
    raw = bytearray(bytes.fromhex(payload["signature"][2:]))
    raw[index] ^= 1
    with pytest.raises(SignatureInvalid) as caught:
        SELLER.verify(OFFER, credential({**payload, "signature": "0x" + raw.hex()}), now_s=NOW_S)
    assert caught.value.facts["x402Reason"] == "invalid_exact_evm_payload_signature"


def test_the_chain_that_was_signed_for_is_the_dialects():
    v1 = credential(signed(chain_id=84_532), dialect="x402/1", network="base-sepolia")
    v2 = credential(signed())
    assert SELLER.verify(OFFER, v1, now_s=NOW_S).key == SELLER.verify(OFFER, v2, now_s=NOW_S).key
    for crossed in (replace(v1, payload=v2.payload), replace(v2, payload=v1.payload)):
        with pytest.raises(SignatureInvalid):
            SELLER.verify(OFFER, crossed, now_s=NOW_S)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scheme": "upto"}, "unsupported_scheme"),
        ({"network": "eip155:1"}, "network_mismatch"),
        ({"network": "n" * 5_000}, "network_mismatch"),
        ({"dialect": "x402/1"}, "network_mismatch"),
    ],
)
def test_a_payment_for_another_scheme_or_network_is_refused(changes, reason):
    for judged in (lambda c: SELLER.verify(OFFER, c, now_s=NOW_S), SELLER.identify):
        with pytest.raises(OfferMismatch) as caught:
            judged(credential(signed(), **changes))
        assert facilitator.reason_of(caught.value) == reason
        assert len(str(caught.value.problem())) < 800


def test_a_payment_is_judged_by_our_offer_and_never_by_the_echo():
    cheap = {"amount": "1", "payTo": KEY.address, "asset": SANDBOX_TOKEN.address_text}
    with pytest.raises(OfferMismatch):
        SELLER.verify(OFFER, credential(signed(BASE._replace(value=1)), accepted=cheap), now_s=NOW_S)


def test_an_offer_to_another_payee_than_the_rails_own_is_checked_against_that_payee():
    there = replace(OFFER, pay_to=OTHER_KEY.address)
    paid = credential(signed(BASE._replace(payee=OTHER_KEY.address_bytes)))
    assert SELLER.verify(there, paid, now_s=NOW_S).payee == OTHER_KEY.address
    with pytest.raises(OfferMismatch):
        SELLER.verify(there, credential(signed()), now_s=NOW_S)


def test_identify_names_a_payment_without_judging_it():
    stale = BASE._replace(value=7, valid_before=1, payee=bytes(20))
    payload = signed(stale)
    key, instruction = SELLER.identify(credential(payload))
    assert key == SANDBOX_TOKEN.replay_key(stale.payer, stale.nonce)
    assert read_instruction(instruction).authorization == stale
    other = {**payload, "signature": "0x" + "22" * 65}
    assert SELLER.identify(credential(other)) != (key, instruction), "who has not the signature has not the payment"


# -- payloads ------------------------------------------------------------------------------------------------------------------


def edited(**members):
    payload = signed()
    payload["authorization"].update(members)
    return payload


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"authorization": None},
        {"authorization": "x", "signature": "0x00"},
        {"authorization": {}, "signature": "0x00"},
        edited(value=1000),
        edited(value="1000.0"),
        edited(value="01000"),
        edited(value="+1000"),
        edited(value=" 1000"),
        edited(value="1_000"),
        edited(value="٣"),
        edited(value=True),
        edited(value=str(2**256)),
        edited(validAfter=""),
        edited(validBefore=None),
        edited(**{"from": 5}),
        edited(to="0x"),
        edited(nonce="0x" + "01" * 31 + "0 "),
        edited(nonce="0x" + "01" * 31),
        edited(nonce="01" * 32),
        edited(nonce="0x" + "01" * 32 + " "),
        edited(nonce="0x " + "01" * 32),
        {**signed(), "signature": signed()["signature"] + "  "},
        {**signed(), "signature": "11" * 65},
        {**signed(), "signature": "0x1"},
        {**signed(), "signature": ["0x11"]},
        {**signed(), "signature": "0x" + "11" * (SIGNATURE_BYTES_MAX + 1)},
    ],
)
def test_a_payload_of_another_form_is_malformed(payload):
    with pytest.raises(CredentialMalformed) as caught:
        parse_payload(payload)
    assert facilitator.reason_of(caught.value) == "invalid_payload"


def test_a_payload_comes_back_as_it_was_written():
    assert parse_payload(write_payload(BASE, b"\x11" * 65)) == (BASE, b"\x11" * 65)
    largest = BASE._replace(value=2**256 - 1, valid_before=2**256 - 1)
    assert parse_payload(write_payload(largest, b""))[0] == largest


@pytest.mark.parametrize("member", ["permit2Authorization", "delegationManager"])
def test_other_transfer_methods_are_named_in_the_refusal(member):
    with pytest.raises(OfferMismatch, match="EIP-3009") as caught:
        parse_payload({member: {}, "signature": "0x"})
    assert facilitator.reason_of(caught.value) == "unsupported_payload_type"


# -- the instruction in the book -----------------------------------------------------------------------------------------------

STORED = Instruction(SANDBOX_TOKEN.address, 84_532, BASE, b"\x11" * 65)


def test_an_instruction_is_stable_json():
    text = STORED.encode()
    assert read_instruction(text) == STORED
    assert json.loads(text)["chainId"] == 84_532
    assert text == Instruction(*STORED).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"null",
        b"[" * 100_000,
        STORED.encode()[:-1],
        STORED.encode() + b" ",
        STORED.encode().replace(b'"v":1', b'"v":2'),
        STORED.encode().replace(b"84532", b'"84532"'),
        STORED.encode().replace(b"84532", b"true"),
        STORED.encode().replace(b'"1000"', b'"1e3"'),
        STORED.encode().upper(),
        STORED.encode().replace(b'"token"', b'"coin"'),
        STORED.encode().replace(b'"chainId"', b'"chain"'),
    ],
)
def test_an_instruction_that_is_not_ours_is_corruption(text):
    with pytest.raises(LedgerCorrupt):
        read_instruction(text)


# -- reason codes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("invalid_exact_evm_scheme", "unsupported_scheme"),
        ("invalid_exact_evm_network_mismatch", "network_mismatch"),
        ("invalid_exact_evm_missing_eip712_domain", "missing_eip712_domain"),
        ("invalid_exact_evm_recipient_mismatch", "invalid_exact_evm_payload_recipient_mismatch"),
        ("invalid_exact_evm_signature", "invalid_exact_evm_payload_signature"),
        ("invalid_exact_evm_transaction_failed", "transaction_failed"),
        ("insufficient_funds", "invalid_exact_evm_insufficient_balance"),
        ("settlement_pending", "settlement_pending"),
        ("something_new", "something_new"),
    ],
)
def test_both_spellings_of_a_reason_are_one(foreign, ours):
    assert facilitator.canonical_reason(foreign) == ours == facilitator.canonical_reason(ours)


def test_an_error_without_a_reason_is_an_invalid_payload():
    assert facilitator.reason_of(CredentialMalformed()) == "invalid_payload"


# -- the buyer -------------------------------------------------------------------------------------------------------------------

SIGNER = LocalSigner(KEY)
NONCE = b"\x09" * 32


def authorize(offer=OFFER, **changes):
    return BUYER.authorize(offer, **{"signer": SIGNER, "now_s": NOW_S, "nonce": NONCE, **changes})


def test_what_the_buyer_signs_is_what_the_seller_takes():
    payload = authorize()
    verified = SELLER.verify(OFFER, credential(payload), now_s=NOW_S)
    assert (verified.payer, verified.nonce) == (KEY.address, NONCE)
    assert (verified.valid_after, verified.valid_before) == (0, NOW_S + 300)
    assert BUYER.identify(OFFER, payload) == (verified.key, NOW_S + 300)


def test_a_v1_offer_is_signed_for_the_chain_that_v1_names():
    accepts = x402.v1_accepts([OFFER], x402.Resource("https://a.example/"))
    body = json.dumps({"x402Version": 1, "accepts": accepts, "error": ""}).encode()
    (read,) = x402.read_challenge(402, [], body, assets=BUYER.asset_of).offers
    assert read.offer.price == OFFER.price, "the budget counts the same asset in both dialects"
    v1 = credential(authorize(read.offer), dialect="x402/1", network=read.offer.v1_network)
    verified = SELLER.verify(OFFER, v1, now_s=NOW_S)
    assert verified.key == SELLER.verify(OFFER, credential(authorize()), now_s=NOW_S).key
    assert BUYER.identify(read.offer, authorize(read.offer))[0] == verified.key


def test_the_borrowed_network_is_not_signed_for_in_v2():
    with pytest.raises(SignatureRefused, match="borrows"):
        authorize(replace(OFFER, network="eip155:84532", v1_network=""))


def test_the_domain_that_is_signed_is_never_the_offers():
    silent = replace(OFFER, extra={})
    assert authorize(silent) == authorize()
    for extra in ({"name": "USD Coin"}, {"version": "1"}, {"name": None}, {"name": ["USDC"]}):
        with pytest.raises(SignatureRefused, match="domain"):
            authorize(replace(OFFER, extra={**OFFER.extra, **extra}))


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "upto"},
        {"network": "eip155:1"},
        {"network": ""},
        {"asset_address": USDC.address_text},
        {"asset_address": "USDC"},
        {"pay_to": "merchant"},
        {"pay_to": "0x" + "00" * 20},
        {"max_timeout_s": AUTHORIZATION_MARGIN_S},
        {"max_timeout_s": AUTHORIZATION_LIFETIME_S_MAX + 1},
        {"price": SANDBOX_TOKEN.asset.money(0)},
        {"extra": {"assetTransferMethod": "permit2"}},
        {"extra": {"assetTransferMethod": {}}},
        {"extra": {"paymentFlow": "escrow"}},
        {"extra": {"paymentFlow": 1}},
    ],
)
def test_what_the_buyer_does_not_recognise_is_not_signed(change):
    offer = replace(OFFER, **change)
    assert not BUYER.can_pay(offer)
    with pytest.raises(SignatureRefused):
        authorize(offer)


@pytest.mark.parametrize(
    "extra",
    [{"assetTransferMethod": "eip3009"}, {"paymentFlow": "upfront"}, {"paymentFlow": "authorization"}, {"quote": "x"}],
)
def test_what_changes_nothing_for_the_payer_is_signed(extra):
    assert BUYER.can_pay(replace(OFFER, extra={**OFFER.extra, **extra}))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_nonce_has_32_bytes(length):
    with pytest.raises(SignatureRefused, match="32 bytes"):
        authorize(nonce=bytes(length))


def test_only_tokens_of_the_rail_have_an_asset():
    assert BUYER.asset_of("eip155:4020402", SANDBOX_TOKEN.address_text.lower()) == SANDBOX_TOKEN.asset
    assert BUYER.asset_of("eip155:84532", SANDBOX_TOKEN.address_text) == SANDBOX_TOKEN.asset
    assert BUYER.asset_of("eip155:8453", SANDBOX_TOKEN.address_text) is None
    assert BUYER.asset_of("eip155:4020402", "nonsense") is None
    both = ExactBuyer([SANDBOX_TOKEN, USDC])
    assert both.asset_of("eip155:8453", USDC.address_text) == USDC.asset
