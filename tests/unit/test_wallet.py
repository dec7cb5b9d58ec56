"""Signers, passphrases, named wallets: what is signed, what is refused, and that nothing secret is shown."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from micropaywall.client import Wallet
from micropaywall.crypto.secp256k1 import PrivateKey, recover_address_bytes
from micropaywall.errors import (
    ConfigurationError,
    KeystoreInvalid,
    PassphraseWrong,
    SignatureRefused,
    WalletError,
)
from micropaywall.rails.exact.types import Authorization, Token
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.wallets import keystore, passphrase
from micropaywall.wallets.remote import RemoteSigner
from micropaywall.wallets.secret import Secret
from micropaywall.wallets.signer import LocalSigner, TransferMessage
from micropaywall.wallets.store import WalletStore, key_from_hex, open_or_create_sandbox_wallet

NOW_S = 1_800_000_000
KEY = PrivateKey(bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"))
PAYEE = bytes.fromhex("70997970c51812dc3a010c7d01b50e0d17dc79c8")
TOKEN = Secret("let me in")
RIGHT, WRONG = Secret("correct horse"), Secret("wrong horse")
LIVE_TOKEN = Token(
    asset=SANDBOX_TOKEN.asset,
    network="eip155:8453",
    chain_id=8453,
    address=bytes.fromhex("833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
    name="USD Coin",
    version="2",
)


def message(token: Token = SANDBOX_TOKEN, chain_id: int | None = None, **changes: Any) -> TransferMessage:
    members: dict[str, Any] = {
        "payer": KEY.address_bytes,
        "payee": PAYEE,
        "value": 1000,
        "valid_after": 0,
        "valid_before": NOW_S + 300,
        "nonce": b"\x01" * 32,
    } | changes
    return TransferMessage(token, chain_id or token.chain_id, Authorization(**members), NOW_S)


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_is_in_no_text_copy_or_pickle(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret("correct horse")
    logging.getLogger("test").warning("opened with %s and %r", secret, [secret])
    shown = f"{secret} {secret!r} {secret:>40} {[secret]} {caplog.text}"
    assert "horse" not in shown
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copier(secret)  # type: ignore[operator]
    with pytest.raises(TypeError):
        hash(secret)
    assert not hasattr(secret, "__dict__")
    assert secret == Secret("correct horse")
    assert secret != Secret("correct horsf")
    assert bool(secret)
    assert not Secret("")


def test_no_traceback_with_local_variables_shows_a_key_or_passphrase(tmp_path: Path) -> None:
    """As error reporters record them: every frame's locals."""
    document = keystore.encrypt(KEY, RIGHT, n=2)
    broken = json.loads(json.dumps(document))
    broken["address"] = "00" * 20
    store = WalletStore(tmp_path)
    attempts: list[Callable[[], object]] = [
        lambda: keystore.decrypt(document, WRONG),
        lambda: keystore.decrypt(broken, RIGHT),
        lambda: store.open("main", passphrase.given(WRONG)),
        lambda: key_from_hex(Secret("0x" + "f" * 64)),
        lambda: key_from_hex(Secret(KEY.secret.hex() + "00")),
        lambda: LocalSigner(KEY).sign(message(payer=PAYEE)),
    ]
    store.add("main", KEY, RIGHT, light=True)
    for attempt in attempts:
        with pytest.raises((WalletError, KeystoreInvalid)) as caught:
            attempt()
        shown = "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=True, compact=False).format()
        )
        assert "horse" not in shown
        assert KEY.secret.hex() not in shown
        assert repr(KEY.secret)[2:-1] not in shown
        assert "f" * 64 not in shown


# -- signers ----------------------------------------------------------------------------------------------------------


def test_a_signature_is_the_accounts_over_the_message_as_the_token_checks_it() -> None:
    signer = LocalSigner(KEY)
    asked = message()
    assert recover_address_bytes(asked.digest(), signer.sign(asked)) == signer.address_bytes
    assert signer.sign(asked) != signer.sign(message(chain_id=SANDBOX_TOKEN.v1_chain_id))


@pytest.mark.parametrize(
    "asked",
    [
        b"\x00" * 32,
        message().authorization,
        {"primaryType": "Permit"},
        message(payer=PAYEE),
        message(payee=bytes(20)),
        message(payee=PAYEE[:19]),
        message(value=0),
        message(value=2**256),
        message(nonce=b"\x01" * 31),
        message(valid_before=NOW_S + 86_401),
        message(valid_after=NOW_S, valid_before=NOW_S),
        message(valid_after=-1),
        message(chain_id=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_signer_signs_only_what_it_recognises(asked: Any) -> None:
    with pytest.raises(SignatureRefused):
        LocalSigner(KEY).sign(asked)


def test_a_subclass_of_a_known_message_is_not_a_known_message() -> None:
    class Trick(TransferMessage):
        def digest(self) -> bytes:
            return b"\x00" * 32

    known = message()
    with pytest.raises(SignatureRefused):
        LocalSigner(KEY).sign(Trick(known.token, known.chain_id, known.authorization, NOW_S))


def test_a_signer_shows_only_its_address_and_is_not_copied() -> None:
    signer = LocalSigner(KEY)
    assert repr(signer) == f"LocalSigner(address={KEY.address})"
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copier(signer)  # type: ignore[operator]


# -- a remote signer --------------------------------------------------------------------------------------------------


@contextmanager
def signing_service(answer: Callable[[dict[str, Any]], tuple[int, bytes]]) -> Iterator[tuple[str, list[Any]]]:
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append((dict(self.headers), body))
            status, content = answer(body)
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/sign?team=a", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def honest(body: dict[str, Any]) -> tuple[int, bytes]:
    """A service that rebuilds the typed data and signs it."""
    asked = body["message"]
    rebuilt = message(
        chain_id=int(body["domain"]["chainId"]),
        payer=bytes.fromhex(asked["from"][2:]),
        payee=bytes.fromhex(asked["to"][2:]),
        value=int(asked["value"]),
        valid_after=int(asked["validAfter"]),
        valid_before=int(asked["validBefore"]),
        nonce=bytes.fromhex(asked["nonce"][2:]),
    )
    return 200, json.dumps({"signature": "0x" + LocalSigner(KEY).sign(rebuilt).hex()}).encode()


def test_a_remote_signer_gets_typed_data_and_its_signature_is_used() -> None:
    with signing_service(honest) as (url, seen):
        signer = RemoteSigner(url, address=KEY.address.lower(), token=Secret("let me in"))
        assert signer.sign(message()) == LocalSigner(KEY).sign(message())
        assert signer.address == KEY.address
        headers, body = seen[0]
        assert headers["authorization"] == "Bearer let me in"
        assert body["type"] == "TransferWithAuthorization"
        assert body["domain"]["verifyingContract"] == SANDBOX_TOKEN.address_text
        assert "let me in" not in repr(signer)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, json.dumps({"signature": "0x" + "00" * 65}).encode()), "no signature"),
        ((200, json.dumps({"signature": "0x00"}).encode()), "no signature"),
        ((200, b"[]"), "no JSON object"),
        ((200, b"x" * 70_000), "too long"),
        ((403, json.dumps({"detail": "over the limit\x1b[2J" + "x" * 500}).encode()), "refused"),
        ((500, b"<html>"), "refused"),
    ],
)
def test_an_answer_that_is_not_the_signature_asked_for_is_refused(answer: tuple[int, bytes], why: str) -> None:
    with signing_service(lambda _: answer) as (url, _), pytest.raises(SignatureRefused, match=why) as caught:
        RemoteSigner(url, address=KEY.address).sign(message())
    word = caught.value.facts.get("remoteDetail", "")
    assert len(word) <= 200
    assert "\x1b" not in word


def test_a_signature_of_another_message_or_key_is_refused() -> None:
    other = LocalSigner(PrivateKey(b"\x02" * 32))

    def dishonest(body: dict[str, Any]) -> tuple[int, bytes]:
        changed = message(payer=other.address_bytes, value=10_000)
        return 200, json.dumps({"signature": "0x" + other.sign(changed).hex()}).encode()

    with signing_service(dishonest) as (url, _), pytest.raises(SignatureRefused, match="something else"):
        RemoteSigner(url, address=KEY.address).sign(message())


def test_a_remote_signer_is_asked_over_https_or_on_this_machine_only() -> None:
    for url in ("http://signer.example.com/", "http://10.0.0.1/", "ftp://127.0.0.1/", "https://user:pw@host/", "/sign"):
        with pytest.raises(ConfigurationError):
            RemoteSigner(url, address=KEY.address)


def test_a_remote_signer_that_cannot_be_reached_shows_no_token() -> None:
    with signing_service(honest) as (url, _):
        pass
    token = TOKEN
    signer = RemoteSigner(url, address=KEY.address, token=token, timeout_s=2)
    with pytest.raises(WalletError, match="cannot be reached") as caught:
        signer.sign(message())
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "let me in" not in shown


# -- passphrases ------------------------------------------------------------------------------------------------------


def test_a_passphrase_file_is_read_when_it_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_text("correct horse\na note\n")
    path.chmod(0o600)
    found = passphrase.from_file(path)("main")
    assert found == Secret("correct horse")
    if sys.platform != "win32":
        path.chmod(0o640)
        with pytest.raises(WalletError, match="others"):
            passphrase.from_file(path)("main")


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 5000])
def test_a_passphrase_file_without_a_passphrase_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(WalletError):
        passphrase.from_file(path)("main")
    with pytest.raises(WalletError, match="cannot be read"):
        passphrase.from_file(tmp_path / "none")("main")


def test_the_environment_is_asked_only_when_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROPAYWALL_PASSPHRASE", "correct horse")
    with pytest.raises(WalletError, match="not taken from the environment"):
        passphrase.from_environment(allow=False)("main")
    assert passphrase.from_environment(allow=True)("main") == Secret("correct horse")
    monkeypatch.delenv("MICROPAYWALL_PASSPHRASE")
    assert passphrase.from_environment(allow=True)("main") is None


def test_a_key_from_the_environment_needs_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROPAYWALL_PRIVATE_KEY", "0x" + KEY.secret.hex())
    with pytest.raises(WalletError, match="not taken") as caught:
        Wallet.from_environment().open()
    assert KEY.secret.hex() not in str(caught.value.problem())
    assert Wallet.from_environment(allow_env_key=True).open().address == KEY.address
    monkeypatch.delenv("MICROPAYWALL_PRIVATE_KEY")
    with pytest.raises(WalletError, match="has no"):
        Wallet.from_environment(allow_env_key=True).open()


def test_the_keyring_of_the_system_keeps_and_gives_a_passphrase() -> None:
    import keyring
    from keyring.backend import KeyringBackend
    from keyring.errors import KeyringError, PasswordDeleteError

    class Memory(KeyringBackend):
        priority = 1  # type: ignore[assignment]
        locked = False

        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[tuple[str, str], str] = {}

        def get_password(self, service: str, username: str) -> str | None:
            if self.locked:
                raise KeyringError("locked")
            return self.kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            if self.kept.pop((service, username), None) is None:
                raise PasswordDeleteError("not there")

    before = keyring.get_keyring()
    ring = Memory()
    keyring.set_keyring(ring)
    try:
        source = passphrase.from_keyring()
        assert source("main") is None
        passphrase.remember_in_keyring("main", Secret("correct horse"))
        assert source("main") == Secret("correct horse")
        assert source("other") is None
        passphrase.forget_in_keyring("main")
        with pytest.raises(WalletError):
            passphrase.forget_in_keyring("main")
        ring.locked = True
        with pytest.raises(WalletError, match="keyring"):
            source("main")
        assert passphrase.from_keyring_if_there()("main") is None
    finally:
        keyring.set_keyring(before)


def test_the_prompt_asks_twice_for_a_new_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["one", "two", "three", "three"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(WalletError, match="differ"):
        passphrase.from_prompt(confirm=True)("main")
    assert passphrase.from_prompt(confirm=True)("main") == Secret("three")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert passphrase.first_of(passphrase.from_prompt(), passphrase.given(Secret("x")))("main") == Secret("x")


# -- named wallets ----------------------------------------------------------------------------------------------------


def test_a_wallet_is_made_listed_and_opened(tmp_path: Path) -> None:
    store = WalletStore(tmp_path)
    assert store.entries() == []
    made = store.create("main", Secret("correct horse"), light=True)
    assert [entry.name for entry in store.entries()] == ["main"]
    assert store.open("main", passphrase.given(Secret("correct horse"))).address == made.address
    with pytest.raises(PassphraseWrong):
        store.open("main", passphrase.given(Secret("wrong horse")))
    with pytest.raises(WalletError, match="no passphrase"):
        store.open("main", lambda _: None)
    with pytest.raises(WalletError, match="already"):
        store.create("main", Secret("x"), light=True)
    with pytest.raises(WalletError, match="no wallet called"):
        store.open("other", passphrase.given(Secret("x")))
    with pytest.raises(WalletError, match="needs a passphrase"):
        store.create("empty", Secret(""), light=True)


def test_the_default_wallet_is_the_sandbox_until_another_is_chosen(tmp_path: Path) -> None:
    store = WalletStore(tmp_path)
    store.create("main", Secret("x"), light=True)
    assert store.default_name() == "sandbox"
    with pytest.raises(WalletError):
        store.set_default("other")
    store.set_default("main")
    assert store.default_name() == "main"
    assert [entry.default for entry in store.entries()] == [True]
    opened = Wallet.named(home=tmp_path, passphrase=Secret("x")).open()
    assert opened.address == store.entry("main").address


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../main", "a/b", "a\\b", "-a", "a" * 65, "con", "NUL.json", "ä", "a\n"]
)
def test_a_name_that_could_leave_the_directory_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(WalletError, match="cannot be the name"):
        WalletStore(tmp_path).create(name, Secret("x"), light=True)
    assert list(tmp_path.iterdir()) == []


def test_a_keystore_of_another_program_is_kept_as_it_is(tmp_path: Path) -> None:
    document = keystore.encrypt(KEY, Secret("theirs"), n=2)
    del document["address"]
    store = WalletStore(tmp_path)
    with pytest.raises(PassphraseWrong):
        store.add_keystore("main", document, Secret("ours"))
    entry = store.add_keystore("main", document, Secret("theirs"))
    assert entry.address == KEY.address
    assert keystore.read_file(entry.path)["crypto"] == document["crypto"]


def test_the_sandbox_wallet_is_made_at_once_and_stays_the_same(tmp_path: Path) -> None:
    first = open_or_create_sandbox_wallet(tmp_path)
    assert open_or_create_sandbox_wallet(tmp_path).address == first.address
    passphrase_file = tmp_path / "wallets" / "sandbox.passphrase"
    assert "play money" in passphrase_file.read_text()
    if sys.platform != "win32":
        for path in (passphrase_file, tmp_path / "wallets" / "sandbox.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_many_first_uses_at_once_make_one_sandbox_wallet(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        addresses = {
            signer.address for signer in pool.map(lambda _: open_or_create_sandbox_wallet(tmp_path), range(32))
        }
    assert len(addresses) == 1
    assert sorted(os.listdir(tmp_path / "wallets")) == ["sandbox.json", "sandbox.passphrase"]  # noqa: PTH208


def test_a_sandbox_wallet_signs_for_the_sandbox_and_nothing_else(tmp_path: Path) -> None:
    signer = open_or_create_sandbox_wallet(tmp_path)
    signer.sign(message(payer=signer.address_bytes))
    signer.sign(message(payer=signer.address_bytes, chain_id=SANDBOX_TOKEN.v1_chain_id))
    with pytest.raises(SignatureRefused, match="does not pay with that token"):
        signer.sign(message(LIVE_TOKEN, payer=signer.address_bytes))
    # Whoever opens it, also by name with its passphrase.
    source = passphrase.from_file(tmp_path / "wallets" / "sandbox.passphrase")
    with pytest.raises(SignatureRefused):
        WalletStore(tmp_path).open("sandbox", source).sign(message(LIVE_TOKEN, payer=signer.address_bytes))


def test_a_wallet_of_real_money_is_not_taken_for_the_sandboxs(tmp_path: Path) -> None:
    open_or_create_sandbox_wallet(tmp_path)
    store = WalletStore(tmp_path)
    store.entry("sandbox").path.unlink()
    secret = passphrase.from_file(tmp_path / "wallets" / "sandbox.passphrase")("sandbox")
    assert secret is not None
    store.add("sandbox", KEY, secret, light=True)
    with pytest.raises(WalletError, match="not a sandbox wallet"):
        store.sandbox()
