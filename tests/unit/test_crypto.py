from __future__ import annotations

import copy
import pickle

import pytest

from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.crypto.eip712 import (
    domain_separator,
    hash_struct,
    transfer_digest,
    type_hash,
    word_address,
    word_uint,
)
from micropaywall.crypto.keccak import keccak256
from micropaywall.crypto.secp256k1 import ORDER, PrivateKey, recover_address_bytes
from micropaywall.errors import SignatureInvalid

SECRET = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
KEY = PrivateKey(SECRET)
DIGEST = keccak256(b"a message")
SIGNATURE = KEY.sign_digest(DIGEST)
R, S, V = SIGNATURE[:32], int.from_bytes(SIGNATURE[32:64], "big"), SIGNATURE[64]


def test_keccak_is_not_the_sha3_of_hashlib_and_leaves_hashlib_alone():
    import hashlib

    assert keccak256(b"abc") != hashlib.sha3_256(b"abc").digest()
    assert not hasattr(hashlib, "keccak_256")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "0x" + "0" * 39,
        "0x" + "0" * 41,
        "0X" + "0" * 40,
        "00" + "0" * 40,
        "0x" + "g" * 40,
        "0x" + " 0" * 20,
        "0x" + "0 " * 20,
        "0x" + "0" * 38 + "\n\n",
        "0x" + "０" * 40,
        b"0x" + b"0" * 40,
        None,
        0,
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs by what fromhex finds first
        parse_address(text)


def test_an_address_is_read_in_any_case():
    text = KEY.address
    assert (
        parse_address(text)
        == parse_address(text.lower())
        == parse_address("0x" + text[2:].upper())
        == KEY.address_bytes
    )


@pytest.mark.parametrize("length", [0, 19, 21, 32])
def test_only_twenty_bytes_are_an_address(length):
    with pytest.raises(ValueError, match="20 bytes"):
        to_checksum(bytes(length))
    with pytest.raises(ValueError, match="20 bytes"):
        word_address(bytes(length))


def test_a_signature_names_its_signer():
    assert recover_address_bytes(DIGEST, SIGNATURE) == KEY.address_bytes
    assert recover_address_bytes(keccak256(b"another"), SIGNATURE) != KEY.address_bytes


def test_signing_is_deterministic_and_canonical():
    for number in range(64):
        digest = keccak256(bytes([number]))
        signature = KEY.sign_digest(digest)
        assert signature == KEY.sign_digest(digest)
        assert signature[64] in (27, 28)
        assert int.from_bytes(signature[32:64], "big") <= ORDER // 2
        assert recover_address_bytes(digest, signature) == KEY.address_bytes


def test_the_flipped_parity_names_somebody_else():
    """A remembered public key would verify this; a token recovers, and so do we."""
    assert recover_address_bytes(DIGEST, SIGNATURE[:64] + bytes([55 - V])) != KEY.address_bytes


@pytest.mark.parametrize("length", [0, 1, 63, 64, 66, 96, 130])
def test_a_signature_of_another_length_is_refused(length):
    with pytest.raises(SignatureInvalid, match="65 bytes"):
        recover_address_bytes(DIGEST, (SIGNATURE * 2)[:length])


@pytest.mark.parametrize("v", [0, 1, 2, 3, 4, 26, 29, 30, 35, 36, 127, 255])
def test_a_v_that_contracts_refuse_is_refused(v):
    with pytest.raises(SignatureInvalid, match="neither 27 nor 28"):
        recover_address_bytes(DIGEST, SIGNATURE[:64] + bytes([v]))


@pytest.mark.parametrize("v", [27, 28])
def test_the_upper_half_of_s_is_refused(v):
    twin = R + (ORDER - S).to_bytes(32, "big") + bytes([v])
    with pytest.raises(SignatureInvalid, match="upper half"):
        recover_address_bytes(DIGEST, twin)


def test_the_bound_of_s_is_half_the_order():
    at, above = (bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798") for _ in range(2))
    half = ORDER // 2
    recover_address_bytes(DIGEST, at + half.to_bytes(32, "big") + b"\x1b")
    with pytest.raises(SignatureInvalid, match="upper half"):
        recover_address_bytes(DIGEST, above + (half + 1).to_bytes(32, "big") + b"\x1b")


@pytest.mark.parametrize("r", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_an_r_outside_the_order_is_refused(r):
    with pytest.raises(SignatureInvalid, match="between 1 and n-1"):
        recover_address_bytes(DIGEST, r.to_bytes(32, "big") + SIGNATURE[32:])


@pytest.mark.parametrize("s", [0, ORDER, 2**256 - 1])
def test_an_s_outside_the_order_is_refused(s):
    with pytest.raises(SignatureInvalid, match="zero or in the upper half"):
        recover_address_bytes(DIGEST, R + s.to_bytes(32, "big") + bytes([V]))


def test_an_r_that_is_no_point_is_refused():
    with pytest.raises(SignatureInvalid, match="no key"):
        recover_address_bytes(DIGEST, (5).to_bytes(32, "big") + SIGNATURE[32:])


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_a_digest_of_32_bytes_is_signed_or_checked(length):
    with pytest.raises(ValueError, match="32 bytes"):
        KEY.sign_digest(bytes(length))
    with pytest.raises(ValueError, match="32 bytes"):
        recover_address_bytes(bytes(length), SIGNATURE)


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(32), bytes(33), ORDER.to_bytes(32, "big"), b"\xff" * 32])
def test_what_is_no_secret_key_is_refused_without_repeating_it(secret):
    with pytest.raises(ValueError, match="between 1 and n-1") as caught:
        PrivateKey(secret)
    assert secret.hex() not in str(caught.value) or not secret


def test_a_private_key_is_in_no_repr_copy_or_pickle():
    shown = f"{KEY!r} {KEY} {[KEY]} {vars(type(KEY)).keys()}"
    assert SECRET.hex() not in shown
    assert repr(SECRET) not in shown
    assert KEY.address in repr(KEY)
    assert KEY.secret == SECRET
    assert not hasattr(KEY, "__dict__")
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not pickled or copied"):
            copying(KEY)


def test_a_struct_takes_words_only():
    with pytest.raises(ValueError, match="32 bytes"):
        hash_struct(type_hash("A(uint256 a)"), b"\x01")
    with pytest.raises(OverflowError):
        word_uint(2**256)
    with pytest.raises(OverflowError):
        word_uint(-1)


@pytest.mark.parametrize("change", [{"payer": bytes(19)}, {"payee": bytes(21)}, {"nonce": bytes(31)}])
def test_an_authorization_has_members_of_fixed_length(change):
    members = {
        "payer": bytes(20),
        "payee": bytes(20),
        "value": 1,
        "valid_after": 0,
        "valid_before": 1,
        "nonce": bytes(32),
    }
    with pytest.raises(ValueError, match="20 bytes and a nonce of 32"):
        transfer_digest(bytes(32), **{**members, **change})


def test_members_of_wrong_length_that_add_up_are_refused():
    with pytest.raises(ValueError, match="20 bytes and a nonce of 32"):
        transfer_digest(bytes(32), bytes(19), bytes(21), 1, 0, 1, bytes(32))


def test_every_member_of_a_domain_changes_its_separator():
    base = ("USDC", "2", 8453, bytes(20))
    others = [("USD Coin", *base[1:]), ("USDC", "1", *base[2:]), ("USDC", None, *base[2:]), ("USDC", "2", 1, base[3])]
    others.append((*base[:3], b"\x01" * 20))
    assert len({domain_separator(*members) for members in (base, *others)}) == 6
