"""Responses that wait: held until their payment is settled, and kept for a retry. Shared by `asgi` and `wsgi`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from micropaywall.core.model import StoredResponse
from micropaywall.errors import RequestBodyTooLarge

_PIECE_BYTES = 262_144


class Held:
    """A body in memory, and beyond ``memory_bytes`` in a temporary file. Close it, or take it."""

    __slots__ = ("_file", "_memory_bytes", "_pieces", "size")

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Hold one more piece."""
        self.size += len(piece)
        if self._file is None and self.size <= self._memory_bytes:
            self._pieces.append(piece)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="micropaywall-")  # noqa: SIM115 (closed by close)
            self._file.writelines(self._pieces)
            self._pieces = []
        self._file.write(piece)

    def take(self) -> Iterator[bytes]:
        """Hand everything out, once."""
        pieces, self._pieces = self._pieces, []
        yield from pieces
        if self._file is not None:
            with self._file as file:
                self._file = None
                file.seek(0)
                while piece := file.read(_PIECE_BYTES):
                    yield piece

    def close(self) -> None:
        """Let go of what was not taken."""
        self._pieces = []
        if self._file is not None:
            self._file.close()
            self._file = None


class Kept:
    """A copy of a stream for a retry, while it stays below ``limit_bytes``; 0 keeps nothing."""

    __slots__ = ("_limit_bytes", "_pieces", "_size", "whole")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self.whole = limit_bytes > 0

    def add(self, piece: bytes) -> None:
        """Keep one more piece, or give the copy up."""
        if self.whole:
            self._size += len(piece)
            self._pieces.append(piece)
            if self._size > self._limit_bytes:
                self.give_up()

    def give_up(self) -> None:
        """Keep nothing of it."""
        self.whole = False
        self._pieces = []

    def response(self, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> StoredResponse | None:
        """The copy as a response; None when it grew too large."""
        return StoredResponse(status, headers, b"".join(self._pieces)) if self.whole else None


def streams(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response in several pieces is meant to be seen as it comes: events, or no length given."""
    length = False
    for name, value in headers:
        if name == b"content-type" and value.lower().startswith(b"text/event-stream"):
            return True
        length = length or name == b"content-length"
    return not length


def body_too_large(limit: int, received: object = None) -> RequestBodyTooLarge:
    """The refusal of a request body over ``limit`` bytes."""
    return RequestBodyTooLarge(
        "the request body is larger than this priced route reads",
        expected=f"at most {limit} bytes",
        received=f"{received or f'over {limit}'} bytes",
    )
