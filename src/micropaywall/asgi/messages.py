"""ASGI's own words, and the few things that the middleware and an exchange both do with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from micropaywall.core.model import Request, StoredResponse
from micropaywall.seller.paywall import Paywall

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def request_of(paywall: Paywall, scope: Scope) -> Request:
    """The Request of an ASGI scope, body unread."""
    headers = scope["headers"]
    target = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    if scope["query_string"]:
        target = f"{target}?{scope['query_string'].decode('latin-1')}"
    if paywall.public_url:
        url = paywall.public_url + target
    else:
        host = ""
        for name, value in headers:
            if name == b"host" and not host:
                host = value.decode("latin-1")
        url = f"{scope.get('scheme', 'http')}://{host}{target}"
    client = scope.get("client")
    address = client[0] if client else ""
    framed = scope.get("http_version", "1.1").startswith("1")
    return Request(scope["method"], target.encode("latin-1"), scope["path"], url, headers, address, framed=framed)


async def send_response(send: Send, response: StoredResponse, method: str) -> None:
    """Send a whole response; without its body to a HEAD request."""
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})
