"""Ways to get priced content for nothing, or for less: each is closed."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import fastapi
import flask
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.kit.call import call
from tests.kit.payer import Payer
from tests.kit.wsgi import wsgi_call

from micropaywall import Paywall
from micropaywall.clock import ManualClock
from micropaywall.contrib.fastapi import Price
from micropaywall.contrib.flask import priced as flask_priced
from micropaywall.contrib.starlette import priced as starlette_priced
from micropaywall.errors import ConfigurationError

pytestmark = pytest.mark.anyio
CONTENT = b"the priced content"
Open = Callable[..., Paywall]


@pytest.fixture
async def shop(tmp_path: Path) -> Any:
    """Makes paywalls, and closes them."""
    made: list[Paywall] = []

    def make(routes: dict[str, Any] | None = None) -> Paywall:
        paywall = Paywall(
            routes or {},
            ledger=f"sqlite:///{tmp_path}/book-{len(made)}.db",
            rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
            background=False,
        )
        made.append(paywall)
        return paywall

    yield make
    for paywall in made:
        await paywall.stop()


async def careless(scope: Any, receive: Any, send: Any) -> None:
    """An application that never looks at the method."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"18")]})
    await send({"type": "http.response.body", "body": CONTENT})


def careless_wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    write = start_response("200 OK", [("Content-Length", "36"), ("Content-Type", "text/plain")])
    write(CONTENT)
    return [CONTENT]


# -- methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["OPTIONS", "options", "TRACE", "PROPFIND", "CONNECT", "WHATEVER", "HEAD"])
@pytest.mark.parametrize("name", ["GET /resource", "/resource"])
async def test_no_method_that_cannot_be_priced_opens_a_careless_application(shop: Open, name: str, method: str) -> None:
    for target in ("/resource", "/resource/", "//resource"):
        answer = await call(shop({name: "$0.001"}).asgi(careless), method, target)
        assert CONTENT not in answer.body, target
        length = answer.header("content-length")
        assert length is None or answer.status != 200 or int(length) == len(answer.body)


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "WHATEVER"])
def test_no_method_that_cannot_be_priced_opens_a_careless_wsgi_application(tmp_path: Path, method: str) -> None:
    paywall = Paywall(
        {"GET /resource": "$0.001"},
        ledger=f"sqlite:///{tmp_path}/book.db",
        rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
        background=False,
    )
    app = paywall.wsgi(careless_wsgi)
    answer = wsgi_call(app, method, "/resource")
    app.stop()
    assert CONTENT not in answer.body
    assert answer.header("content-length") is None or answer.status == 402


async def test_options_of_an_unpriced_path_keeps_its_body(shop: Open) -> None:
    answer = await call(shop({"GET /resource": "$0.001"}).asgi(careless), "OPTIONS", "/other")
    assert (answer.body, answer.header("content-length")) == (CONTENT, "18")


# -- prices that depend on the request --------------------------------------------------------------------------------


def by_size(request: Any) -> str:
    return "$0.001" if len(request.body or b"") < 10 else "$1"


def by_header(request: Any) -> str:
    return "$1" if request.header(b"x-tier") == b"gold" else "$0.001"


async def sized(request: Request) -> Response:
    body = await request.body()
    if body == b"bad":
        return PlainTextResponse("no", status_code=422)
    return PlainTextResponse(f"{len(body)} {request.headers.get('x-tier')}")


@pytest.mark.parametrize("mode", ["before", "after", "deferred"])
async def test_a_quote_for_a_cheap_body_does_not_buy_a_dear_one(shop: Open, mode: str) -> None:
    paywall = shop({"POST /sized": {"price": by_size, "price_reads_body": True, "settle": mode}})
    app = paywall.asgi(Starlette(routes=[Route("/sized", sized, methods=["POST"])]))
    payment = Payer().pay((await call(app, "POST", "/sized", body=b"tiny")).required)
    dear = await call(app, "POST", "/sized", body=b"x" * 100, headers=[payment])
    assert (dear.status, dear.json["code"]) == (402, "offer_mismatch")
    assert (await call(app, "POST", "/sized", body=b"tiny", headers=[payment])).status == 200


@pytest.mark.parametrize("mode", ["before", "after", "deferred"])
async def test_a_quote_for_cheap_headers_does_not_buy_the_dear_ones(shop: Open, mode: str) -> None:
    app = shop({"GET /sized": {"price": by_header, "settle": mode}}).asgi(Starlette(routes=[Route("/sized", sized)]))
    payment = Payer().pay((await call(app, "GET", "/sized")).required)
    dear = await call(app, "GET", "/sized", headers=[payment, (b"x-tier", b"gold")])
    assert (dear.status, dear.json["code"]) == (402, "offer_mismatch")


async def test_other_headers_at_the_same_price_are_nobodys_business(shop: Open) -> None:
    app = shop({"GET /sized": {"price": by_header}}).asgi(Starlette(routes=[Route("/sized", sized)]))
    payment = Payer().pay((await call(app, "GET", "/sized")).required)
    assert (await call(app, "GET", "/sized", headers=[payment, (b"accept", b"text/plain")])).status == 200


async def test_a_quote_with_another_requests_seal_buys_nothing_cheaper(shop: Open) -> None:
    """The part of a quote that vouches for the request belongs to that quote."""
    app = shop({"GET /sized": {"price": by_header}}).asgi(Starlette(routes=[Route("/sized", sized)]))
    cheap = (await call(app, "GET", "/sized")).required
    dear = (await call(app, "GET", "/sized", headers=[(b"x-tier", b"gold")])).required
    extra, other = cheap["accepts"][0]["extra"], dear["accepts"][0]["extra"]
    extra["quote"] = extra["quote"][:27] + other["quote"][27:]
    answer = await call(app, "GET", "/sized", headers=[Payer().pay(cheap), (b"x-tier", b"gold")])
    assert (answer.status, answer.json["code"]) == (402, "offer_mismatch")


async def test_a_quote_for_more_than_the_price_is_now_is_taken(shop: Open) -> None:
    app = shop({"GET /sized": {"price": by_header}}).asgi(Starlette(routes=[Route("/sized", sized)]))
    payment = Payer().pay((await call(app, "GET", "/sized", headers=[(b"x-tier", b"gold")])).required)
    assert (await call(app, "GET", "/sized", headers=[payment])).status == 200


@pytest.mark.parametrize("version", [1, 2])
async def test_credit_left_by_a_failed_cheap_request_does_not_buy_a_dear_one(shop: Open, version: int) -> None:
    """In `before` mode a payment is settled when the handler refuses: its credit is for the same price only."""
    paywall = shop({"POST /sized": {"price": by_size, "price_reads_body": True, "settle": "before"}})
    app = paywall.asgi(Starlette(routes=[Route("/sized", sized, methods=["POST"])]))
    asked, payer = await call(app, "POST", "/sized", body=b"bad"), Payer()
    payment = payer.pay(asked.required) if version == 2 else payer.pay_v1(asked.json)
    assert (await call(app, "POST", "/sized", body=b"bad", headers=[payment])).status == 422
    dear = await call(app, "POST", "/sized", body=b"x" * 100, headers=[payment])
    assert (dear.status, dear.json["code"]) == (409, "payment_bound_elsewhere")
    cheap = await call(app, "POST", "/sized", body=b"good", headers=[payment])
    assert (cheap.status, cheap.body) == (200, b"4 None")


async def test_credit_left_by_one_bound_body_does_not_buy_another(shop: Open) -> None:
    paywall = shop({"POST /sized": {"price": "$1", "bind_body": True, "settle": "before", "binding": "required"}})
    app = paywall.asgi(Starlette(routes=[Route("/sized", sized, methods=["POST"])]))
    payment = Payer().pay((await call(app, "POST", "/sized", body=b"bad")).required)
    assert (await call(app, "POST", "/sized", body=b"bad", headers=[payment])).status == 422
    other = await call(app, "POST", "/sized", body=b"other", headers=[payment])
    assert (other.status, other.json["code"]) == (409, "payment_bound_elsewhere")


async def test_a_body_that_no_header_announces_is_priced(shop: Open) -> None:
    """Over HTTP/2 a body may come without a length, and without Transfer-Encoding, which HTTP/2 does not have."""
    price = {"price": lambda request: "$1" if request.body else None, "price_reads_body": True}
    app = shop({"POST /sized": price}).asgi(Starlette(routes=[Route("/sized", sized, methods=["POST"])]))

    async def http2(scope: Any, receive: Any, send: Any) -> None:
        headers = [line for line in scope["headers"] if line[0] != b"content-length"]
        await app({**scope, "http_version": "2", "headers": headers}, receive, send)

    assert (await call(http2, "POST", "/sized", body=b"x" * 100)).status == 402


async def test_a_body_that_no_header_announces_is_part_of_the_request(shop: Open) -> None:
    app = shop({"POST /sized": "$1"}).asgi(Starlette(routes=[Route("/sized", sized, methods=["POST"])]))

    async def http2(scope: Any, receive: Any, send: Any) -> None:
        headers = [line for line in scope["headers"] if line[0] != b"content-length"]
        await app({**scope, "http_version": "2", "headers": headers}, receive, send)

    payment = Payer().pay((await call(http2, "POST", "/sized", body=b"one")).required)
    assert (await call(http2, "POST", "/sized", body=b"one", headers=[payment])).status == 200
    assert (await call(http2, "POST", "/sized", body=b"two2", headers=[payment])).status == 409


@pytest.mark.parametrize("length", ["", "10"], ids=["of unknown length", "cut short"])
def test_a_wsgi_body_that_cannot_be_read_whole_is_not_sold(tmp_path: Path, length: str) -> None:
    seen: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b""]

    price = {"price": lambda request: "$1" if request.body else None, "price_reads_body": True}
    paywall = Paywall({"POST /sized": price}, ledger=f"sqlite:///{tmp_path}/book.db", background=False)
    wrapped = paywall.wsgi(app)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/sized",
        "HTTP_HOST": "seller.test",
        "CONTENT_LENGTH": length,
        "wsgi.input": io.BytesIO(b"content"),
        "wsgi.url_scheme": "http",
    }
    status: list[str] = []
    list(wrapped(environ, lambda line, *_: status.append(line)))
    wrapped.stop()
    if length:
        assert (status[0][:3], seen) == ("400", [])
    else:
        assert (status[0][:3], seen) == ("200", [b""])


@pytest.mark.parametrize(("length", "most"), [("", 11), ("1000", 0)], ids=["of unknown length", "of known length"])
def test_a_wsgi_body_beyond_the_limit_is_refused_and_not_read(tmp_path: Path, length: str, most: int) -> None:
    price = {"price": "$1", "bind_body": True, "max_body": 10}
    paywall = Paywall({"POST /sized": price}, ledger=f"sqlite:///{tmp_path}/book.db", background=False)
    wrapped = paywall.wsgi(careless_wsgi)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/sized",
        "HTTP_HOST": "seller.test",
        "CONTENT_LENGTH": length,
        "wsgi.input": io.BytesIO(b"x" * 1_000),
        "wsgi.input_terminated": True,
        "wsgi.url_scheme": "http",
    }
    status: list[str] = []
    list(wrapped(environ, lambda line, *_: status.append(line)))
    wrapped.stop()
    assert status[0][:3] == "413"
    assert environ["wsgi.input"].tell() <= most


# -- endpoints with prices of their own -------------------------------------------------------------------------------


async def test_a_price_that_is_free_does_not_stand_for_one_that_is_not(shop: Open) -> None:
    paywall = shop()
    app = fastapi.FastAPI(dependencies=[Price(paywall, lambda request: None, name="every endpoint")])

    @app.get("/resource", dependencies=[Price(paywall, "$1", name="GET /resource")])
    async def resource() -> str:
        return CONTENT.decode()

    site = paywall.asgi(app)
    asked = await call(site, "GET", "/resource")
    assert asked.status == 402
    junk = await call(site, "GET", "/resource", headers=[Payer().pay(asked.required, value=1)])
    assert (junk.status, CONTENT in junk.body) == (402, False)
    paid = await call(site, "GET", "/resource", headers=[Payer().pay(asked.required)])
    assert (paid.status, CONTENT in paid.body) == (200, True)


async def test_one_payment_does_not_stand_for_two_prices(shop: Open) -> None:
    paywall = shop()
    app = fastapi.FastAPI(dependencies=[Price(paywall, "$0.001", name="every endpoint")])

    @app.get("/resource", dependencies=[Price(paywall, "$1", name="GET /resource")])
    async def resource() -> str:
        return CONTENT.decode()

    site = paywall.asgi(app)
    payment = Payer().pay((await call(site, "GET", "/resource")).required)
    with pytest.raises(ConfigurationError, match="two prices"):
        await call(site, "GET", "/resource", headers=[payment])
    (record,) = [record async for record in paywall.ledger.records()]
    assert record.status != "success"


def test_one_payment_does_not_stand_for_two_prices_in_flask(tmp_path: Path) -> None:
    paywall = Paywall(
        ledger=f"sqlite:///{tmp_path}/book.db",
        rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
        background=False,
    )
    app = flask.Flask("shop")

    def resource() -> str:
        return CONTENT.decode()

    dear = flask_priced(paywall, "$1", name="dear")(resource)
    free = flask_priced(paywall, lambda request: None, name="free")
    app.add_url_rule("/twice", "twice", flask_priced(paywall, "$0.001", name="cheap")(dear))
    app.add_url_rule("/once", "once", free(dear))
    site = paywall.wsgi(app.wsgi_app)
    payment = Payer().pay(wsgi_call(site, "GET", "/twice").required)
    twice = wsgi_call(site, "GET", "/twice", headers=[payment])
    junk = Payer().pay(wsgi_call(site, "GET", "/once").required, value=1)
    once = wsgi_call(site, "GET", "/once", headers=[junk])
    site.stop()
    assert (twice.status, CONTENT in twice.body) == (500, False)
    assert (once.status, CONTENT in once.body) == (402, False)


async def slow_in_task(request: Request) -> Response:
    await asyncio.sleep(30)
    return PlainTextResponse(CONTENT)


async def test_an_endpoint_with_its_own_price_is_given_up_when_it_takes_too_long(shop: Open) -> None:
    paywall = shop()
    endpoint: Callable[..., Awaitable[Response]] = starlette_priced(paywall, "$0.001", timeout_s=0.1)(slow_in_task)
    app = paywall.asgi(Starlette(routes=[Route("/slow", endpoint)]))
    payment = Payer().pay((await call(app, "GET", "/slow")).required)
    answer = await call(app, "GET", "/slow", headers=[payment])
    assert (answer.status, answer.json["code"], answer.json["moneyMoved"]) == (504, "handler_timeout", "no")
    (charge,) = [c async for c in _charges(paywall)]
    assert charge == "failure"


async def _charges(paywall: Paywall) -> Any:
    async for record in paywall.ledger.records():
        yield record.status


# -- time -------------------------------------------------------------------------------------------------------------


async def test_in_deferred_mode_nothing_is_delivered_that_cannot_be_settled_any_more(shop: Open) -> None:
    async def slow(request: Request) -> Response:
        paywall.clock = ManualClock(paywall.clock.now_ms() + 6_000)
        return PlainTextResponse(CONTENT)

    paywall = shop({"GET /slow": {"price": "$0.001", "settle": "deferred"}})
    app = paywall.asgi(Starlette(routes=[Route("/slow", slow)]))
    asked = await call(app, "GET", "/slow")
    payment = Payer().pay(asked.required, valid_before=paywall.clock.now_ms() // 1000 + 8)
    answer = await call(app, "GET", "/slow", headers=[payment])
    assert (answer.status, answer.json["code"], answer.json["moneyMoved"]) == (402, "authorization_expired", "no")
    assert CONTENT not in answer.body
    assert [status async for status in _charges(paywall)] == ["failure"]
