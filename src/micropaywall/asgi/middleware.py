"""The middleware: which requests are priced, and what those without a credential are told."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from micropaywall.asgi.exchange import CREDENTIALS, Exchange, without_shortcuts
from micropaywall.asgi.messages import ASGIApp, Message, Receive, Scope, Send, request_of, send_response
from micropaywall.core.challenge import REQUEST_HEADERS, problem_response
from micropaywall.errors import AmbiguousPath
from micropaywall.seller.paywall import STATUS_PREFIX, Paywall

_STATUS: Final = STATUS_PREFIX + "pay_"


class PaywallMiddleware:
    """``app`` with ``paywall`` in front. One instance per application; safe for any number of concurrent requests."""

    def __init__(self, app: ASGIApp, paywall: Paywall) -> None:
        self.app = app
        self.paywall = paywall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                await self._lifespan(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        paywall = self.paywall
        method: str = scope["method"]
        path: str = scope["path"]
        target: bytes = scope.get("raw_path") or quote(path).encode()
        try:
            route = paywall.table.match(method, target, path, scope.get("root_path", ""))
        except AmbiguousPath as error:
            await send_response(send, problem_response(error), scope["method"])
            return
        if route is None:
            if path.startswith(_STATUS):
                await self._status(scope, send)
            elif method != "GET" and method.upper() == "OPTIONS" and paywall.table.routes:
                priced = paywall.table.priced_path(target, path, scope.get("root_path", ""))
                if priced:
                    scope = {**scope, "extensions": without_shortcuts(scope)}
                await self.app(scope, receive, _preflight(send, bodiless=priced))
            elif paywall.bound:
                exchange = Exchange(self.app, paywall, scope, receive, send)
                await exchange.run_unmatched()
            else:
                await self.app(scope, receive, send)
            return
        if not paywall.started:
            await paywall.start()
        for name, _ in scope["headers"]:
            if name in CREDENTIALS:
                break
        else:
            if route.quotes_body:
                await Exchange(self.app, paywall, scope, receive, send).quote(route)
                return
            answer = await paywall.unpaid(route, request_of(paywall, scope))
            if answer is None:
                await self.app(scope, receive, send)
            else:
                await send_response(send, answer, scope["method"])
            return
        await Exchange(self.app, paywall, scope, receive, send).run(route)

    async def _status(self, scope: Scope, send: Send) -> None:
        await self.paywall.start()
        answer = await self.paywall.status(request_of(self.paywall, scope))
        await send_response(send, answer, scope["method"])

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's lifespan, with the paywall started before it is told to and stopped after it stopped."""

        async def starting() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.paywall.start()
            return message

        async def stopping(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.paywall.stop()
            await send(message)

        await self.app(scope, starting, stopping)


def _preflight(send: Send, *, bodiless: bool) -> Send:
    """Let a browser send the payment headers that the application's own CORS answer does not know of.

    ``bodiless``: the path is priced, and an application that takes OPTIONS for GET must not give its content away.
    """

    async def sending(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            message["headers"] = [
                (name, value + b", " + REQUEST_HEADERS)
                if name.lower() == b"access-control-allow-headers" and value.strip() != b"*"
                else (name, value)
                for name, value in headers
                if not (bodiless and name.lower() == b"content-length")
            ]
        elif bodiless and kind == "http.response.body":
            message = {"type": kind, "body": b"", "more_body": message.get("more_body", False)}
        await send(message)

    return sending
