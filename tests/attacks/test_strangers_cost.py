"""What strangers, who paid nothing, can make a seller spend: time of one core, and memory that stays."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from micropaywall.core.quote import Terms, _remembered_mac, write_quote
from micropaywall.core.routes import RouteTable
from micropaywall.errors import AmbiguousPath

TABLE = RouteTable.of({"GET /api/resource": "$0.001"})


def frames(error: BaseException) -> Iterator[object]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


@pytest.mark.parametrize(
    "path",
    [
        "/" + "a" * 2_000 + "/../api/resource",
        "/" + "a/" * 1_000 + "../" * 1_000 + "api/resource",
        "/" + "a." * 1_000 + "/" + "../" * 1 + "api/resource",
        "/" + "a-" * 1_000 + "%/../api/resource",
    ],
    ids=["long segment", "many segments", "dots", "escape"],
)
def test_judging_a_path_takes_time_in_proportion_to_its_length(path: str) -> None:
    started = time.process_time()
    with pytest.raises(AmbiguousPath):
        TABLE.match("GET", path.encode(), path)
    assert time.process_time() - started < 1


def test_a_refusal_that_is_repeated_holds_nothing_of_the_requests_before() -> None:
    for _ in range(20):
        with pytest.raises(AmbiguousPath) as caught:
            TABLE.match("GET", b"//api/resource", "//api/resource")
    assert len(list(frames(caught.value))) < 5


def test_quotes_for_long_urls_are_not_kept() -> None:
    before = _remembered_mac.cache_info().currsize
    for number in range(20):
        terms = Terms("GET", f"http://seller.test/?{number}{'x' * 50_000}", "exact", "eip155:1", "0xa", 1, "0xb")
        assert write_quote(b"k" * 32, terms, expires_s=2_000_000_000)
    assert _remembered_mac.cache_info().currsize == before
