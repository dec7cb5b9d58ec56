"""Prices and quotes that depend on the request's body: the 402 reads it, the payment is bound to it, the handler gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.kit.call import call
from tests.kit.payer import Payer

from micropaywall import Paywall
from micropaywall.core.model import Request

pytestmark = pytest.mark.anyio


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


def by_length(request: Request) -> str | None:
    assert request.body is not None
    return f"${len(request.body)}.00" if request.body else None


@pytest.fixture
def paywall(tmp_path: Path) -> Paywall:
    return Paywall(
        {
            "POST /length": {"price": by_length, "price_reads_body": True, "max_body": 100},
            "POST /bound": {"price": "$1", "bind_body": True, "binding": "required"},
        },
        ledger=f"sqlite:///{tmp_path}/book.db",
        background=False,
    )


async def test_a_price_that_depends_on_the_body_is_quoted_and_paid(paywall: Paywall) -> None:
    app = paywall.asgi(echo)
    unpaid = await call(app, "POST", "/length", body=b"abc")
    assert (unpaid.status, unpaid.required["accepts"][0]["amount"]) == (402, "3000000")
    paid = await call(app, "POST", "/length", body=b"abc", headers=[Payer().pay(unpaid.required)])
    assert (paid.status, paid.body) == (200, b"abc")
    await paywall.stop()


async def test_a_body_that_is_free_reaches_the_application_whole(paywall: Paywall) -> None:
    free = await call(paywall.asgi(echo), "POST", "/length")
    assert (free.status, free.body) == (200, b"")
    await paywall.stop()


async def test_a_body_beyond_the_routes_limit_is_refused_before_it_is_priced(paywall: Paywall) -> None:
    refused = await call(paywall.asgi(echo), "POST", "/length", body=b"x" * 101)
    assert (refused.status, refused.json["code"]) == (413, "request_body_too_large")
    await paywall.stop()


async def test_a_bound_body_is_in_the_quote(paywall: Paywall) -> None:
    app = paywall.asgi(echo)
    unpaid = await call(app, "POST", "/bound", body=b"abc")
    payment = Payer().pay(unpaid.required)
    other = await call(app, "POST", "/bound", body=b"abd", headers=[payment])
    assert (other.status, other.json["code"]) == (402, "quote_invalid")
    same = await call(app, "POST", "/bound", body=b"abc", headers=[payment])
    assert (same.status, same.body) == (200, b"abc")
    await paywall.stop()


def test_wsgi_reads_the_body_for_the_price_too(paywall: Paywall) -> None:
    import io

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    wrapped = paywall.wsgi(app)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/length",
        "HTTP_HOST": "seller.test",
        "CONTENT_LENGTH": "3",
        "wsgi.input": io.BytesIO(b"abc"),
        "wsgi.url_scheme": "http",
    }
    seen: dict[str, str] = {}

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        seen.update({name.lower(): value for name, value in headers}, status=status)

    body = b"".join(wrapped(environ, start_response))
    wrapped.stop()
    assert seen["status"].startswith("402")
    assert b'"amount":3,' in body
