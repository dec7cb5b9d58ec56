"""The sample seller of ``serve --sandbox``: a few resources that show what can be sold, as a plain ASGI application.

GET  /              a welcome
GET  /api/resource  a JSON document that says who paid for it
POST /api/words     counts the words of a text; the price depends on its length
GET  /api/stream    a stream of server-sent events
GET  /health        free
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from micropaywall.core.model import Request
from micropaywall.money import format_decimal, parse_price

__all__ = ["SAMPLE_ROUTES", "sample_app"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_PRICE_STEP_BYTES: Final = 1_000
_BODY_BYTES_MAX: Final = 65_536
_EVENTS: Final = 5
_EVENT_INTERVAL_S: Final = 0.2


def price_of_words(request: Request) -> str:
    """A tenth of a cent for each 1,000 bytes of text begun."""
    steps = max(1, -(-len(request.body or b"") // _PRICE_STEP_BYTES))
    return f"${format_decimal(parse_price('$0.001').value * steps)}"


SAMPLE_ROUTES: Final[Mapping[str, Mapping[str, object]]] = {
    "GET /": {"price": "$0.001", "description": "A welcome", "mime_type": "application/json"},
    "GET /api/resource": {
        "price": "$0.001",
        "description": "A JSON document that says who paid for it",
        "mime_type": "application/json",
    },
    "POST /api/words": {
        "price": price_of_words,
        "price_reads_body": True,
        "bind_body": True,
        "max_body": _BODY_BYTES_MAX,
        "description": "The number of words in a text; $0.001 for each 1,000 bytes begun",
        "mime_type": "application/json",
    },
    "GET /api/stream": {
        "price": "$0.002",
        "description": f"{_EVENTS} server-sent events, one every {_EVENT_INTERVAL_S:g} seconds",
        "mime_type": "text/event-stream",
    },
}


async def sample_app(scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
    """The resources themselves. They know nothing of payment, except that the paywall tells them who paid."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if scope["type"] != "http":
        return
    method, path = scope["method"], scope["path"].rstrip("/") or "/"
    if method == "HEAD":
        method = "GET"
    if (method, path) == ("GET", "/"):
        await _json(send, {"message": "You paid for this. Welcome.", "resources": list(SAMPLE_ROUTES)})
    elif (method, path) == ("GET", "/api/resource"):
        await _json(send, {"resource": "the answer", "value": 42, "payment": scope.get("micropaywall.payment") or None})
    elif (method, path) == ("POST", "/api/words"):
        text = (await _body(receive)).decode("utf-8", "replace")
        await _json(send, {"words": len(text.split()), "characters": len(text)})
    elif (method, path) == ("GET", "/api/stream"):
        await _events(send)
    elif (method, path) == ("GET", "/health"):
        await _json(send, {"status": "ok"})
    else:
        await _json(send, {"error": "there is nothing here", "resources": [*SAMPLE_ROUTES, "GET /health"]}, status=404)


async def _json(send: _Send, value: object, *, status: int = 200) -> None:
    body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _events(send: _Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(1, _EVENTS + 1):
        if number > 1:
            await asyncio.sleep(_EVENT_INTERVAL_S)
        event = f'id: {number}\ndata: {{"event": {number}, "of": {_EVENTS}}}\n\n'
        await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _body(receive: _Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    return body


async def _lifespan(receive: _Receive, send: _Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
