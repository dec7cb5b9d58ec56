"""A way from threads into the event loop: WSGI servers have no loop, the book and the rails need one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from micropaywall import limits
from micropaywall.errors import Unavailable

T = TypeVar("T")


class Portal:
    """One event loop in a daemon thread, started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` in the loop and wait for its result; Unavailable when it takes far too long."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result(limits.SETTLE_TIMEOUT_S * 4)
        except TimeoutError:
            if not future.done():
                future.cancel()
                raise Unavailable("the book or the rail did not answer in time") from None
            raise

    def stop(self) -> None:
        """End the loop; idempotent."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(loop,), name="micropaywall-portal", daemon=True).start()
                self._loop = loop
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()
