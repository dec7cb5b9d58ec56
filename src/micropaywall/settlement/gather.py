"""Many callers, few batches: concurrent calls of one blocking function become one call of it, off the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from micropaywall.errors import RailError, Unavailable

__all__ = ["Gatherer"]

A = TypeVar("A")
B = TypeVar("B")


class Gatherer(Generic[A, B]):
    """Calls ``function`` with what has been waiting, at most ``most`` items at a time, one batch after the other.

    The first caller's batch leaves at the end of the event loop's turn, so that whoever came in the same turn is in it;
    what comes while a batch is under way makes the next. The results come back by position. When ``function`` raises, every
    caller of that batch gets the exception. Belongs to one event loop.
    """

    def __init__(self, function: Callable[[list[A]], Sequence[B]], *, most: int, executor: ThreadPoolExecutor) -> None:
        self._function = function
        self._most = most
        self._executor = executor
        self._waiting: deque[tuple[list[A], asyncio.Future[list[B]]]] = deque()
        self._busy = False

    async def __call__(self, items: Sequence[A]) -> list[B]:
        """The results for ``items``, which stay together unless they are more than a batch."""
        if len(items) > self._most:
            head, tail = await asyncio.gather(self(items[: self._most]), self(items[self._most :]))
            return [*head, *tail]
        if not items:
            return []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[B]] = loop.create_future()
        self._waiting.append((list(items), future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._launch, loop)
        return await future

    def _launch(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[tuple[list[A], asyncio.Future[list[B]]]] = []
        size = 0
        while self._waiting and size + len(self._waiting[0][0]) <= self._most:
            items, future = self._waiting.popleft()
            if not future.done():  # its caller may have been cancelled; then nothing was sent
                batch.append((items, future))
                size += len(items)
        if not batch:
            self._busy = bool(self._waiting)
            if self._busy:
                loop.call_soon(self._launch, loop)
            return
        try:
            call = loop.run_in_executor(self._executor, self._function, [item for items, _ in batch for item in items])
        except RuntimeError as error:  # the executor was shut down
            self._busy = False
            _fail(batch, Unavailable(f"the rail is closed ({error})"))
        else:
            call.add_done_callback(lambda done: self._deliver(loop, batch, done))

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[list[A], asyncio.Future[list[B]]]],
        done: asyncio.Future[Sequence[B]],
    ) -> None:
        self._busy = bool(self._waiting)
        if self._busy:
            self._launch(loop)
        if done.cancelled():
            _fail(batch, Unavailable("the call to the rail was cancelled"))
            return
        error = done.exception()
        if error is not None:
            _fail(batch, error)
            return
        results = list(done.result())
        if len(results) != sum(len(items) for items, _ in batch):
            _fail(batch, RailError("the rail answered another number of payments than it was asked for"))
            return
        start = 0
        for items, future in batch:
            end = start + len(items)
            if not future.done():
                future.set_result(results[start:end])
            start = end


def _fail(batch: list[tuple[list[A], asyncio.Future[list[B]]]], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
