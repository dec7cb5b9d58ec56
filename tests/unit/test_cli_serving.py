"""Telling ASGI from WSGI, and carrying WSGI over ASGI."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from tests.kit.call import call

from micropaywall import Paywall
from micropaywall.cli.serve import is_loopback
from micropaywall.cli.serving.application import kind_of, load_object
from micropaywall.cli.serving.bridge import WsgiBridge
from micropaywall.cli.serving.sample import price_of_words, sample_app
from micropaywall.core.model import Request
from micropaywall.errors import ConfigurationError

pytestmark = pytest.mark.anyio


async def asgi_function(scope: Any, receive: Any, send: Any) -> None: ...
def wsgi_function(environ: Any, start_response: Any) -> list[bytes]: ...  # type: ignore[empty-body]


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        (asgi_function, "asgi"),
        (AsgiObject(), "asgi"),
        (FastAPI(), "asgi"),
        (Starlette(), "asgi"),
        (object.__new__(ASGIHandler), "asgi"),
        (Paywall().asgi(asgi_function), "asgi"),
        (wsgi_function, "wsgi"),
        (WsgiObject(), "wsgi"),
        (Flask("x"), "wsgi"),
        (object.__new__(WSGIHandler), "wsgi"),
        (Paywall().wsgi(wsgi_function), "wsgi"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_asgi_is_told_from_wsgi(app: Any, kind: str) -> None:
    assert kind_of(app, "x:app") == kind


@pytest.mark.parametrize("thing", [42, lambda: None, lambda one: None])
def test_what_is_no_application_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigurationError):
        kind_of(thing, "x:app")


def test_an_error_inside_the_module_comes_out_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_shop.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load_object("broken_shop:app")


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("LOCALHOST", True)]
)
def test_loopback_is_known(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com"])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


# -- WSGI over ASGI ---------------------------------------------------------------------------------------------------


async def test_a_wsgi_application_gets_what_pep_3333_says() -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ, body=environ["wsgi.input"].read())
        start_response("201 Created", [("X-A", "1"), ("X-A", "2")])
        return [b"one", b"two"]

    headers = [
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"x-y", b"good"),
        (b"x_y", b"smuggled"),
        (b"content-type", b"text/x"),
    ]
    response = await call(WsgiBridge(app), "POST", "/caf%C3%A9?q=1", headers=headers, body=b"hello")
    assert (response.status, response.body) == (201, b"onetwo")
    assert response.headers == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert (seen["REQUEST_METHOD"], seen["QUERY_STRING"], seen["body"]) == ("POST", "q=1", b"hello")
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/café"
    assert (seen["HTTP_COOKIE"], seen["CONTENT_TYPE"], seen["CONTENT_LENGTH"]) == ("a=1; b=2", "text/x", "5")
    assert seen["HTTP_X_Y"] == "good", "a name with an underscore cannot pose as another header"


async def test_a_wsgi_response_passes_on_as_it_is_made_and_is_closed() -> None:
    closed: list[bool] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            yield from (b"a", b"", b"b")

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Any) -> Chunks:
        start_response("200 OK", [])
        return Chunks()

    response = await call(WsgiBridge(app), "GET", "/")
    assert [piece for piece in response.pieces if piece] == [b"a", b"b"]
    assert closed == [True]


async def test_an_error_page_may_replace_a_response_that_has_not_begun() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"sorry"]

    response = await call(WsgiBridge(app), "GET", "/")
    assert (response.status, response.body) == (500, b"sorry")


async def test_an_application_without_a_status_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="start_response"):
        await call(WsgiBridge(lambda environ, start_response: [b"x"]), "GET", "/")


async def test_slow_wsgi_requests_do_not_wait_for_each_other() -> None:
    import threading

    together = threading.Barrier(5, timeout=10)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        together.wait()
        start_response("200 OK", [])
        return []

    bridge = WsgiBridge(app)
    answers = await asyncio.gather(*(call(bridge, "GET", "/") for _ in range(5)))
    assert [answer.status for answer in answers] == [200] * 5


# -- the sample -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "price"), [(0, "$0.001"), (1, "$0.001"), (1_000, "$0.001"), (1_001, "$0.002"), (65_536, "$0.066")]
)
def test_the_sample_price_grows_with_the_text(size: int, price: str) -> None:
    request = Request("POST", b"/api/words", "/api/words", "http://x/api/words", (), body=b"x" * size)
    assert price_of_words(request) == price


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 200), ("GET", "/health", 200), ("HEAD", "/", 200), ("GET", "/x", 404)]
)
async def test_the_sample_resources_answer(method: str, path: str, status: int) -> None:
    assert (await call(sample_app, method, path)).status == status
