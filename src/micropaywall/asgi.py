"""A paywall around any ASGI application.

A plain class that wraps ``send``: raw header lists, nothing buffered unless it is paid for. Unpriced requests, WebSocket and
lifespan go straight through. A paid response is held until its payment is captured and settled; one that streams, or outgrows
what may be held, is settled before its first byte leaves. Background tasks of the application run after its last byte, as
without us.

    app = Paywall({"GET /api/resource": "$0.001"}, pay_to="0x…").asgi(app)
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import IO, Any, Final
from urllib.parse import quote

from micropaywall import limits
from micropaywall.core import effects
from micropaywall.core.challenge import REQUEST_HEADERS, paid_headers, problem_response
from micropaywall.core.model import Credential, Dialect, Receipt, Request, StoredResponse
from micropaywall.core.paywall import serve
from micropaywall.core.routes import Route
from micropaywall.errors import AmbiguousPath, MicropaywallError, RequestBodyTooLarge, RequestRefused
from micropaywall.ids import RowId
from micropaywall.proto import x402
from micropaywall.seller.paywall import STATUS_PREFIX, Paywall

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SESSION: Final = "micropaywall.exchange"
"""Scope key under which an endpoint that is priced by itself finds its exchange."""
PAYMENT: Final = "micropaywall.payment"
"""Scope key of what is known of the payment while the application runs: see `core.paywall.RunHandler`."""
_CREDENTIALS: Final = x402.CREDENTIAL_HEADERS
_HELD_BACK: Final = (
    "http.response.pathsend",
    "http.response.zerocopysend",
    "http.response.trailers",
    "http.response.push",
)


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
        path: str = scope["path"]
        target: bytes = scope.get("raw_path") or quote(path).encode()
        try:
            route = paywall.table.match(scope["method"], target, path, scope.get("root_path", ""))
        except AmbiguousPath as error:
            await _send_response(send, problem_response(error), scope["method"])
            return
        if route is None:
            if path.startswith(STATUS_PREFIX + "pay_"):
                await self._status(scope, send)
            elif scope["method"] == "OPTIONS" and paywall.table.routes:
                await self.app(scope, receive, _preflight(send))
            elif paywall.bound:
                exchange = Exchange(self.app, paywall, scope, receive, send)
                await exchange.run_unmatched()
            else:
                await self.app(scope, receive, send)
            return
        if not paywall.started:
            await paywall.start()
        for name, _ in scope["headers"]:
            if name in _CREDENTIALS:
                break
        else:
            if route.quotes_body:
                await Exchange(self.app, paywall, scope, receive, send).quote(route)
                return
            answer = await paywall.unpaid(route, request_of(paywall, scope))
            if answer is None:
                await self.app(scope, receive, send)
            else:
                await _send_response(send, answer, scope["method"])
            return
        await Exchange(self.app, paywall, scope, receive, send).run(route)

    async def _status(self, scope: Scope, send: Send) -> None:
        await self.paywall.start()
        answer = await self.paywall.status(request_of(self.paywall, scope))
        await _send_response(send, answer, scope["method"])

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
    return Request(scope["method"], target.encode("latin-1"), scope["path"], url, headers, client[0] if client else "")


async def _send_response(
    send: Send, response: StoredResponse, method: str, headers: Iterable[tuple[bytes, bytes]] | None = None
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": response.headers if headers is None else headers,
        }
    )
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})


def _preflight(send: Send) -> Send:
    """Let a browser send the payment headers that the application's own CORS answer does not know of."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            message["headers"] = [
                (name, value + b", " + REQUEST_HEADERS)
                if name.lower() == b"access-control-allow-headers" and value.strip() != b"*"
                else (name, value)
                for name, value in headers
            ]
        await send(message)

    return sending


class _Timer:
    """`asyncio.timeout` reduced to what is needed here, at a fifth of its cost: one deadline for the current task."""

    __slots__ = ("_handle", "_task", "fired")

    def __init__(self, timeout_s: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an exchange runs in a task")
        self._task = task
        self.fired = False
        self._handle = asyncio.get_running_loop().call_later(timeout_s, self._fire)

    def _fire(self) -> None:
        self.fired = True
        self._task.cancel()

    def stop(self) -> None:
        """No more deadline."""
        self._handle.cancel()

    def caught(self) -> bool:
        """Whether a cancellation that arrived was this deadline alone; takes it back then."""
        return self.fired and self._task.uncancel() <= 0


class _ClientGone(Exception):
    """The buyer left before its request was complete."""


class Exchange:
    """One request that pays (or may be asked to), and the flow that serves it.

    The flow is driven from three places: here, from inside the application's ``send`` (so that the answer leaves before the
    application's background tasks run), and, for endpoints priced by themselves, from `enter`.
    """

    __slots__ = (
        "_app",
        "_body",
        "_bound",
        "_charge_id",
        "_chunks",
        "_drained",
        "_effect",
        "_finished",
        "_flow",
        "_held",
        "_held_bytes",
        "_kept",
        "_kept_bytes",
        "_override",
        "_paywall",
        "_producing",
        "_receive",
        "_replay",
        "_request",
        "_route",
        "_scope",
        "_send",
        "_start",
        "_streaming",
        "_timer",
    )

    def __init__(self, app: ASGIApp, paywall: Paywall, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._paywall = paywall
        self._scope = scope
        self._receive = receive
        self._send = send
        self._flow: effects.Flow | None = None
        self._route: Route | None = None
        self._request: Request | None = None
        self._effect: effects.Effect | None = None
        self._start: Message | None = None
        self._held: IO[bytes] | None = None
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._kept: list[bytes] | None = None
        self._kept_bytes = 0
        self._producing = True
        self._streaming = False
        self._finished = False
        self._bound = False
        self._charge_id: RowId | None = None
        self._override: StoredResponse | None = None
        self._body: list[bytes] | None = None
        self._drained = False
        self._replay = False
        self._timer: _Timer | None = None

    # -- entry points ------------------------------------------------------------------------------------------------

    async def run(self, route: Route) -> None:
        """Serve a request whose route is known from its path and which carries a credential."""
        try:
            await self._begin(route)
        except _ClientGone:
            return
        if not self._finished:
            await self._run_app()

    async def quote(self, route: Route) -> None:
        """Answer a request without a credential when the price, or what the quote binds, is in its body."""
        try:
            answer = await self._unpaid(route)
        except _ClientGone:
            return
        if answer is None:
            await self._app(self._scope, self._receiving, self._send)
        else:
            await _send_response(self._send, answer, self._scope["method"])

    async def _unpaid(self, route: Route) -> StoredResponse | None:
        request = request_of(self._paywall, self._scope)
        if route.quotes_body:
            try:
                request.body = await self._read_body(route.max_body)
            except RequestBodyTooLarge as error:
                return await self._paywall.refused(route, request, error)
        return await self._paywall.unpaid(route, request)

    async def run_unmatched(self) -> None:
        """Run the application; one of its endpoints may call `enter`."""
        self._bound = True
        self._scope[SESSION] = self
        self._scope["extensions"] = _without_shortcuts(self._scope)
        await self._run_app()

    async def enter(self, route: Route) -> bool:
        """Called by a priced endpoint before it runs: True when it may run, False when the answer is decided already.

        The refusal replaces whatever the endpoint's framework answers, so that nothing is served by mistake.
        """
        if self._flow is not None or self._override is not None:
            return self._override is None  # the same request passed a price already
        await self._paywall.start()
        try:
            if not any(name in _CREDENTIALS for name, _ in self._scope["headers"]):
                self._override = await self._unpaid(route)
                return self._override is None
            await self._begin(route)
        except _ClientGone:
            self._override = problem_response(RequestRefused("the request was not complete"))
        if isinstance(self._effect, effects.RunHandler):
            self._scope[PAYMENT] = self._effect.facts
        return self._override is None

    async def _begin(self, route: Route) -> None:
        self._route = route
        self._request = request_of(self._paywall, self._scope)
        try:
            credential = x402.read_credential(self._request.headers)
            if credential is None:  # the caller saw a payment header
                raise LookupError("no credential")
        except MicropaywallError as error:
            await self._finish(await self._paywall.refused(route, self._request, error))
            return
        self._flow = serve(self._paywall, route, self._request, credential)
        await self._advance(None)

    async def _run_app(self) -> None:
        effect, scope = self._effect, self._scope
        try:
            if self._bound:
                await self._app(scope, self._receiving, self._sending)
            else:
                assert isinstance(effect, effects.RunHandler)
                scope = scope.copy()  # type: ignore[attr-defined]
                scope["extensions"] = _without_shortcuts(scope)
                scope[PAYMENT] = effect.facts
                self._timer = _Timer(effect.timeout_s)
                await self._app(scope, self._receiving, self._sending)
        except asyncio.CancelledError as error:
            expired = self._timer is not None and self._timer.caught()
            if expired:
                await self._advance(None, TimeoutError())
                return
            if self._waiting():
                self._paywall.keep(asyncio.ensure_future(self._advance(None, error)))
            raise
        except Exception as error:  # whatever the application raised: nobody is charged, and its server gets to see it
            if self._waiting():
                own = isinstance(error, TimeoutError)
                await self._advance(None, RuntimeError("the application timed out by itself") if own else error)
            raise
        else:
            if self._waiting():
                silent = RuntimeError("the application returned without an answer")
                await self._advance(None, silent)
                raise silent
        finally:
            self._stop_timing()
            if self._held is not None:
                self._held.close()
            if self._override is not None and not self._finished:
                self._finished = True
                await _send_response(self._send, self._override, self._scope["method"])

    def _waiting(self) -> bool:
        """Whether the flow still waits for the application's answer, or for the end of its stream."""
        return self._flow is not None and self._effect is not None

    # -- driving the flow --------------------------------------------------------------------------------------------

    async def _advance(self, value: Any, error: BaseException | None = None) -> None:
        """Perform effects until the application has to run or the answer has left."""
        steps = self._flow
        if steps is None or self._route is None or self._request is None:
            raise RuntimeError("the exchange has not begun")
        paywall = self._paywall
        self._effect = None
        try:
            effect = steps.send(value) if error is None else steps.throw(error)
            while True:
                kind = effect.__class__
                if kind is effects.RunHandler:
                    self._effect = effect
                    self._charge_id = effect.charge_id  # type: ignore[union-attr]
                    if self._charge_id is not None:
                        paywall.working.add(self._charge_id)
                    return
                try:
                    if kind is effects.ReadBody:
                        value = await self._read_body(effect.limit)  # type: ignore[union-attr]
                    elif kind is effects.Stream:
                        await self._start_stream(effect.receipt)  # type: ignore[union-attr]
                        if self._producing:
                            self._effect = effect
                            return  # the charge stays in `working`: a long stream keeps its lease
                        value = self._whole()
                    else:
                        value = await paywall.perform(effect)
                except MicropaywallError as failure:
                    effect = steps.throw(failure)
                else:
                    effect = steps.send(value)
        except StopIteration as done:
            self._rest()
            await self._answer(done.value)
        except MicropaywallError as failure:
            self._rest()
            await self._finish(await paywall.refused(self._route, self._request, failure))
        except BaseException as raised:
            self._rest()
            if raised is not error:
                raise

    def _rest(self) -> None:
        if self._charge_id is not None:
            self._paywall.working.discard(self._charge_id)

    async def _answer(self, answer: effects.Answer) -> None:
        if answer.response is None:
            self._finished = True
            return
        headers = answer.response.headers
        if answer.receipt is not None:
            headers = tuple(paid_headers(headers, answer.receipt, answer.dialect))
        await self._finish(StoredResponse(answer.response.status, headers, answer.response.body))

    async def _finish(self, response: StoredResponse) -> None:
        """Send the decided answer, or, before a framework has answered for its endpoint, keep it to replace that answer."""
        self._stop_timing()
        if self._bound and self._start is None:
            self._override = response
            return
        self._finished = True
        await _send_response(self._send, response, self._scope["method"])

    def _stop_timing(self) -> None:
        """The timeout is for the handler's answer, not for what its application does afterwards."""
        if self._timer is not None:
            self._timer.stop()

    # -- the application's side --------------------------------------------------------------------------------------

    async def _receiving(self) -> Message:
        if self._replay:
            self._replay = False
            return {"type": "http.request", "body": b"".join(self._body or ()), "more_body": False}
        message = await self._receive()
        if message["type"] == "http.request":
            if self._bound and self._flow is None and not self._drained:
                self._remember(message)
        elif self._waiting() and not self._finished:
            # The buyer left. Its response is still made and kept, for a retry with the same payment.
            await asyncio.sleep(limits.DRAIN_AFTER_DISCONNECT_S)
        return message

    def _remember(self, message: Message) -> None:
        """Copy the body as a framework reads it, for endpoints that are priced after their body was read."""
        if self._body is None:
            self._body = []
        if sum(map(len, self._body)) <= limits.REQUEST_BODY_BYTES_MAX:
            self._body.append(message.get("body", b""))
        self._drained = not message.get("more_body", False)

    async def _read_body(self, limit: int) -> bytes:
        if not self._drained:
            if self._body is None and not request_of(self._paywall, self._scope).may_have_body:
                return b""
            self._body = self._body or []
            size = sum(map(len, self._body))
            while True:
                if size > limit:
                    raise _too_large(limit)
                message = await self._receive()
                if message["type"] != "http.request":
                    raise _ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                self._body.append(chunk)
                if not message.get("more_body", False):
                    break
            self._drained = self._replay = True
        body = b"".join(self._body or ())
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def _sending(self, message: Message) -> None:
        kind = message["type"]
        if self._finished:
            return
        if self._override is not None:
            if kind == "http.response.body" and not message.get("more_body", False):
                self._finished = True
                await _send_response(self._send, self._override, self._scope["method"])
            return
        if self._streaming:
            await self._pass_on(message)
        elif not isinstance(self._effect, effects.RunHandler):
            await self._send(message)  # nothing was priced
        elif kind == "http.response.start":
            self._start = message
        elif kind == "http.response.body":
            await self._hold(message)

    async def _hold(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        start = self._start
        if start is None:
            raise RuntimeError("the application sent a body before its status")
        headers = tuple((bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ()))
        self._held_bytes += len(body)
        self._producing = more
        if not more and self._held is None:
            whole = b"".join([*self._chunks, body]) if self._chunks else bytes(body)
            response = (
                StoredResponse(start["status"], headers, whole) if len(whole) <= self._paywall.stored_bytes else None
            )
            if response is None:
                self._chunks.append(bytes(body))
            await self._handled(effects.Handled(start["status"], headers, response))
            return
        self._store(bytes(body))
        if more and not _streams(headers) and self._held_bytes <= self._paywall.held_disk_bytes:
            return
        response = None
        if not more and self._held_bytes <= self._paywall.stored_bytes:
            response = StoredResponse(start["status"], headers, b"".join(self._take_held()))
        await self._handled(effects.Handled(start["status"], headers, response))

    async def _handled(self, handled: effects.Handled) -> None:
        self._stop_timing()
        await self._advance(handled)

    def _store(self, body: bytes) -> None:
        if self._held is None and self._held_bytes <= self._paywall.held_memory_bytes:
            self._chunks.append(body)
            return
        if self._held is None:
            self._held = tempfile.TemporaryFile(prefix="micropaywall-")  # noqa: SIM115 (closed by _run_app)
            self._held.writelines(self._chunks)
            self._chunks.clear()
        self._held.write(body)

    def _take_held(self) -> Iterable[bytes]:
        yield from self._chunks
        self._chunks = []
        if self._held is not None:
            with self._held:
                self._held.seek(0)
                while piece := self._held.read(262_144):
                    yield piece
            self._held = None

    async def _start_stream(self, receipt: Receipt | None) -> None:
        """Let the held part go; the rest follows as the application makes it."""
        start, dialect = self._start, self._dialect()
        assert start is not None
        headers = [(bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ())]
        if receipt is not None:
            headers = paid_headers(headers, receipt, dialect)
            self._kept = []
        self._streaming = True
        await self._send({"type": "http.response.start", "status": start["status"], "headers": headers})
        for piece in self._take_held():
            self._keep(piece)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        if not self._producing:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._keep(message.get("body", b""))
            if not message.get("more_body", False):
                await self._send(message)
                self._producing = False
                if self._effect is not None:
                    await self._advance(self._whole())
                return
        await self._send(message)

    def _keep(self, piece: bytes) -> None:
        if self._kept is not None:
            self._kept.append(bytes(piece))
            self._kept_bytes += len(piece)
            if self._kept_bytes > self._paywall.stored_bytes:
                self._kept = None

    def _whole(self) -> StoredResponse | None:
        if self._kept is None or self._start is None:
            return None
        headers = tuple((bytes(name).lower(), bytes(value)) for name, value in self._start.get("headers", ()))
        return StoredResponse(self._start["status"], headers, b"".join(self._kept))

    def _dialect(self) -> Dialect:
        assert self._request is not None
        credential: Credential | None = x402.read_credential(self._request.headers)
        return credential.dialect if credential is not None else "x402/2"


def _streams(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response in several pieces is meant to be seen as it comes: events, or no length given."""
    length = False
    for name, value in headers:
        if name == b"content-type" and value.lower().startswith(b"text/event-stream"):
            return True
        length = length or name == b"content-length"
    return not length


def _without_shortcuts(scope: Scope) -> dict[str, Any]:
    """Server extensions, less those by which a response would pass the paywall unseen."""
    return {name: value for name, value in (scope.get("extensions") or {}).items() if name not in _HELD_BACK}


def _too_large(limit: int) -> RequestBodyTooLarge:
    return RequestBodyTooLarge(
        "the request body is larger than this priced route reads",
        expected=f"at most {limit} bytes",
        received=f"over {limit} bytes",
    )
