"""Keystore files: the format's own vectors, what is refused, and how files are written."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.errors import KeystoreInvalid, PassphraseWrong
from micropaywall.wallets import keystore
from micropaywall.wallets.scrypt_r1 import openssl_refuses, scrypt_r1
from micropaywall.wallets.secret import Secret

# ethereum.org, "Web3 Secret Storage Definition": test vectors of version 3.
PASSPHRASE = Secret("testpassword")
SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
PBKDF2: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
SCRYPT: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "r": 1,
            "p": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}

KEY = PrivateKey(bytes.fromhex(SECRET))
LIGHT = keystore.encrypt(KEY, PASSPHRASE, n=2)


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    copy = json.loads(json.dumps(document))
    *parents, last = path.split(".")
    place = copy
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


def test_the_pbkdf2_vector_of_the_format_opens_to_its_key() -> None:
    assert keystore.decrypt(PBKDF2, PASSPHRASE).secret.hex() == SECRET


@pytest.mark.long
def test_the_scrypt_vector_of_the_format_opens_to_its_key() -> None:
    """Its parameters are outside RFC 7914 and take about a minute."""
    assert keystore.decrypt(SCRYPT, PASSPHRASE).secret.hex() == SECRET


@pytest.mark.parametrize(("n", "p"), [(2, 1), (16, 2), (512, 8), (1024, 3)])
def test_our_scrypt_of_block_size_1_is_scrypt(n: int, p: int) -> None:
    ours = scrypt_r1(b"passphrase", salt=b"salt", n=n, p=p, length=48)
    assert ours == hashlib.scrypt(b"passphrase", salt=b"salt", n=n, r=1, p=p, dklen=48)


def test_our_scrypt_is_used_only_where_openssl_has_none() -> None:
    assert keystore.opens_slowly(SCRYPT)
    assert not keystore.opens_slowly(LIGHT)
    assert not keystore.opens_slowly(PBKDF2)
    assert not openssl_refuses(keystore.SCRYPT_N, 8)
    with pytest.raises(ValueError, match=r"memory limit exceeded|[Ii]nvalid"):
        hashlib.scrypt(b"", salt=b"", n=65_536, r=1, p=1, maxmem=2**30)
    assert openssl_refuses(65_536, 1)
    assert not openssl_refuses(32_768, 1)


def test_what_is_written_is_read_back() -> None:
    document = json.loads(json.dumps(keystore.encrypt(KEY, Secret("Grüße, \U0001f511"), n=keystore.SCRYPT_N_LIGHT)))
    assert keystore.decrypt(document, Secret("Grüße, \U0001f511")).address == KEY.address
    assert keystore.address_of(document) == KEY.address
    assert document["crypto"]["kdfparams"]["n"] == 4096
    assert document["version"] == 3
    assert SECRET not in json.dumps(document)


def test_two_keystores_of_one_key_share_neither_salt_nor_ciphertext() -> None:
    other = keystore.encrypt(KEY, PASSPHRASE, n=2)
    assert other["crypto"]["kdfparams"]["salt"] != LIGHT["crypto"]["kdfparams"]["salt"]
    assert other["crypto"]["ciphertext"] != LIGHT["crypto"]["ciphertext"]


def test_a_wrong_passphrase_is_told_from_a_broken_file() -> None:
    with pytest.raises(PassphraseWrong):
        keystore.decrypt(LIGHT, Secret("testpassword "))


def test_a_flipped_bit_of_the_ciphertext_does_not_open() -> None:
    first = format(int(LIGHT["crypto"]["ciphertext"][0], 16) ^ 1, "x")
    with pytest.raises(PassphraseWrong):
        keystore.decrypt(changed(LIGHT, "crypto.ciphertext", first + LIGHT["crypto"]["ciphertext"][1:]), PASSPHRASE)


def test_a_key_that_is_not_of_the_address_in_the_file_is_refused() -> None:
    with pytest.raises(KeystoreInvalid, match="address"):
        keystore.decrypt(changed(LIGHT, "address", "00" * 20), PASSPHRASE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 1),
        ("version", "3"),
        ("crypto", ...),
        ("crypto", []),
        ("crypto.cipher", "aes-256-ctr"),
        ("crypto.cipherparams", ...),
        ("crypto.cipherparams.iv", "00"),
        ("crypto.cipherparams.iv", "zz" * 16),
        ("crypto.cipherparams.iv", 7),
        ("crypto.ciphertext", "00" * 33),
        ("crypto.ciphertext", ""),
        ("crypto.kdf", "argon2"),
        ("crypto.kdfparams.dklen", 16),
        ("crypto.kdfparams.dklen", 32.0),
        ("crypto.kdfparams.n", 3),
        ("crypto.kdfparams.n", True),
        ("crypto.kdfparams.r", 0),
        ("crypto.kdfparams.salt", None),
        ("crypto.mac", ...),
    ],
)
def test_a_file_that_is_no_keystore_of_version_3_is_refused(path: str, value: object) -> None:
    with pytest.raises(KeystoreInvalid):
        keystore.decrypt(changed(LIGHT, path, value), PASSPHRASE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("crypto.kdfparams.n", 2**24),  # 16 GiB
        ("crypto.kdfparams.r", 2**26),
        ("crypto.kdfparams.p", 2**30),
    ],
)
def test_a_file_cannot_ask_scrypt_for_all_memory_or_time(path: str, value: int) -> None:
    with pytest.raises(KeystoreInvalid, match="memory or time"):
        keystore.decrypt(changed(LIGHT, path, value), PASSPHRASE)


def test_a_file_cannot_ask_pbkdf2_for_all_time() -> None:
    with pytest.raises(KeystoreInvalid, match="rounds"):
        keystore.decrypt(changed(PBKDF2, "crypto.kdfparams.c", 2**40), PASSPHRASE)


def test_a_file_is_written_whole_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "wallets" / "main.json"
    keystore.write_file(path, b'{"version": 3}')
    assert keystore.read_file(path) == {"version": 3}
    assert [entry.name for entry in path.parent.iterdir()] == ["main.json"]
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_is_never_overwritten_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "main.json"
    keystore.write_file(path, b'{"version": 3}')
    with pytest.raises(FileExistsError):
        keystore.write_file(path, b"{}")
    assert keystore.read_file(path) == {"version": 3}
    keystore.write_file(path, b"{}", replace=True)
    assert keystore.read_file(path) == {}
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.skipif(os.name == "nt", reason="renaming never replaces there")
def test_a_file_system_without_hard_links_is_written_to_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    keystore.write_file(tmp_path / "a.json", b"{}")
    assert keystore.read_file(tmp_path / "a.json") == {}
    with pytest.raises(FileExistsError):
        keystore.write_file(tmp_path / "a.json", b'{"version": 3}')


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 60_000, b" " * 70_000])
def test_a_file_that_cannot_be_read_is_refused_with_its_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(KeystoreInvalid):
        keystore.read_file(path)
    with pytest.raises(KeystoreInvalid):
        keystore.read_file(tmp_path / "none.json")
