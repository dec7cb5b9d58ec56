"""One request to an ASGI application, without a server: the messages as they were sent, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.kit.payer import decode


@dataclass
class Response:
    """What came back; ``headers`` keeps repeated lines, ``pieces`` the body as it was cut."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower().encode()]
        return found[0].decode() if found else None

    @property
    def required(self) -> Any:
        """The decoded PAYMENT-REQUIRED."""
        return decode(self.header("payment-required") or "")

    @property
    def receipt(self) -> Any:
        """The decoded PAYMENT-RESPONSE or X-PAYMENT-RESPONSE, or None."""
        value = self.header("payment-response") or self.header("x-payment-response")
        return decode(value) if value else None


async def call(
    app: Any,
    method: str = "GET",
    target: str = "/",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    root_path: str = "",
    host: bytes = b"seller.test",
    leave_after_request: bool = False,
    pieces: Iterator[bytes] | None = None,
    extensions: dict[str, Any] | None = None,
) -> Response:
    """Send one request and collect the answer; ``leave_after_request``: the client disconnects once it was sent.

    ``pieces`` is a body without a length, sent as it is asked for.
    """
    response = Response()
    path, _, query = target.partition("?")
    lines = [(b"host", host), *headers]
    if pieces is not None:
        lines.append((b"transfer-encoding", b"chunked"))
    if body:
        lines.append((b"content-length", str(len(body)).encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": lines,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
        "extensions": extensions or {},
    }
    sent = False
    gone = asyncio.Event()
    if leave_after_request:
        gone.set()

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if pieces is not None and not sent:
            piece = next(pieces, b"")
            sent = not piece
            return {"type": "http.request", "body": piece, "more_body": bool(piece)}
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            if response.status:
                raise AssertionError("two response starts")
            response.status = message["status"]
            response.headers = [(bytes(n), bytes(v)) for n, v in message.get("headers", ())]
        elif message["type"] == "http.response.body":
            if not response.status or response.complete:
                raise AssertionError("a body before its start or after its end")
            response.pieces.append(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                response.complete = True
                gone.set()

    await app(scope, receive, send)
    return response
