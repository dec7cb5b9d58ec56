"""One call of a WSGI application, and what becomes of its body."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from micropaywall import limits
from micropaywall.core import effects
from micropaywall.core.model import StoredResponse
from micropaywall.seller.holding import Held, Kept
from micropaywall.seller.paywall import Paywall
from micropaywall.wsgi.messages import Environ, WSGIApp


class Run:
    """One call of the application: status, headers and body as they come, within what may be held."""

    def __init__(self, app: WSGIApp, environ: Environ, paywall: Paywall) -> None:
        self._app = app
        self._paywall = paywall
        self._environ = environ
        self._iterable: Iterable[bytes] | None = None
        self._iterator: Iterator[bytes] | None = None
        self._written: list[bytes] = []
        self._held = Held(paywall.held_memory_bytes)
        self._ended = False
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def begin(self) -> None:
        """Call the application and wait until it has called start_response."""

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            self.status, self.headers = status, list(headers)
            return self._written.append

        self._iterable = self._app(self._environ, start_response)
        self._iterator = iter(self._iterable)
        while not self.status:  # PEP 3333: a generator may call it with its first piece
            try:
                self._written.append(next(self._iterator))
            except StopIteration:
                self._ended = True
                if not self.status:
                    raise RuntimeError("the application returned without an answer") from None

    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header lines as bytes, names lower-cased."""
        return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers)

    def hold(self) -> effects.Handled:
        """Read the body while it may be held; ``response`` None when it streams, outgrew that, or is too large to keep."""
        code, headers = int(self.status[:3]), self.raw_headers()
        names = {name for name, _ in headers}
        events = any(n == b"content-type" and v.lower().startswith(b"text/event-stream") for n, v in headers)
        whole = isinstance(self._iterable, (list, tuple)) or b"content-length" in names
        for piece in self._written:
            self._held.add(piece)
        self._written = []
        if not events and self._iterator is not None:
            for piece in self._iterator:
                self._held.add(piece)
                if (piece and not whole) or self._held.size > self._paywall.held_disk_bytes:
                    break
            else:
                self._ended = True
        if self._ended and self._held.size <= self._paywall.stored_bytes:
            return effects.Handled(code, headers, StoredResponse(code, headers, b"".join(self._held.take())))
        return effects.Handled(code, headers, None)

    def rest(self) -> Iterable[bytes]:
        """Everything not yet handed out; closes the application's iterable at the end."""
        return _Rest(self)

    def pieces(self) -> Iterator[bytes]:
        """The held part, then what the application still makes."""
        yield from self._held.take()
        yield from self._written
        if not self._ended and self._iterator is not None:
            yield from self._iterator

    def close(self) -> None:
        """Close what the application returned, as PEP 3333 asks."""
        self._held.close()
        iterable, self._iterable = self._iterable, None
        closing = getattr(iterable, "close", None)
        if closing is not None:
            closing()


class _Rest:
    """The body of an unpriced answer, untouched, with its close."""

    def __init__(self, run: Run) -> None:
        self._pieces = run.pieces()
        self.close = run.close

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


class Streamed:
    """A paid stream: passes pieces on, keeps them while they are few, and books the delivery when it ends.

    A server closes it early when the buyer leaves; the rest is then made and kept, for a retry with the same payment.
    One that the application breaks off was not delivered, and nothing of it is kept.
    """

    def __init__(self, run: Run, advance: Callable[..., None], *, keep_bytes: int) -> None:
        self._run = run
        self._pieces = run.pieces()
        self._advance = advance
        self._kept = Kept(keep_bytes)
        self._done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._done = True
            self._advance(None, error)
            raise
        self._kept.add(piece)
        return piece

    def close(self) -> None:
        try:
            if not self._done:
                self._drain()
        finally:
            self._run.close()

    def _drain(self) -> None:
        deadline = time.monotonic() + limits.DRAIN_AFTER_DISCONNECT_S
        try:
            for piece in self._pieces:
                self._kept.add(piece)
                if not self._kept.whole or time.monotonic() > deadline:
                    self._kept.give_up()
                    break
        except BaseException:
            self._kept.give_up()
            raise
        finally:
            self._end()  # delivered as far as the buyer wanted it

    def _end(self) -> None:
        if not self._done:
            self._done = True
            run = self._run
            self._advance(self._kept.response(int(run.status[:3]), run.raw_headers()))
