"""Ethereum addresses: 20 bytes inside the program, EIP-55 text outside."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from micropaywall.crypto.keccak import keccak256
from micropaywall.limits import ADDRESS_TEXTS_CACHED_MAX

__all__ = ["ADDRESS_BYTES", "parse_address", "to_checksum"]

ADDRESS_BYTES: Final = 20
_TEXT_CHARS: Final = 42


def parse_address(text: object) -> bytes:
    """The 20 bytes of ``0x`` and 40 hex digits in any case; ValueError otherwise.

    The EIP-55 checksum is not demanded: wallets and SDKs send lower case, and both name the same account.
    """
    if not isinstance(text, str) or len(text) != _TEXT_CHARS or not text.startswith("0x"):
        raise ValueError("an address is 0x and 40 hex digits")
    raw = bytes.fromhex(text[2:])  # takes blanks between bytes, which the length below excludes
    if len(raw) != ADDRESS_BYTES:
        raise ValueError("an address is 0x and 40 hex digits")
    return raw


@lru_cache(maxsize=ADDRESS_TEXTS_CACHED_MAX)
def to_checksum(address: bytes) -> str:
    """``address`` (20 bytes) in the mixed case of EIP-55."""
    if len(address) != ADDRESS_BYTES:
        raise ValueError("an address has 20 bytes")
    digits = address.hex()
    checksum = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        [digit.upper() if nibble > "7" else digit for digit, nibble in zip(digits, checksum, strict=False)]
    )
