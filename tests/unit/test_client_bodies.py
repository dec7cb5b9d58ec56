"""Bodies within bounds: decoding that cannot blow up, and request bodies that can be sent twice."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from micropaywall.client.bodies import KeptBody, KeptStream, decode
from micropaywall.errors import RequestNotReplayable

TEXT = b'{"x402Version": 1}' * 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("X-GZIP ", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
    ],
)
def test_what_clients_are_asked_for_is_decoded(encoding: str, raw: bytes) -> None:
    assert decode(raw, encoding, len(TEXT)) == TEXT
    assert decode(raw, encoding, len(TEXT) - 1) is None


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("br", TEXT),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
        ("gzip", TEXT),
        ("gzip", gzip.compress(TEXT)[:-9]),
        ("deflate", b"\xff" * 50),
        ("gzip", b""),
    ],
)
def test_what_cannot_be_decoded_is_not_guessed(encoding: str, raw: bytes) -> None:
    assert decode(raw, encoding, 10_000) is None


def test_a_few_kilobytes_that_stand_for_gigabytes_cost_no_more_than_the_limit() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    tracemalloc.start()
    try:
        assert decode(bomb, "gzip", 100_000) is None
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def chunks(*parts: bytes) -> Iterator[bytes]:
    yield from parts


def test_a_stream_is_passed_on_once_and_repeated_from_what_was_kept() -> None:
    body = KeptBody()
    stream = KeptStream(chunks(b"one ", b"two"), body)
    assert b"".join(stream) == b"one two"
    assert b"".join(stream) == b"one two"
    assert body.digest() == hashlib.sha256(b"one two").digest()


def test_a_stream_that_was_cut_short_is_read_to_its_end_before_it_is_repeated() -> None:
    body = KeptBody()
    stream = KeptStream(chunks(b"one ", b"two ", b"three"), body)
    assert next(iter(stream)) == b"one "  # the server answered before it had it all
    stream.finish()
    assert b"".join(stream) == b"one two three"


def test_a_stream_that_is_too_long_is_passed_on_but_cannot_be_paid_for() -> None:
    body = KeptBody(limit=5)
    stream = KeptStream(chunks(b"123", b"456", b"789"), body)
    assert b"".join(stream) == b"123456789"
    assert body.chunks == []
    with pytest.raises(RequestNotReplayable):
        stream.finish()
    with pytest.raises(RequestNotReplayable):
        list(stream)


def test_an_endless_stream_is_not_read_to_its_end() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    stream = KeptStream(endless(), KeptBody(limit=10_000))
    with pytest.raises(RequestNotReplayable):
        stream.finish()
