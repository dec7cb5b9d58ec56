"""One flow, two colours: what drives a generator of typed effects, with blocking handlers or with awaitable ones.

A flow says what it needs by yielding an :class:`Effect`; the result of carrying it out is sent back in, an exception is
thrown in. The flow decides what an exception means, so it can give back what it holds when a call fails or is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Generic, TypeVar

__all__ = ["AsyncHandlers", "Effect", "Handlers", "do", "run_async", "run_sync"]

R = TypeVar("R")
T = TypeVar("T")


class Effect(Generic[R]):
    """Something that a flow wants done; ``R`` is what it gets for it. Subclasses are frozen dataclasses."""

    __slots__ = ()


Handlers = Mapping[type[Effect[Any]], Callable[[Any], Any]]
AsyncHandlers = Mapping[type[Effect[Any]], Callable[[Any], Awaitable[Any]]]


def do(effect: Effect[R]) -> Generator[Effect[Any], Any, R]:
    """Have one effect carried out, with the type of its result known to the checker; used with ``yield from``."""
    result: R = yield effect
    return result


def run_sync(flow: Generator[Effect[Any], Any, T], handlers: Handlers) -> T:
    """Carry out ``flow`` with blocking handlers, one for each type of effect."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration as done:
            result: T = done.value
            return result
        answer = error = None
        try:
            answer = handlers[type(effect)](effect)
        except BaseException as raised:  # noqa: BLE001 - not handled here: the flow is told, and raises it or another
            error = raised


async def run_async(flow: Generator[Effect[Any], Any, T], handlers: AsyncHandlers) -> T:
    """The same with awaitable handlers. A cancellation is thrown into the flow like any other exception."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration as done:
            result: T = done.value
            return result
        answer = error = None
        try:
            answer = await handlers[type(effect)](effect)
        except BaseException as raised:  # noqa: BLE001 - likewise
            error = raised
