"""scrypt with block size 1 and more rounds than RFC 7914 allows there, which OpenSSL therefore refuses.

The vector of the keystore format has such parameters (n 262144, r 1, p 8), and so have the files that Python wallets wrote
for years (eth-keyfile before 0.6). They take about a minute here instead of a second, and are converted when imported.

The ``p`` lanes of scrypt are independent, so all of them are computed at once in long integers: a *row* is an integer of
4 * p slots of 64 bits, each with a 32-bit word in its lower half. Slot ``position * p + lane``. A block of 16 words is four
rows, the diagonals of Salsa20's matrix, as vector implementations have it (D. J. Bernstein, "The Salsa20 family").
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["openssl_refuses", "scrypt_r1"]

_SLOT: Final = 64
# Row k, position i holds this word of the block.
_DIAGONALS: Final = ((0, 5, 10, 15), (4, 9, 14, 3), (8, 13, 2, 7), (12, 1, 6, 11))
Block = tuple[int, int, int, int]


def openssl_refuses(n: int, r: int) -> bool:
    """Whether the parameters are outside RFC 7914, section 2: n less than 2^(128 * r / 8)."""
    return n >= 1 << (16 * r)


def scrypt_r1(passphrase: bytes, *, salt: bytes, n: int, p: int, length: int) -> bytes:
    """The key derivation of RFC 7914 with r = 1, for any power of two ``n``."""
    blocks = hashlib.pbkdf2_hmac("sha256", passphrase, salt, 1, 128 * p)
    first, second = _pack(blocks, 0, p), _pack(blocks, 64, p)
    first, second = _Lanes(p).romix(first, second, n)
    mixed = bytearray(128 * p)
    _unpack(first, mixed, 0, p)
    _unpack(second, mixed, 64, p)
    return hashlib.pbkdf2_hmac("sha256", passphrase, bytes(mixed), 1, length)


def _pack(blocks: bytes, offset: int, p: int) -> Block:
    rows = []
    for diagonal in _DIAGONALS:
        row = 0
        for position, word in enumerate(diagonal):
            for lane in range(p):
                start = 128 * lane + offset + 4 * word
                row |= int.from_bytes(blocks[start : start + 4], "little") << (_SLOT * (position * p + lane))
        rows.append(row)
    return rows[0], rows[1], rows[2], rows[3]


def _unpack(block: Block, into: bytearray, offset: int, p: int) -> None:
    for row, diagonal in zip(block, _DIAGONALS, strict=True):
        for position, word in enumerate(diagonal):
            for lane in range(p):
                value = row >> (_SLOT * (position * p + lane)) & 0xFFFFFFFF
                start = 128 * lane + offset + 4 * word
                into[start : start + 4] = value.to_bytes(4, "little")


class _Lanes:
    """The mixing of ``p`` lanes at once."""

    def __init__(self, p: int) -> None:
        self._lane_bits = _SLOT * p
        self._bits = 4 * self._lane_bits
        slots = range(4 * p)
        self._low = sum(0xFFFFFFFF << (_SLOT * slot) for slot in slots)
        self._lane_masks = [
            sum((2**_SLOT - 1) << (_SLOT * (position * p + lane)) for position in range(4)) for lane in range(p)
        ]

    def romix(self, first: Block, second: Block, n: int) -> tuple[Block, Block]:
        """Mix every lane: scryptROMix."""
        low, salsa = self._low, self._salsa20_8
        kept: list[Block] = []
        for _ in range(n):
            # Two rows share an integer: the upper halves of the slots are free.
            kept.append(
                (
                    first[0] | first[1] << 32,
                    first[2] | first[3] << 32,
                    second[0] | second[1] << 32,
                    second[2] | second[3] << 32,
                )
            )
            first = salsa(first, second)
            second = salsa(second, first)
        shifts = [_SLOT * lane for lane in range(len(self._lane_masks))]
        for _ in range(n):
            picked = [0, 0, 0, 0]
            for shift, mask in zip(shifts, self._lane_masks, strict=True):
                chosen = kept[second[0] >> shift & (n - 1)]
                picked[0] |= chosen[0] & mask
                picked[1] |= chosen[1] & mask
                picked[2] |= chosen[2] & mask
                picked[3] |= chosen[3] & mask
            x, y, z, w = picked
            first = (first[0] ^ x & low, first[1] ^ x >> 32 & low, first[2] ^ y & low, first[3] ^ y >> 32 & low)
            second = (second[0] ^ z & low, second[1] ^ z >> 32 & low, second[2] ^ w & low, second[3] ^ w >> 32 & low)
            first = salsa(first, second)
            second = salsa(second, first)
        return first, second

    def _salsa20_8(self, block: Block, with_: Block) -> Block:
        """Salsa20/8 of ``block`` xor ``with_``: four double rounds on the diagonals, then the sum with the input."""
        low, one, total = self._low, self._lane_bits, self._bits
        two, three = 2 * one, 3 * one
        low_one, low_two, low_three = (1 << one) - 1, (1 << two) - 1, (1 << three) - 1
        a0, b0, c0, d0 = block[0] ^ with_[0], block[1] ^ with_[1], block[2] ^ with_[2], block[3] ^ with_[3]
        a, b, c, d = a0, b0, c0, d0
        for _ in range(4):
            t = (a + d & low) << 7
            b ^= (t | t >> 32) & low
            t = (b + a & low) << 9
            c ^= (t | t >> 32) & low
            t = (c + b & low) << 13
            d ^= (t | t >> 32) & low
            t = (d + c & low) << 18
            a ^= (t | t >> 32) & low
            # Columns become rows: the diagonals turn by one, two and three positions.
            b = b >> three | (b & low_three) << total - three
            c = c >> two | (c & low_two) << total - two
            d = d >> one | (d & low_one) << total - one
            t = (a + b & low) << 7
            d ^= (t | t >> 32) & low
            t = (d + a & low) << 9
            c ^= (t | t >> 32) & low
            t = (c + d & low) << 13
            b ^= (t | t >> 32) & low
            t = (b + c & low) << 18
            a ^= (t | t >> 32) & low
            b = b >> one | (b & low_one) << total - one
            c = c >> two | (c & low_two) << total - two
            d = d >> three | (d & low_three) << total - three
        return a + a0 & low, b + b0 & low, c + c0 & low, d + d0 & low
