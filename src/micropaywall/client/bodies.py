"""Bodies within bounds: the beginning of an answer decoded without surprises, and request bodies that can be sent twice."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from micropaywall import limits
from micropaywall.errors import RequestNotReplayable

__all__ = ["ACCEPT_ENCODING", "KeptBody", "KeptStream", "decode"]

ACCEPT_ENCODING: Final = "gzip, deflate"
"""What paying clients ask for: encodings that can be decoded piece by piece within a limit."""
_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def decode(raw: bytes, content_encoding: str, limit: int) -> bytes | None:
    """``raw`` decoded, or None when it decodes to more than ``limit`` bytes, or is in another encoding, or broken.

    Never holds more than ``limit`` decoded bytes: a few kilobytes of gzip can stand for gigabytes.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return raw if len(raw) <= limit else None
    if encoding not in _WINDOWS:
        return None
    for window in (_WINDOWS[encoding], -15 if encoding == "deflate" else None):  # some servers send raw deflate
        if window is None:
            return None
        decoder = zlib.decompressobj(window)
        try:
            decoded = decoder.decompress(raw, limit + 1)
        except zlib.error:
            continue
        return decoded if len(decoded) <= limit and decoder.eof else None
    return None


class KeptBody:
    """The chunks of a request body that came as a stream, kept while they are sent the first time.

    `check` raises RequestNotReplayable (before anything is signed) when there was too much to keep.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.complete = False
        self.started = False
        self._limit = limits.REPLAYABLE_BODY_BYTES_MAX if limit is None else limit
        self._digest = hashlib.sha256()

    def keep(self, chunk: bytes) -> None:
        """Keep a chunk that goes by."""
        self.size += len(chunk)
        self._digest.update(chunk)
        if self.size <= self._limit:
            self.chunks.append(chunk)
        else:
            self.chunks.clear()

    def check(self) -> None:
        """Raise RequestNotReplayable when the body cannot be repeated."""
        if self.size > self._limit:
            raise RequestNotReplayable(
                "the request asks for payment, but its body came as a stream that is too long to send again",
                expected=f"at most {self._limit} bytes, or a body given as bytes",
                received=f"{self.size} bytes so far",
                hint="Pass the body as bytes or as a file of a size that can be kept. Nothing was paid.",
            )

    def digest(self) -> bytes:
        """SHA-256 of the whole body."""
        return self._digest.digest()


class KeptStream:
    """A request body that is kept while it is sent the first time."""

    def __init__(self, stream: Iterable[bytes], body: KeptBody) -> None:
        self._source = iter(stream)
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        if self._body.started:
            self.finish()
            yield from self._body.chunks
            return
        self._body.started = True
        for chunk in self._source:
            self._body.keep(chunk)
            yield chunk
        self._body.complete = True

    def finish(self) -> None:
        """Read what the first sending left, as far as it can be kept."""
        self._body.started = True
        self._body.check()
        if not self._body.complete:
            for chunk in self._source:
                self._body.keep(chunk)
                self._body.check()
            self._body.complete = True
