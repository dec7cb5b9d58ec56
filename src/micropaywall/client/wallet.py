"""Which account pays. A wallet is opened when the first payment is due, not before: that may ask for a passphrase."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from micropaywall.errors import WalletError
from micropaywall.home import data_directory
from micropaywall.wallets import passphrase as passphrases
from micropaywall.wallets.secret import Secret

if TYPE_CHECKING:
    from micropaywall.wallets.signer import Signer
    from micropaywall.wallets.store import WalletStore

__all__ = ["Wallet"]

KEY_VARIABLE = "MICROPAYWALL_PRIVATE_KEY"


class Wallet:
    """An account that pays, not opened yet. Use one of the makers: `sandbox`, `named`, `of`, `from_environment`."""

    def __init__(self, name: str, open_signer: Callable[[], Signer]) -> None:
        self.name = name
        self._open = open_signer
        self._signer: Signer | None = None
        self._lock = threading.Lock()

    @classmethod
    def sandbox(cls, *, home: Path | None = None) -> Self:
        """Play money: a wallet that is made on first use, and signs for the sandbox network only."""
        return cls("sandbox", lambda: _wallets(home).sandbox())

    @classmethod
    def named(
        cls,
        name: str | None = None,
        *,
        passphrase: passphrases.PassphraseSource | Secret[str] | None = None,
        passphrase_file: str | Path | None = None,
        home: Path | None = None,
    ) -> Self:
        """A wallet of `micropaywall wallet list`; None: the default one, which is the sandbox wallet until another is chosen.

        Its passphrase comes from ``passphrase`` or ``passphrase_file``, else from the keyring of the operating system,
        else from a prompt. Raises WalletError (when it is opened) for an unknown name or without a passphrase.
        """

        def open_signer() -> Signer:
            store = _wallets(home)
            chosen = name or store.default_name()
            if chosen == "sandbox":
                return store.sandbox()
            return store.open(chosen, _source(passphrase, passphrase_file))

        return cls(name or "default", open_signer)

    @classmethod
    def of(cls, signer: Signer) -> Self:
        """A signer of one's own: `LocalSigner`, `wallets.remote.RemoteSigner`, or anything with the port's methods."""
        return cls(signer.address, lambda: signer)

    @classmethod
    def from_environment(cls, variable: str = KEY_VARIABLE, *, allow_env_key: bool = False) -> Self:
        """A secret key (64 hex digits) in an environment variable, which every child process and crash report gets too.

        Hence only with ``allow_env_key``; WalletError (when it is opened) without it, or when the variable is not set.
        """

        def open_signer() -> Signer:
            from micropaywall.wallets.signer import LocalSigner
            from micropaywall.wallets.store import key_from_hex

            key = passphrases.environment_key(os.environ, variable, allow_env_key=allow_env_key)
            if key is None:
                raise WalletError(f"the environment has no {variable}")
            return LocalSigner(key_from_hex(key))

        return cls(variable, open_signer)

    def open(self) -> Signer:
        """The signer; the wallet is opened once."""
        with self._lock:
            if self._signer is None:
                self._signer = self._open()
            return self._signer

    def __repr__(self) -> str:
        return f"Wallet({self.name!r})"


def _wallets(home: Path | None) -> WalletStore:
    from micropaywall.wallets.store import WalletStore  # loads what opens keystores: not before it is needed

    return WalletStore(home or data_directory())


def _source(
    passphrase: passphrases.PassphraseSource | Secret[str] | None, file: str | Path | None
) -> passphrases.PassphraseSource:
    if isinstance(passphrase, Secret):
        return passphrases.given(passphrase)
    if passphrase is not None:
        return passphrase
    if file is not None:
        return passphrases.from_file(Path(file))
    return passphrases.first_of(passphrases.from_keyring_if_there(), passphrases.from_prompt())
