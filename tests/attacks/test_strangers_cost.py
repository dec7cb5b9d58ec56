"""What strangers, who paid nothing, can make a seller spend: time of one core, and memory that stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.call import call
from tests.kit.payer import Payer

from micropaywall import Paywall, limits
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


@pytest.mark.anyio
@pytest.mark.parametrize("target", ["/resource?" + "q=1&" * 3_000, "/items/" + "z" * 4_000], ids=["query", "path"])
async def test_a_long_url_gets_a_402_that_passes_every_proxy(tmp_path: Path, target: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"content"})

    paywall = Paywall(
        {"GET /resource": "$0.001", "GET /items/{name}": "$0.001"},
        ledger=f"sqlite:///{tmp_path}/book.db",
        rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
        background=False,
    )
    site = paywall.asgi(app)
    asked = await call(site, "GET", target)
    size = sum(len(name) + len(value) + len(b": \r\n") for name, value in asked.headers)
    assert (asked.status, size <= limits.CHALLENGE_HEADERS_BYTES_MAX) == (402, True)
    paid = await call(site, "GET", target, headers=[Payer().pay(asked.required)])
    assert (paid.status, paid.body) == (200, b"content")
    await paywall.stop()
