"""Named wallets in a directory: ``<home>/wallets/<name>.json``, one keystore file each.

    default             a file with the name of the wallet that is used when none is named
    sandbox.json        made on first use, for play money only
    sandbox.passphrase  its passphrase, beside it: convenience where there is nothing to steal

A sandbox wallet is marked as such in its file and, whoever opens it, signs for the sandbox's token only.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from micropaywall.crypto.secp256k1 import ORDER, PrivateKey
from micropaywall.errors import KeystoreInvalid, WalletError
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.wallets import keystore
from micropaywall.wallets.passphrase import PassphraseSource, from_file
from micropaywall.wallets.secret import Secret
from micropaywall.wallets.signer import LocalSigner

__all__ = ["SANDBOX_WALLET", "WalletEntry", "WalletStore", "key_from_hex", "open_or_create_sandbox_wallet"]

SANDBOX_WALLET: Final = "sandbox"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}
)
"""Names that are devices on Windows, with any extension."""
_HEX_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}", re.ASCII)
_OURS: Final = "micropaywall"


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """A wallet as its file shows it without a passphrase. ``address`` is what the file claims, None when it names none."""

    name: str
    path: Path
    address: str | None
    sandbox_only: bool
    default: bool


class WalletStore:
    """The wallets of one user. ``home`` is the data directory; nothing is made before the first wallet is."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "wallets"

    def create(
        self, name: str, passphrase: Secret[str], *, light: bool = False, sandbox_only: bool = False
    ) -> WalletEntry:
        """Make a wallet with a new key. Raises WalletError when the name is taken or is no name.

        ``light`` makes opening it cheap, for everybody; for wallets with nothing in them.
        """
        return self.add(name, PrivateKey(_new_key().reveal()), passphrase, light=light, sandbox_only=sandbox_only)

    def add(
        self, name: str, key: PrivateKey, passphrase: Secret[str], *, light: bool = False, sandbox_only: bool = False
    ) -> WalletEntry:
        """Keep ``key`` under ``passphrase``, as a wallet called ``name`` (WalletError when the name is taken)."""
        if not passphrase:
            raise WalletError("a wallet needs a passphrase")
        n = keystore.SCRYPT_N_LIGHT if light else keystore.SCRYPT_N
        document = keystore.encrypt(key, passphrase, n=n)
        document[_OURS] = {"sandboxOnly": sandbox_only}
        return self._write(name, document)

    def add_keystore(self, name: str, document: Mapping[str, Any], passphrase: Secret[str]) -> WalletEntry:
        """Keep a keystore of another program, after the passphrase has opened it: as it is, unless it opens slowly."""
        key = keystore.decrypt(document, passphrase)
        if keystore.opens_slowly(document):
            return self.add(name, key, passphrase)
        return self._write(name, {**document, "address": key.address_bytes.hex()})

    def entries(self) -> list[WalletEntry]:
        """The wallets, by name. A file that is no keystore is listed without an address."""
        found = []
        default = self.default_name()
        for path in sorted(self.directory.glob("*.json")):
            if _NAME.fullmatch(path.stem):
                try:
                    document = keystore.read_file(path)
                except KeystoreInvalid:
                    document = {}
                found.append(_entry(path, document, default))
        return found

    def entry(self, name: str) -> WalletEntry:
        """The wallet called ``name``; WalletError when there is none."""
        path = self._path(name)
        if not path.exists():
            names = ", ".join(entry.name for entry in self.entries()) or "none"
            raise WalletError(
                f"there is no wallet called {name!r}",
                expected=f"one of: {names}",
                hint=f"micropaywall wallet create {name}",
            )
        return _entry(path, keystore.read_file(path), self.default_name())

    def open(self, name: str, source: PassphraseSource) -> LocalSigner:
        """The signer of a wallet. Raises WalletError, KeystoreInvalid or PassphraseWrong."""
        entry = self.entry(name)
        passphrase = source(name)
        if passphrase is None:
            raise WalletError(
                f"there is no passphrase for the wallet {name!r}",
                expected="a passphrase from a prompt, a file or the keyring",
                hint="Pass a passphrase file, or keep the passphrase in the keyring.",
            )
        key = keystore.decrypt(keystore.read_file(entry.path), passphrase)
        return LocalSigner(key, tokens=(SANDBOX_TOKEN.address,) if entry.sandbox_only else None)

    def default_name(self) -> str:
        """The wallet that is used when none is named: the one chosen, else the sandbox wallet."""
        try:
            chosen = (self.directory / "default").read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return SANDBOX_WALLET
        return chosen if _NAME.fullmatch(chosen) else SANDBOX_WALLET

    def set_default(self, name: str) -> None:
        """Use ``name`` when no wallet is named; WalletError when there is no such wallet."""
        keystore.write_file(self.directory / "default", f"{self.entry(name).name}\n".encode(), replace=True)

    def sandbox(self) -> LocalSigner:
        """The sandbox wallet's signer; the wallet is made when there is none. Safe from several processes at once."""
        passphrase_file = self.directory / f"{SANDBOX_WALLET}.passphrase"
        if not passphrase_file.exists():
            text = (
                f"{_new_key().reveal().hex()}\n"
                "The first line is the passphrase of the sandbox wallet beside this file, which holds play money only.\n"
                "It signs for the sandbox network and nothing else. Never send real money to its address.\n"
            )
            try:
                keystore.write_file(passphrase_file, text.encode())
            except FileExistsError:
                pass  # another process was first; its passphrase is as good
        source = from_file(passphrase_file)
        if not self._path(SANDBOX_WALLET).exists():
            passphrase = source(SANDBOX_WALLET)
            if passphrase is None:
                raise WalletError("the sandbox wallet's passphrase file is empty")
            try:
                self.create(SANDBOX_WALLET, passphrase, light=True, sandbox_only=True)
            except WalletError:
                if not self._path(SANDBOX_WALLET).exists():
                    raise
        signer = self.open(SANDBOX_WALLET, source)
        if signer.pays_only is None:
            raise WalletError(
                f"the wallet called {SANDBOX_WALLET!r} is not a sandbox wallet",
                hint=f"Rename {self._path(SANDBOX_WALLET)}; a sandbox wallet is made in its place.",
            )
        return signer

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or name.partition(".")[0].lower() in _DEVICES:
            raise WalletError(
                f"{name[:80]!r} cannot be the name of a wallet",
                expected="1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit",
            )
        return self.directory / f"{name}.json"

    def _write(self, name: str, document: Mapping[str, Any]) -> WalletEntry:
        path = self._path(name)
        try:
            keystore.write_file(path, json.dumps(document, indent=2).encode() + b"\n")
        except FileExistsError:
            raise WalletError(
                f"there is a wallet called {name!r} already", hint="Choose another name; nothing was overwritten."
            ) from None
        except OSError as error:
            raise WalletError(f"the wallet cannot be written to {path} ({error.strerror})") from None
        return _entry(path, document, self.default_name())


def open_or_create_sandbox_wallet(home: Path) -> LocalSigner:
    """The sandbox wallet of the data directory ``home``, made on first use in some milliseconds."""
    return WalletStore(home).sandbox()


def key_from_hex(text: Secret[str]) -> PrivateKey:
    """A secret key from 64 hex digits, with or without 0x; WalletError (which does not repeat them) otherwise."""
    if not _HEX_KEY.fullmatch(text.reveal().strip()):
        raise WalletError("that is not a secret key", expected="64 hex digits, with or without 0x")
    # Asked before the key is made: an exception would carry a frame with the bare bytes in it.
    if not 0 < int(text.reveal().strip(), 16) < ORDER:
        raise WalletError("that is not a secret key: it is zero or too large")
    return PrivateKey(bytes.fromhex(text.reveal().strip().removeprefix("0x")))


def _new_key() -> Secret[bytes]:
    # Not below the group's order with probability 2^-128: PrivateKey would refuse it.
    return Secret(secrets.token_bytes(32))


def _entry(path: Path, document: Mapping[str, Any], default: str) -> WalletEntry:
    ours = document.get(_OURS)
    return WalletEntry(
        name=path.stem,
        path=path,
        address=keystore.address_of(document),
        sandbox_only=isinstance(ours, Mapping) and ours.get("sandboxOnly") is True,
        default=path.stem == default,
    )
