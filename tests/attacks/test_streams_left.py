"""A stream is settled before its first byte. Leaving in the middle must not be a way to have it and the money too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tests.kit.call import call
from tests.kit.payer import Payer
from tests.kit.wsgi import wsgi_call

from micropaywall import Paywall, limits
from micropaywall.core.book import ChargeRow
from micropaywall.ids import key_prefix

pytestmark = pytest.mark.anyio
PIECES = 40


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"a piece of the content\n"
            await asyncio.sleep(0.005)

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def broken(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a piece of the content\n"
        raise ConnectionAbortedError("the application's own source broke off")

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def passing(request: Request, call_next: Any) -> Any:
    return await call_next(request)


class Leaver:
    """A server whose client goes away after some pieces; it says so in `receive`, or by an OSError in `send`."""

    def __init__(self, app: Any, *, raises: bool) -> None:
        self.app, self.raises = app, raises
        self.got = 0
        self.identity = ""

    async def get(self, path: str, *headers: tuple[bytes, bytes]) -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.identity = dict(message["headers"]).get(b"payment-id", b"").decode()
            if message.get("body") and not gone.is_set():
                self.got += 1
                if self.got >= PIECES:
                    gone.set()
            if gone.is_set() and self.raises:
                raise BrokenPipeError

        asgi = {"version": "3.0", "spec_version": "2.4" if self.raises else "2.3"}
        scope = {
            "type": "http",
            "asgi": asgi,
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"seller.test"), *headers],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 80),
        }
        with contextlib.suppress(ClientDisconnect, OSError, ExceptionGroup):
            await self.app(scope, receive, send)


def paywall_at(tmp_path: Path) -> Paywall:
    return Paywall(
        {"GET /endless": "$0.001", "GET /broken": "$0.001"},
        ledger=f"sqlite:///{tmp_path}/book.db",
        rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
        background=False,
    )


async def charge_of(paywall: Paywall, buyer: Leaver) -> ChargeRow:
    prefix = key_prefix(buyer.identity)
    assert prefix is not None
    row = await paywall.ledger.payment(prefix)
    assert row is not None
    (charge,) = await paywall.ledger.charges(row.id)
    return charge


@pytest.mark.parametrize("raises", [False, True], ids=["told by receive", "told by send"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "inside BaseHTTPMiddleware"])
async def test_leaving_a_stream_in_the_middle_gives_no_money_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raises: bool, wrapped: bool
) -> None:
    monkeypatch.setattr(limits, "DRAIN_AFTER_DISCONNECT_S", 0.05)
    paywall = paywall_at(tmp_path)
    shop: Any = Starlette(routes=[Route("/endless", endless)])
    if wrapped:
        shop = BaseHTTPMiddleware(shop, passing)
    app = paywall.asgi(shop)
    payment = Payer().pay((await call(app, "GET", "/endless")).required)
    buyer = Leaver(app, raises=raises)
    await asyncio.wait_for(buyer.get("/endless", payment), 10)
    assert buyer.got >= PIECES
    charge = await charge_of(paywall, buyer)
    assert (charge.state.value, charge.delivered, charge.lease_until_ms) == ("captured", True, 0)
    await paywall.stop()


async def test_a_stream_that_the_application_breaks_off_is_not_delivered(tmp_path: Path) -> None:
    paywall = paywall_at(tmp_path)
    app = paywall.asgi(Starlette(routes=[Route("/broken", broken)]))
    payment = Payer().pay((await call(app, "GET", "/broken")).required)
    buyer = Leaver(app, raises=False)
    await buyer.get("/broken", payment)
    assert buyer.got == 1
    charge = await charge_of(paywall, buyer)
    assert (charge.state.value, charge.delivered) == ("captured", False)
    assert charge.lease_until_ms > 0
    await paywall.stop()


def broken_wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield b"a piece of the content\n"
    raise ConnectionAbortedError("the application's own source broke off")


def test_a_wsgi_stream_that_the_application_breaks_off_is_not_kept_as_if_it_were_whole(tmp_path: Path) -> None:
    app = paywall_at(tmp_path).wsgi(broken_wsgi)
    payment = Payer().pay(wsgi_call(app, "GET", "/broken").required)
    with pytest.raises(ConnectionAbortedError):
        wsgi_call(app, "GET", "/broken", headers=[payment])
    again = wsgi_call(app, "GET", "/broken", headers=[payment])
    app.stop()
    assert (again.status, again.json["code"]) == (409, "payment_in_progress")  # until its lease is over


def test_leaving_a_wsgi_stream_that_then_breaks_off_gives_no_money_back(tmp_path: Path) -> None:
    app = paywall_at(tmp_path).wsgi(broken_wsgi)
    payment = Payer().pay(wsgi_call(app, "GET", "/broken").required)
    with pytest.raises(ConnectionAbortedError):
        wsgi_call(app, "GET", "/broken", headers=[payment], leave_after=1)
    again = wsgi_call(app, "GET", "/broken", headers=[payment])
    app.stop()
    assert (again.status, again.json["code"]) == (402, "payment_spent")
