"""Where a wallet's passphrase comes from: a person, a file, the keyring of the operating system; or, when one insists, the
environment.

Each source is a callable that takes the wallet's name and gives the passphrase, or None when it has none, so that several
can be tried in turn. Unattended programs use `from_file` (a mounted secret) or `from_keyring`.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, cast

from micropaywall.errors import WalletError
from micropaywall.wallets.secret import Secret

__all__ = [
    "PassphraseSource",
    "environment_key",
    "first_of",
    "forget_in_keyring",
    "from_environment",
    "from_file",
    "from_keyring",
    "from_keyring_if_there",
    "from_prompt",
    "given",
    "remember_in_keyring",
]

PassphraseSource = Callable[[str], "Secret[str] | None"]
"""Takes the wallet's name; gives its passphrase, or None when this source has none. Raises WalletError."""

KEYRING_SERVICE: Final = "micropaywall"
ENVIRONMENT_VARIABLE: Final = "MICROPAYWALL_PASSPHRASE"
_FILE_BYTES_MAX: Final = 4_096


def given(passphrase: Secret[str]) -> PassphraseSource:
    """A passphrase that the caller has already."""
    return lambda wallet: passphrase


def first_of(*sources: PassphraseSource) -> PassphraseSource:
    """The first source that has a passphrase for the wallet."""

    def ask(wallet: str) -> Secret[str] | None:
        for source in sources:
            if (passphrase := source(wallet)) is not None:
                return passphrase
        return None

    return ask


def from_prompt(*, confirm: bool = False) -> PassphraseSource:
    """Ask the person at the terminal, without echo; None when there is no terminal. ``confirm`` asks twice (a new wallet)."""

    def ask(wallet: str) -> Secret[str] | None:
        if not sys.stdin.isatty():
            return None
        passphrase = Secret(getpass.getpass(f"Passphrase of wallet {wallet!r}: "))
        if confirm and passphrase != Secret(getpass.getpass("The same again: ")):
            raise WalletError("the two passphrases differ", hint="Nothing was written. Try again.")
        return passphrase

    return ask


def from_file(path: Path) -> PassphraseSource:
    """The first line of a file that only its owner can read (checked where the system has modes)."""

    def ask(wallet: str) -> Secret[str] | None:
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = Secret(file.read(_FILE_BYTES_MAX + 1))
        except OSError as error:
            raise WalletError(f"the passphrase file {path} cannot be read ({error.strerror})") from None
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise WalletError(
                f"others on this machine can read the passphrase file {path}",
                expected="mode 0600 or 0400",
                received=oct(stat.S_IMODE(mode)),
                hint=f"chmod 600 {path}",
            )
        if len(content.reveal()) > _FILE_BYTES_MAX:
            raise WalletError(f"the passphrase file {path} is larger than {_FILE_BYTES_MAX} bytes")
        return _first_line(content, path)

    return ask


def _first_line(content: Secret[bytes], path: Path) -> Secret[str]:
    lines = content.reveal().splitlines()
    if not lines or not lines[0]:
        raise WalletError(f"the passphrase file {path} has no passphrase in its first line")
    return Secret(lines[0].decode("utf-8", "surrogateescape"))


def from_environment(*, allow: bool, variable: str = ENVIRONMENT_VARIABLE) -> PassphraseSource:
    """An environment variable; only with ``allow``, since every child process and crash report gets the environment too."""

    def ask(wallet: str) -> Secret[str] | None:
        if variable not in os.environ:
            return None
        if not allow:
            raise WalletError(
                f"{variable} is set, but passphrases are not taken from the environment",
                hint="Use a passphrase file or the keyring, or allow it expressly.",
            )
        return Secret(os.environ[variable]) if os.environ[variable] else None

    return ask


# -- the keyring of the operating system ------------------------------------------------------------------------------


class _Keyring(Protocol):
    def get_password(self, service_name: str, username: str) -> str | None: ...
    def set_password(self, service_name: str, username: str, password: str) -> None: ...
    def delete_password(self, service_name: str, username: str) -> None: ...


def from_keyring() -> PassphraseSource:
    """The operating system's keyring (Keychain, Credential Locker, Secret Service). Needs ``micropaywall[keyring]``."""

    def ask(wallet: str) -> Secret[str] | None:
        keyring, failures = _keyring()
        try:
            found = keyring.get_password(KEYRING_SERVICE, wallet)
        except failures as error:
            raise _keyring_failed(error) from None
        return Secret(found) if found else None

    return ask


def from_keyring_if_there() -> PassphraseSource:
    """The same, but None where the keyring's package is not installed or no keyring answers: one source among others."""
    ask = from_keyring()

    def ask_quietly(wallet: str) -> Secret[str] | None:
        try:
            return ask(wallet)
        except WalletError:
            return None

    return ask_quietly


def remember_in_keyring(wallet: str, passphrase: Secret[str]) -> None:
    """Keep the passphrase of ``wallet`` in the keyring."""
    keyring, failures = _keyring()
    try:
        keyring.set_password(KEYRING_SERVICE, wallet, passphrase.reveal())
    except failures as error:
        raise _keyring_failed(error) from None


def forget_in_keyring(wallet: str) -> None:
    """Take the passphrase of ``wallet`` out of the keyring."""
    keyring, failures = _keyring()
    try:
        keyring.delete_password(KEYRING_SERVICE, wallet)
    except failures as error:
        raise _keyring_failed(error) from None


def _keyring() -> tuple[_Keyring, type[Exception]]:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise WalletError(
            "the keyring needs a package that is not installed", hint="pip install 'micropaywall[keyring]'"
        ) from None
    return cast("_Keyring", keyring), keyring.errors.KeyringError


def _keyring_failed(error: Exception) -> WalletError:
    return WalletError(
        f"the keyring of this system did not answer ({type(error).__name__})",
        hint="Unlock it, or use a passphrase file.",
    )


def environment_key(environment: Mapping[str, str], variable: str, *, allow_env_key: bool) -> Secret[str] | None:
    """The secret key (hex) in an environment variable, or None when it is not set; refused without ``allow_env_key``."""
    if not environment.get(variable):
        return None
    if not allow_env_key:
        raise WalletError(
            f"{variable} is set, but keys are not taken from the environment",
            expected="a keystore file",
            hint="Import the key: micropaywall wallet import NAME. Or allow it expressly with allow_env_key=True.",
        )
    return Secret(environment[variable])
