"""EIP-712 digests by hand: a typed struct is a chain of 32-byte words, so no generic encoder is needed.

    digest = keccak256(0x19 0x01 || domain separator || hash_struct)
    hash_struct = keccak256(type hash || word || word ...)

A ``word_*`` function makes each word; nested structs are words of their own hash. Domain separators are cached, being the
same for every payment of a token.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from micropaywall.crypto.keccak import keccak256
from micropaywall.limits import DOMAIN_SEPARATORS_CACHED_MAX

__all__ = [
    "RECEIVE_WITH_AUTHORIZATION",
    "TRANSFER_WITH_AUTHORIZATION",
    "domain_separator",
    "hash_struct",
    "transfer_digest",
    "type_hash",
    "typed_digest",
    "word_address",
    "word_string",
    "word_uint",
]

_PREFIX: Final = b"\x19\x01"
_PAD: Final = bytes(12)


def type_hash(encoded_type: str) -> bytes:
    """Keccak-256 of an encoded type such as ``Mail(address from,string contents)``; referenced types follow, sorted."""
    return keccak256(encoded_type.encode())


def word_address(address: bytes) -> bytes:
    """An address (20 bytes) as a word."""
    if len(address) != 20:
        raise ValueError("an address has 20 bytes")
    return _PAD + address


def word_uint(value: int) -> bytes:
    """An unsigned integer of any width as a word; OverflowError when it is negative or needs more than 256 bits."""
    return value.to_bytes(32, "big")


def word_string(text: str) -> bytes:
    """A string as a word: its hash."""
    return keccak256(text.encode())


def hash_struct(typehash: bytes, *words: bytes) -> bytes:
    """The hash of a struct from its type hash and its members as 32-byte words, in the order of the type."""
    encoded = typehash + b"".join(words)
    if len(encoded) != 32 * (len(words) + 1):
        raise ValueError("every member of a struct is a word of 32 bytes")
    return keccak256(encoded)


def typed_digest(separator: bytes, struct_hash: bytes) -> bytes:
    """What is signed: the struct's hash under a domain separator."""
    return keccak256(_PREFIX + separator + struct_hash)


_DOMAIN: Final = type_hash("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_DOMAIN_NO_VERSION: Final = type_hash("EIP712Domain(string name,uint256 chainId,address verifyingContract)")


@lru_cache(maxsize=DOMAIN_SEPARATORS_CACHED_MAX)
def domain_separator(name: str, version: str | None, chain_id: int, verifying_contract: bytes) -> bytes:
    """The separator of a contract's domain; ``version`` None for contracts without one (Permit2)."""
    place = (word_uint(chain_id), word_address(verifying_contract))
    if version is None:
        return hash_struct(_DOMAIN_NO_VERSION, word_string(name), *place)
    return hash_struct(_DOMAIN, word_string(name), word_string(version), *place)


_AUTHORIZATION_MEMBERS: Final = (
    "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
TRANSFER_WITH_AUTHORIZATION: Final = type_hash("TransferWithAuthorization" + _AUTHORIZATION_MEMBERS)
"""EIP-3009."""
RECEIVE_WITH_AUTHORIZATION: Final = type_hash("ReceiveWithAuthorization" + _AUTHORIZATION_MEMBERS)
"""EIP-3009, for contracts that pull (payment channels)."""


def transfer_digest(
    separator: bytes, payer: bytes, payee: bytes, value: int, valid_after: int, valid_before: int, nonce: bytes
) -> bytes:
    """The digest of an EIP-3009 TransferWithAuthorization in the token's domain (addresses 20 bytes, nonce 32)."""
    if len(payer) != 20 or len(payee) != 20 or len(nonce) != 32:
        raise ValueError("an authorization has addresses of 20 bytes and a nonce of 32")
    encoded = b"".join(
        (
            TRANSFER_WITH_AUTHORIZATION,
            _PAD,
            payer,
            _PAD,
            payee,
            value.to_bytes(32, "big"),
            valid_after.to_bytes(32, "big"),
            valid_before.to_bytes(32, "big"),
            nonce,
        )
    )
    return keccak256(_PREFIX + separator + keccak256(encoded))
