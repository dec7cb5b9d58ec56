"""ECDSA on secp256k1 as Ethereum contracts check it, over libsecp256k1 (coincurve).

A signature is 65 bytes: r, s, v. Only the canonical form is taken, the one that OpenZeppelin's and Circle's token contracts
take: ``v`` is 27 or 28 and ``s`` is in the lower half of the order (EIP-2). Anything else would be refused on the chain
after the resource was served.

Verifying against a remembered public key would save about a fifth, but tells nothing about ``v``: the contract recovers, so
a flipped ``v`` must be refused here too. Hence recovery always.
"""

from __future__ import annotations

from typing import Final

import coincurve

from micropaywall.crypto.address import to_checksum
from micropaywall.crypto.keccak import keccak256
from micropaywall.errors import SignatureInvalid

__all__ = ["ORDER", "SIGNATURE_BYTES", "PrivateKey", "address_of_public_key", "recover_address_bytes"]

ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""n, the order of the group."""
SIGNATURE_BYTES: Final = 65
_DIGEST_BYTES: Final = 32
_ORDER_BYTES: Final = ORDER.to_bytes(32, "big")
_HALF_ORDER_BYTES: Final = (ORDER // 2).to_bytes(32, "big")
_ZERO: Final = bytes(32)
_RECOVERY_ID: Final = {27: b"\x00", 28: b"\x01"}
_FORM: Final = "65 bytes: r, low s, v of 27 or 28"

_recover = coincurve.PublicKey.from_signature_and_message


def address_of_public_key(uncompressed_65: bytes) -> bytes:
    """The address (20 bytes) of a public key in uncompressed form (0x04, x, y)."""
    return keccak256(uncompressed_65[1:])[12:]


def recover_address_bytes(digest: bytes, signature: bytes) -> bytes:
    """The address whose key signed ``digest`` (32 bytes).

    Raises SignatureInvalid for every form that a token contract refuses: another length, ``v`` not 27 or 28, ``s`` zero
    or above n/2, ``r`` zero or not below n, or no point of the curve.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureInvalid(
            "the signature does not have 65 bytes", expected=_FORM, received=f"{len(signature)} bytes"
        )
    recovery_id = _RECOVERY_ID.get(signature[64])
    if recovery_id is None:
        raise SignatureInvalid("the signature's v is neither 27 nor 28", expected=_FORM, received=f"v={signature[64]}")
    r, s = signature[:32], signature[32:64]
    if r == _ZERO or r >= _ORDER_BYTES:  # equal lengths: bytes compare as numbers
        raise SignatureInvalid("the signature's r is not between 1 and n-1", expected=_FORM)
    if s == _ZERO or s > _HALF_ORDER_BYTES:
        raise SignatureInvalid(
            "the signature's s is zero or in the upper half of the order",
            expected=_FORM,
            hint="Use n-s and flip v: token contracts refuse the malleable twin of a signature.",
        )
    if len(digest) != _DIGEST_BYTES:
        raise ValueError("a digest has 32 bytes")
    try:
        key = _recover(signature[:64] + recovery_id, digest, hasher=None)
    except ValueError:  # r is no x coordinate of the curve, or the point is at infinity
        raise SignatureInvalid("the signature belongs to no key", expected=_FORM) from None
    return keccak256(key.format(compressed=False)[1:])[12:]


class PrivateKey:
    """A secret key. Its bytes are in no repr, no copy and no pickle; ``secret`` hands them out when asked by name."""

    __slots__ = ("_key", "address", "address_bytes")

    address_bytes: bytes
    address: str

    def __init__(self, secret_32: bytes) -> None:
        if len(secret_32) != 32 or not 0 < int.from_bytes(secret_32, "big") < ORDER:
            raise ValueError("a secret key is 32 bytes, between 1 and n-1") from None
        self._key = coincurve.PrivateKey(secret_32)
        self.address_bytes = address_of_public_key(self._key.public_key.format(compressed=False))
        self.address = to_checksum(self.address_bytes)

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for writing a keystore. Never log, print or format them."""
        return self._key.secret

    def sign_digest(self, digest: bytes) -> bytes:
        """The 65-byte signature (r, low s, v of 27 or 28) of ``digest`` (32 bytes), deterministic by RFC 6979."""
        raw = self._key.sign_recoverable(digest, hasher=None)
        if raw[64] > 1:  # r above the field's order: happens with probability 2^-128, and no contract takes it
            raise ValueError("this digest has no signature that a contract takes")
        return raw[:64] + (b"\x1b" if raw[64] == 0 else b"\x1c")

    def __repr__(self) -> str:
        return f"PrivateKey(address={self.address}, secret=<redacted>)"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not pickled or copied")
