"""Keystore files: a secret key under a passphrase, in the Web3 Secret Storage format, version 3.

Any Ethereum wallet reads them. Written: scrypt, AES-128-CTR. Read: scrypt and PBKDF2-HMAC-SHA256.

    derived    = kdf(passphrase)                       32 bytes
    ciphertext = AES-128-CTR(derived[:16], iv, key)
    mac        = keccak256(derived[16:32] || ciphertext)

The mac tells a wrong passphrase from a right one before anything is decrypted. Source: ethereum.org, "Web3 Secret Storage
Definition", whose vectors the tests replay.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import stat
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.crypto.keccak import keccak256
from micropaywall.crypto.secp256k1 import ORDER, PrivateKey
from micropaywall.errors import KeystoreInvalid, PassphraseWrong
from micropaywall.wallets.scrypt_r1 import openssl_refuses, scrypt_r1
from micropaywall.wallets.secret import Secret

__all__ = ["SCRYPT_N", "SCRYPT_N_LIGHT", "address_of", "decrypt", "encrypt", "opens_slowly", "read_file", "write_file"]

SCRYPT_N: Final = 262_144
"""Work factor of geth's standard keystores: 256 MiB and about a second for each guess at the passphrase."""
SCRYPT_N_LIGHT: Final = 4_096
"""geth's light factor: 4 MiB and some milliseconds. For sandbox wallets, whose passphrase lies beside the file anyway."""
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 1
_MEMORY_BYTES_MAX: Final = 1 << 30
"""What scrypt of a file may ask for (128 * n * r); a keystore must not be able to take the machine down."""
_WORK_MAX: Final = 1 << 26
"""n * r * p of scrypt, about 30 s."""
_SLOW_WORK_MAX: Final = 1 << 22
"""The same where OpenSSL does not compute it (`wallets.scrypt_r1`): about two minutes."""
_PBKDF2_ROUNDS_MAX: Final = 20_000_000
_FILE_BYTES_MAX: Final = 65_536
_KEY_BYTES: Final = 32


def encrypt(key: PrivateKey, passphrase: Secret[str], *, n: int = SCRYPT_N) -> dict[str, Any]:
    """The keystore of ``key``, as a JSON object. ``n`` is scrypt's work factor, a power of two."""
    salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    derived = _scrypt(passphrase, salt=salt, n=n, r=_SCRYPT_R, p=_SCRYPT_P, length=32)
    ciphertext = _aes_ctr(derived, iv, Secret(key.secret)).reveal()
    return {
        "version": 3,
        "id": str(uuid.uuid4()),
        "address": key.address_bytes.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {"dklen": 32, "n": n, "r": _SCRYPT_R, "p": _SCRYPT_P, "salt": salt.hex()},
            "mac": _mac(derived, ciphertext).hex(),
        },
    }


def decrypt(document: Mapping[str, Any], passphrase: Secret[str]) -> PrivateKey:
    """The key in a keystore. Raises PassphraseWrong, or KeystoreInvalid when the document is not a usable keystore."""
    crypto = _members(document)
    try:
        iv = bytes.fromhex(crypto["cipherparams"]["iv"])
        ciphertext = bytes.fromhex(crypto["ciphertext"])
        mac = bytes.fromhex(crypto["mac"])
        derived = _derive(crypto, passphrase)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _invalid("a member is missing or is not what the format says") from None
    if len(iv) != 16 or not 1 <= len(ciphertext) <= _KEY_BYTES:
        raise _invalid("the initialisation vector or the key has another length")
    if not hmac.compare_digest(_mac(derived, ciphertext), mac):
        raise PassphraseWrong(
            "the passphrase does not open this keystore",
            hint="Nothing was changed. Check the passphrase and try again.",
        )
    return _checked(_aes_ctr(derived, iv, Secret(ciphertext)), document.get("address"))


def _checked(secret: Secret[bytes], address: object) -> PrivateKey:
    """The key of ``secret``, when it is a valid one and of the address that the file claims."""
    # Asked before the key is made: an exception would carry a frame with the bare bytes in it.
    if not 0 < int.from_bytes(secret.reveal(), "big") < ORDER:
        raise _invalid("the key is zero or too large")
    # Some old writers dropped leading zeros of the key; the format's own vectors have such files.
    key = PrivateKey(secret.reveal().rjust(_KEY_BYTES, b"\0"))
    if address is not None and (
        not isinstance(address, str) or address.lower().removeprefix("0x") != key.address_bytes.hex()
    ):
        raise _invalid("the key is not the one of the address that the file names")
    return key


def address_of(document: Mapping[str, Any]) -> str | None:
    """The address that a keystore claims (unproven until it is opened), or None when it names none."""
    address = document.get("address")
    if not isinstance(address, str):
        return None
    try:
        return to_checksum(parse_address("0x" + address.lower().removeprefix("0x")))
    except ValueError:
        return None


# -- files ------------------------------------------------------------------------------------------------------------


def read_file(path: Path) -> dict[str, Any]:
    """The JSON object in a keystore file; KeystoreInvalid when there is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _invalid(f"{path} cannot be read ({error.strerror})") from None
    if len(raw) > _FILE_BYTES_MAX:
        raise _invalid(f"{path} is larger than {_FILE_BYTES_MAX} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise _invalid(f"{path} is not JSON") from None
    if not isinstance(document, dict):
        raise _invalid(f"{path} holds no JSON object")
    return document


def write_file(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write ``content`` to ``path`` so that it is there whole or not at all, readable by its owner only.

    Raises FileExistsError when there is a file and ``replace`` is False: a key must not be overwritten by accident.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
    # mkstemp makes the file with mode 0600, where the system has modes.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _rename_new(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _rename_new(temporary: Path, path: Path) -> None:
    """Give ``temporary`` the name ``path``, unless that exists: in one step, so that two writers cannot both win."""
    if os.name == "nt":
        temporary.rename(path)  # on Windows a rename never replaces
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("xb"):
            pass
        temporary.replace(path)


# -- the pieces -------------------------------------------------------------------------------------------------------


def _members(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if document.get("version") != 3:
        raise _invalid(f"its version is {str(document.get('version'))[:20]}, and only 3 is read")
    crypto = document.get("crypto", document.get("Crypto"))
    if not isinstance(crypto, Mapping):
        raise _invalid("it has no crypto member")
    if crypto.get("cipher") != "aes-128-ctr":
        raise _invalid("its cipher is not aes-128-ctr")
    return crypto


def _derive(crypto: Mapping[str, Any], passphrase: Secret[str]) -> Secret[bytes]:
    params = crypto["kdfparams"]
    salt = bytes.fromhex(params["salt"])
    length = _whole(params["dklen"])
    if not 32 <= length <= 64:
        raise _invalid("its derived key has another length than 32 bytes")
    if crypto["kdf"] == "scrypt":
        n, r, p = _whole(params["n"]), _whole(params["r"]), _whole(params["p"])
        slow = r == 1 and openssl_refuses(n, r)
        too_much = 128 * n * r > _MEMORY_BYTES_MAX or n * r * p > (_SLOW_WORK_MAX if slow else _WORK_MAX)
        if n < 2 or n & (n - 1) or r < 1 or p < 1 or too_much:
            raise _invalid("its scrypt parameters are invalid, or ask for too much memory or time")
        return _scrypt(passphrase, salt=salt, n=n, r=r, p=p, length=length)
    if crypto["kdf"] == "pbkdf2" and params["prf"] == "hmac-sha256":
        rounds = _whole(params["c"])
        if not 1 <= rounds <= _PBKDF2_ROUNDS_MAX:
            raise _invalid("its PBKDF2 rounds are none, or too many")
        kdf = PBKDF2HMAC(algorithm=SHA256(), length=length, salt=salt, iterations=rounds)
        return Secret(kdf.derive(_passphrase_bytes(passphrase).reveal()))
    raise _invalid("its key derivation is neither scrypt nor PBKDF2 with HMAC-SHA256")


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value


def opens_slowly(document: Mapping[str, Any]) -> bool:
    """Whether the parameters are ones that OpenSSL refuses, so that opening the file takes a minute."""
    params = _members(document).get("kdfparams")
    n, r = (params.get("n"), params.get("r")) if isinstance(params, Mapping) else (0, 0)
    return r == 1 and isinstance(n, int) and openssl_refuses(n, 1)


def _scrypt(passphrase: Secret[str], *, salt: bytes, n: int, r: int, p: int, length: int) -> Secret[bytes]:
    if r == 1 and openssl_refuses(n, r):
        return Secret(scrypt_r1(_passphrase_bytes(passphrase).reveal(), salt=salt, n=n, p=p, length=length))
    return Secret(Scrypt(salt=salt, length=length, n=n, r=r, p=p).derive(_passphrase_bytes(passphrase).reveal()))


def _passphrase_bytes(passphrase: Secret[str]) -> Secret[bytes]:
    # Not normalised: the format says nothing of it, and geth takes the bytes as they are.
    return Secret(passphrase.reveal().encode("utf-8", "surrogateescape"))


def _aes_ctr(derived: Secret[bytes], iv: bytes, text: Secret[bytes]) -> Secret[bytes]:
    cipher = Cipher(algorithms.AES(derived.reveal()[:16]), modes.CTR(iv)).encryptor()
    return Secret(cipher.update(text.reveal()) + cipher.finalize())


def _mac(derived: Secret[bytes], ciphertext: bytes) -> bytes:
    return keccak256(derived.reveal()[16:32] + ciphertext)


def _invalid(why: str) -> KeystoreInvalid:
    return KeystoreInvalid(f"the keystore cannot be used: {why}", expected="an Ethereum keystore file, version 3")
