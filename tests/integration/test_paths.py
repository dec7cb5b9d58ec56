"""No way of writing a path gets priced content for free, whichever framework routes it.

Each framework serves the same priced endpoint, behind the middleware (by path) and by decorator or dependency (by endpoint).
Whatever the target, the body of an answer to an unpaid request never holds the content.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import django
import fastapi
import flask
import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.kit.call import Response, call
from tests.kit.payer import Payer
from tests.kit.wsgi import wsgi_call

from micropaywall import Paywall
from micropaywall.contrib.fastapi import Price
from micropaywall.contrib.flask import priced as flask_priced
from micropaywall.contrib.starlette import priced as starlette_priced

pytestmark = pytest.mark.anyio
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CONTENT = "the priced content"
PATH = "/api/resource"
Bound = Paywall | None

if not settings.configured:
    settings.configure(
        ROOT_URLCONF="tests.integration.test_paths", ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", MIDDLEWARE=[]
    )
    django.setup()


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(CONTENT)


async def view_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(CONTENT)


urlpatterns = [re_path(r"^api/resource/?$", view), re_path(r"^async/resource/?$", view_async)]


async def content(request: Request) -> PlainTextResponse:
    return PlainTextResponse(CONTENT)


def content_in_thread(request: Request) -> PlainTextResponse:
    return PlainTextResponse(CONTENT)


def starlette_app(bound: Bound) -> Any:
    endpoint = starlette_priced(bound, "$0.001")(content) if bound else content
    return Starlette(routes=[Route(PATH, endpoint), Mount("/mounted", Starlette(routes=[Route(PATH, endpoint)]))])


def starlette_thread_app(bound: Bound) -> Any:
    return Starlette(routes=[Route(PATH, starlette_priced(bound, "$0.001")(content_in_thread) if bound else content)])


def fastapi_app(bound: Bound) -> Any:
    app = fastapi.FastAPI()
    dependencies = [Price(bound, "$0.001", name="GET /api/resource")] if bound else []

    @app.get(PATH, dependencies=dependencies)
    async def resource() -> str:
        return CONTENT

    app.mount("/mounted", app)
    return app


def flask_app(bound: Bound) -> Any:
    app = flask.Flask("shop")

    def resource() -> str:
        return CONTENT

    app.add_url_rule(PATH, view_func=flask_priced(bound, "$0.001")(resource) if bound else resource)
    return app.wsgi_app


def django_asgi(bound: Bound) -> Any:
    return ASGIHandler()


def django_wsgi(bound: Bound) -> Any:
    return WSGIHandler()


APPS: dict[str, tuple[Callable[[Bound], Any], bool]] = {
    "starlette": (starlette_app, True),
    "starlette-thread": (starlette_thread_app, True),
    "fastapi": (fastapi_app, True),
    "flask": (flask_app, False),
    "django-asgi": (django_asgi, True),
    "django-wsgi": (django_wsgi, False),
}
BINDABLE = ["starlette", "starlette-thread", "fastapi", "flask"]

Ask = Callable[..., Any]


class Front:
    """One framework behind one paywall, asked in the same way whatever its interface."""

    def __init__(self, name: str, paywall: Paywall, *, bound: bool) -> None:
        make, self.is_asgi = APPS[name]
        app = make(paywall if bound else None)
        self.app: Any = paywall.asgi(app) if self.is_asgi else paywall.wsgi(app)

    async def ask(self, target: str, method: str = "GET", **more: Any) -> Response:
        if self.is_asgi:
            return await call(self.app, method, target, **more)
        return await anyio.to_thread.run_sync(lambda: wsgi_call(self.app, method, target, **more))

    async def close(self, paywall: Paywall) -> None:
        if self.is_asgi:
            await paywall.stop()
        else:
            await anyio.to_thread.run_sync(self.app.stop)


@pytest.fixture(params=[*((name, False) for name in APPS), *((name, True) for name in BINDABLE)], ids=str)
async def front(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Front]:
    name, bound = request.param
    routes = {} if bound else {PATH: "$0.001", f"/mounted{PATH}": "$0.001"}
    paywall = Paywall(
        routes,
        pay_to=PAYEE,
        ledger=f"sqlite:///{tmp_path / 'ledger.db'}",
        rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
        background=False,
    )
    front = Front(name, paywall, bound=bound)
    yield front
    await front.close(paywall)


TWISTED = [
    PATH,
    PATH + "/",
    "/api%2Fresource",
    "/api%2fresource",
    "//api/resource",
    "/api//resource",
    "/api/./resource",
    "/x/../api/resource",
    "/api/resource;x=1",
    "/api/resource%3Bx",
    "/api/resource%00",
    "/api/resource%20",
    "/api/resource%0a",
    "/%61pi/resource",
    "/api%5Cresource",
    "/api%252Fresource",
    "/mounted/api/resource",
    "/mounted//api/resource",
    "/mounted%2Fapi%2Fresource",
    "http://seller.test/api/resource",
    "/api/resource?x=1",
    "/API/RESOURCE",
]


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
async def test_no_target_gets_the_content_unpaid(front: Front) -> None:
    for target in TWISTED:
        for method in ("GET", "HEAD", "POST", "get"):
            answer = await front.ask(target, method)
            assert CONTENT.encode() not in answer.body, (method, target)
            if method == "HEAD":
                assert answer.status != 200, target


async def test_a_payment_opens_the_same_endpoint(front: Front) -> None:
    quoted = await front.ask(PATH)
    assert quoted.status == 402
    answer = await front.ask(PATH, headers=[Payer().pay(quoted.required)])
    assert answer.status == 200, answer.body
    assert CONTENT.encode() in answer.body
    assert answer.receipt["success"] is True
    assert answer.header("cache-control") == "private, no-store"


async def test_a_refused_payment_gets_the_reason_and_no_content(front: Front) -> None:
    quoted = await front.ask(PATH)
    answer = await front.ask(PATH, headers=[Payer().pay(quoted.required, value=1)])
    assert (answer.status, answer.json["code"]) == (402, "offer_mismatch")


async def test_options_is_never_charged(front: Front) -> None:
    assert (await front.ask(PATH, "OPTIONS")).status != 402


@given(
    st.lists(st.sampled_from(["/", "//", "/./", "%2F", "%2f", ";", "%3B", "\\", "%5C", "%00", "..", "x"]), max_size=3),
    st.sampled_from(["api", "%61pi", "ap%69"]),
    st.sampled_from(["/", "//", "%2F", "/./", "\\", "/x/../"]),
    st.sampled_from(["resource", "resource/", "resource;", "%72esource", "resource%20", "resource."]),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_composed_target_gets_the_content_unpaid(front: Front, a: list[str], b: str, c: str, d: str) -> None:
    answer = await front.ask("/" + "".join(a) + b + c + d)
    assert CONTENT.encode() not in answer.body


async def test_a_priced_endpoint_without_its_paywall_serves_nothing(tmp_path: Path) -> None:
    paywall = Paywall(pay_to=PAYEE, rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}})
    with pytest.raises(Exception, match="without its paywall"):
        await call(starlette_app(paywall), "GET", PATH)
