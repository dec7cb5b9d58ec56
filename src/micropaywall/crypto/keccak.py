"""Keccak-256 as Ethereum uses it (the padding before FIPS 202, so not hashlib's sha3_256)."""

from __future__ import annotations

from typing import Protocol, cast

__all__ = ["keccak256"]


class _Hash(Protocol):
    def digest(self) -> bytes: ...


class _New(Protocol):
    def __call__(self, data: bytes, /) -> _Hash: ...


try:
    import _pysha3  # type: ignore[import-not-found, unused-ignore]  # the `sha3` module would patch hashlib on import

    _keccak_256 = cast("_New", _pysha3.keccak_256)
except ImportError:  # macOS and Windows: pyproject.toml says why
    from Cryptodome.Hash import keccak

    def _keccak_256(data: bytes, /) -> _Hash:
        return keccak.new(data=data, digest_bits=256)


def keccak256(data: bytes) -> bytes:
    """The 32-byte Keccak-256 digest of ``data``."""
    return _keccak_256(data).digest()
