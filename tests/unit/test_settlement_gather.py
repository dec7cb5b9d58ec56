"""Many callers, few calls: order, batch size, failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from micropaywall.errors import RailError, Unavailable
from micropaywall.settlement.gather import Gatherer

pytestmark = pytest.mark.anyio


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield executor


async def test_callers_of_one_turn_share_a_call_and_get_their_own_results(executor: ThreadPoolExecutor) -> None:
    calls: list[list[int]] = []

    def double(items: list[int]) -> list[int]:
        calls.append(items)
        assert threading.current_thread() is not threading.main_thread()
        return [2 * item for item in items]

    gather = Gatherer(double, most=100, executor=executor)
    results = await asyncio.gather(*(gather([n, n + 1]) for n in range(0, 20, 2)))
    assert results == [[2 * n, 2 * n + 2] for n in range(0, 20, 2)]
    assert len(calls) == 1


async def test_what_comes_meanwhile_makes_the_next_batch(executor: ThreadPoolExecutor) -> None:
    gate = threading.Event()
    calls: list[list[int]] = []

    def slow(items: list[int]) -> list[int]:
        calls.append(items)
        gate.wait(10)
        return items

    gather = Gatherer(slow, most=100, executor=executor)
    first = asyncio.create_task(gather([1]))
    while not calls:  # noqa: ASYNC110 - the thread tells by a list
        await asyncio.sleep(0.001)
    rest = [asyncio.create_task(gather([n])) for n in range(2, 10)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *rest)
    assert calls == [[1], list(range(2, 10))]


async def test_no_batch_is_larger_than_allowed(executor: ThreadPoolExecutor) -> None:
    sizes: list[int] = []

    def same(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    gather = Gatherer(same, most=8, executor=executor)
    results = await asyncio.gather(*(gather(list(range(n))) for n in (3, 3, 3, 8, 0, 20)))
    assert [len(result) for result in results] == [3, 3, 3, 8, 0, 20]
    assert max(sizes) <= 8
    assert results[-1] == list(range(20))


async def test_a_failure_reaches_every_caller_of_the_batch_and_no_other(executor: ThreadPoolExecutor) -> None:
    def odd_fails(items: list[int]) -> list[int]:
        if any(item % 2 for item in items):
            raise Unavailable("odd")
        return items

    gather = Gatherer(odd_fails, most=2, executor=executor)
    results = await asyncio.gather(*(gather([a, b]) for a, b in ((1, 2), (2, 4))), return_exceptions=True)
    assert isinstance(results[0], Unavailable)
    assert results[1] == [2, 4]


async def test_results_that_do_not_match_are_given_to_nobody(executor: ThreadPoolExecutor) -> None:
    gather: Gatherer[int, int] = Gatherer(lambda items: items[1:], most=10, executor=executor)
    with pytest.raises(RailError):
        await gather([1, 2])


async def test_who_was_cancelled_before_the_batch_left_is_not_in_it(executor: ThreadPoolExecutor) -> None:
    calls: list[list[int]] = []
    gate = threading.Event()

    def slow(items: list[int]) -> list[int]:
        calls.append(items)
        gate.wait(10)
        return items

    gather = Gatherer(slow, most=10, executor=executor)
    first = asyncio.create_task(gather([1]))
    while not calls:  # noqa: ASYNC110 - the thread tells by a list
        await asyncio.sleep(0.001)
    second = asyncio.create_task(gather([2]))
    await asyncio.sleep(0)
    second.cancel()
    third = asyncio.create_task(gather([3]))
    gate.set()
    assert await first == [1]
    assert await third == [3]
    assert calls == [[1], [3]]
    fourth = await gather([4])
    assert fourth == [4]


async def test_after_shutdown_callers_are_told_and_do_not_hang(executor: ThreadPoolExecutor) -> None:
    gather: Gatherer[int, int] = Gatherer(lambda items: items, most=10, executor=executor)
    executor.shutdown()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(gather([1]), timeout=5)
