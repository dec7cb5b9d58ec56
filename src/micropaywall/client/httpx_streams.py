"""Bodies as streams of httpx's kind: a request body that is kept while it is sent, a response body that was peeked into."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from micropaywall.client.bodies import KeptBody, KeptStream

__all__ = ["Api"]


@dataclass(frozen=True)
class Api:
    """One generation of httpx: its modules, and our streams as its kind of streams."""

    httpx: Any
    httpcore: Any
    kept: Any = field(init=False)
    kept_async: Any = field(init=False)
    replay: Any = field(init=False)
    replay_async: Any = field(init=False)
    watched: Any = field(init=False)
    watched_async: Any = field(init=False)

    def __post_init__(self) -> None:
        for name, mixin, base in (
            ("kept", KeptStream, self.httpx.SyncByteStream),
            ("kept_async", _KeptAsyncStream, self.httpx.AsyncByteStream),
            ("replay", _Replay, self.httpx.SyncByteStream),
            ("replay_async", _AsyncReplay, self.httpx.AsyncByteStream),
            ("watched", _Watched, self.httpx.SyncByteStream),
            ("watched_async", _AsyncWatched, self.httpx.AsyncByteStream),
        ):
            object.__setattr__(self, name, type(mixin.__name__, (mixin, base), {}))


class _KeptAsyncStream:
    """`bodies.KeptStream` for asynchronous streams."""

    def __init__(self, stream: Any, body: KeptBody) -> None:
        self._source = aiter(stream)
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body.started:
            await self.finish()
            for chunk in self._body.chunks:
                yield chunk
            return
        self._body.started = True
        async for chunk in self._source:
            self._body.keep(chunk)
            yield chunk
        self._body.complete = True

    async def finish(self) -> None:
        self._body.started = True
        self._body.check()
        if not self._body.complete:
            async for chunk in self._source:
                self._body.keep(chunk)
                self._body.check()
            self._body.complete = True


class _Replay:
    """A response body of which the beginning was read: the beginning again, then the rest."""

    def __init__(self, chunks: list[bytes], rest: Iterator[bytes], stream: Any) -> None:
        self._chunks = chunks
        self._rest = rest
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        yield from self._rest

    @property
    def elapsed(self) -> Any:
        return getattr(self._stream, "elapsed", None)

    def close(self) -> None:
        self._stream.close()


class _Watched:
    """A response body that tells when it broke off."""

    def __init__(self, stream: Any, errors: Any, broke_off: Callable[[], None]) -> None:
        self._stream = stream
        self._errors = errors
        self._broke_off = broke_off

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except self._errors:
            self._broke_off()
            raise

    @property
    def elapsed(self) -> Any:
        return getattr(self._stream, "elapsed", None)

    def close(self) -> None:
        self._stream.close()


class _AsyncWatched:
    """The same for asynchronous streams."""

    def __init__(self, stream: Any, errors: Any, broke_off: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._errors = errors
        self._broke_off = broke_off

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except self._errors:
            await self._broke_off()
            raise

    @property
    def elapsed(self) -> Any:
        return getattr(self._stream, "elapsed", None)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _AsyncReplay:
    """The same for asynchronous streams."""

    def __init__(self, chunks: list[bytes], rest: AsyncIterator[bytes], stream: Any) -> None:
        self._chunks = chunks
        self._rest = rest
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        async for chunk in self._rest:
            yield chunk

    @property
    def elapsed(self) -> Any:
        return getattr(self._stream, "elapsed", None)

    async def aclose(self) -> None:
        await self._stream.aclose()
