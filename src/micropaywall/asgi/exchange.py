"""One request that pays, and the flow that serves it, driven over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from micropaywall import limits
from micropaywall.asgi.messages import ASGIApp, Message, Receive, Scope, Send, request_of, send_response
from micropaywall.core import effects
from micropaywall.core.challenge import paid_headers, problem_response
from micropaywall.core.model import Dialect, Receipt, Request, StoredResponse
from micropaywall.core.paywall import serve
from micropaywall.core.routes import Route, two_prices
from micropaywall.errors import MicropaywallError, RequestBodyTooLarge, RequestRefused
from micropaywall.ids import RowId
from micropaywall.proto import x402
from micropaywall.seller.holding import Held, Kept, body_too_large, streams
from micropaywall.seller.paywall import Paywall

SESSION: Final = "micropaywall.exchange"
"""Scope key under which an endpoint that is priced by itself finds its exchange."""
PAYMENT: Final = "micropaywall.payment"
"""Scope key of what is known of the payment while the application runs: see `core.effects.RunHandler`."""
CREDENTIALS: Final = x402.CREDENTIAL_HEADERS
_HELD_BACK: Final = (
    "http.response.pathsend",
    "http.response.zerocopysend",
    "http.response.trailers",
    "http.response.push",
)


class _Timer:
    """`asyncio.timeout` reduced to what is needed here, at a fifth of its cost: one deadline for a task (default: this one)."""

    __slots__ = ("_handle", "_task", "fired")

    def __init__(self, timeout_s: float, task: asyncio.Task[Any] | None = None) -> None:
        loop = asyncio.get_running_loop()
        task = task or asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("an exchange runs in a task")
        self._task = task
        self.fired = False
        self._handle = loop.call_later(timeout_s, self._fire)

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
        "_dialect",
        "_drained",
        "_effect",
        "_finished",
        "_flow",
        "_held",
        "_kept",
        "_left",
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
        "_task",
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
        self._held: Held | None = None
        self._kept: Kept | None = None
        self._dialect: Dialect = "x402/2"
        self._producing = True
        self._streaming = False
        self._finished = False
        self._bound = False
        self._charge_id: RowId | None = None
        self._override: StoredResponse | None = None
        self._body: list[bytes] | None = None
        self._drained = False
        self._replay = False
        self._left = False
        self._task: asyncio.Task[Any] | None = None
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
            await send_response(self._send, answer, self._scope["method"])

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
        self._task = asyncio.current_task()
        self._scope[SESSION] = self
        self._scope["extensions"] = without_shortcuts(self._scope)
        await self._run_app()

    async def enter(self, route: Route) -> bool:
        """Called by a priced endpoint before it runs: True when it may run, False when the answer is decided already.

        The refusal replaces whatever the endpoint's framework answers, so that nothing is served by mistake.
        """
        if self._override is not None:
            return False
        if self._flow is not None and route is self._route:
            return True  # this very price was asked already
        if self._charge_id is not None:
            raise two_prices(route)
        self._flow = None  # free so far
        await self._paywall.start()
        try:
            if not any(name in CREDENTIALS for name, _ in self._scope["headers"]):
                self._override = await self._unpaid(route)
                return self._override is None
            await self._begin(route)
        except _ClientGone:
            self._override = problem_response(RequestRefused("the request was not complete"))
        if isinstance(self._effect, effects.RunHandler):
            self._scope[PAYMENT] = self._effect.facts
            # The endpoint may be in a task or a thread of its framework's: what is cancelled is the whole exchange.
            self._timer = _Timer(self._effect.timeout_s, self._task)
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
        self._dialect = credential.dialect
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
                scope["extensions"] = without_shortcuts(scope)
                scope[PAYMENT] = effect.facts
                self._timer = _Timer(effect.timeout_s)
                await self._app(scope, self._receiving, self._sending)
        except asyncio.CancelledError as error:
            expired = self._timer is not None and self._timer.caught()
            if expired:
                await self._advance(None, TimeoutError())
                return
            if self._waiting():
                self._paywall.keep(asyncio.ensure_future(self._break_off(error)))
            raise
        except Exception as error:  # whatever the application raised: nobody is charged, and its server gets to see it
            if self._waiting():
                own = isinstance(error, TimeoutError)
                await self._break_off(RuntimeError("the application timed out by itself") if own else error)
            raise
        else:
            if self._waiting():
                silent = RuntimeError("the application returned without an answer")
                await self._break_off(silent)
                if not self._left:
                    raise silent
        finally:
            self._stop_timing()
            if self._held is not None:
                self._held.close()
            if self._override is not None and not self._finished:
                self._finished = True
                await send_response(self._send, self._override, self._scope["method"])

    async def _break_off(self, error: BaseException) -> None:
        """The application has ended without the end of its answer.

        A stream that its buyer left in the middle was delivered as far as the buyer wanted it: else leaving just before the
        end would be a way to be given the money back. A stream that the application broke off was not delivered.
        """
        if self._left:
            await self._advance(None)
        else:
            await self._advance(None, error)

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
                    if kind in paywall.at_once:
                        value = paywall.at_once[kind]()
                    elif kind is effects.ReadBody:
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
        await send_response(self._send, response, self._scope["method"])

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
            self._left = self._streaming
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
            self._body = self._body or []
            size = sum(map(len, self._body))
            while True:
                if size > limit:
                    raise body_too_large(limit)
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
            raise body_too_large(limit)
        return body

    async def _sending(self, message: Message) -> None:
        kind = message["type"]
        if self._finished:
            return
        if self._override is not None:
            if kind == "http.response.body" and not message.get("more_body", False):
                self._finished = True
                await send_response(self._send, self._override, self._scope["method"])
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
        start = self._start
        if start is None:
            raise RuntimeError("the application sent a body before its status")
        body, self._producing = bytes(message.get("body", b"")), message.get("more_body", False)
        held, paywall = self._held, self._paywall
        status, headers = start["status"], _raw(start)
        if held is None:
            if not self._producing and len(body) <= paywall.stored_bytes:
                await self._handled(effects.Handled(status, headers, StoredResponse(status, headers, body)))
                return
            held = self._held = Held(paywall.held_memory_bytes)
        held.add(body)
        if self._producing and not streams(headers) and held.size <= paywall.held_disk_bytes:
            return
        response = None
        if not self._producing and held.size <= paywall.stored_bytes:
            response = StoredResponse(status, headers, b"".join(held.take()))
        await self._handled(effects.Handled(status, headers, response))

    async def _handled(self, handled: effects.Handled) -> None:
        self._stop_timing()
        await self._advance(handled)

    async def _start_stream(self, receipt: Receipt | None) -> None:
        """Let the held part go; the rest follows as the application makes it."""
        start, held = self._start, self._held
        if start is None or held is None:
            raise RuntimeError("a stream has a head and a first piece")
        headers: Sequence[tuple[bytes, bytes]] = _raw(start)
        self._kept = Kept(self._paywall.stored_bytes if receipt is not None else 0)
        if receipt is not None:
            headers = paid_headers(headers, receipt, self._dialect)
        self._streaming = True
        await self._send({"type": "http.response.start", "status": start["status"], "headers": headers})
        for piece in held.take():
            self._kept.add(piece)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        if not self._producing:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # how servers say that nobody is there (ASGI 2.4)
            self._left = True
            raise
        if message["type"] == "http.response.body":
            if self._kept is not None:
                self._kept.add(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                self._producing = False
                if self._effect is not None:
                    await self._advance(self._whole())

    def _whole(self) -> StoredResponse | None:
        if self._kept is None or self._start is None:
            return None
        return self._kept.response(self._start["status"], _raw(self._start))


def _raw(start: Message) -> tuple[tuple[bytes, bytes], ...]:
    """The header lines of a response's start, names lower-cased."""
    return tuple((bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ()))


def without_shortcuts(scope: Scope) -> dict[str, Any]:
    """Server extensions, less those by which a response would pass the paywall unseen."""
    return {name: value for name, value in (scope.get("extensions") or {}).items() if name not in _HELD_BACK}
