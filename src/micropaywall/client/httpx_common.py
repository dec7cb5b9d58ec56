"""The buyer's flow over clients of httpx's kind (httpx, httpx2), blocking and asynchronous.

A paying client is a subclass of the client that one knows, so that every setting of it (timeouts, proxies, HTTP/2,
certificates, transports, hooks, authentication) stays what it was; only `send` is another. Redirects are followed here one
by one, with the client's own rules, so that each hop is seen before it is made.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from micropaywall import limits
from micropaywall.client.bodies import KeptBody, decode
from micropaywall.client.guard import AddressGuard
from micropaywall.client.httpx_streams import Api
from micropaywall.client.payer import Payer, attach
from micropaywall.core import buyer_effects as fx
from micropaywall.core.buyer import buy
from micropaywall.core.delivery import enquire
from micropaywall.core.drive import AsyncHandlers, Handlers, run_async, run_sync
from micropaywall.core.model import Headers
from micropaywall.core.purchase import HeaderLine, PurchaseRow
from micropaywall.proto.x402.credential import CREDENTIAL_HEADERS

__all__ = ["AsyncExchange", "SyncExchange"]

_PAYMENT_HEADERS: Final = tuple(name.decode() for name in CREDENTIAL_HEADERS)
IDEMPOTENCY_KEY: Final = "idempotency-key"


@dataclass
class _Exchange:
    """One logical call. ``send_once`` is the client's own `send`, asked to follow nothing and to leave the body unread."""

    api: Api
    client: Any
    payer: Payer
    guard: AddressGuard
    send_once: Callable[..., Any]
    request: Any
    auth: Any
    follow: bool
    read: bool
    body: KeptBody = field(default_factory=KeptBody)
    open: Any = None

    def call(self) -> fx.Call:
        return self.payer.call(self.request.method, _text(self.request.url), self.request.headers.get(IDEMPOTENCY_KEY))

    def check(self, request: Any) -> None:
        self.guard.check_hop(request.url.host, asked=self.request.url.host)

    def answer(self, response: Any, hops: list[str]) -> fx.Answer:
        headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        return fx.Answer(response.status_code, headers, tuple(hops), response)

    def next_hop(self, response: Any, hops: list[str]) -> Any:
        """The request that a redirect asks for, or None when ``response`` is where it ends."""
        request = response.next_request
        if not self.follow or request is None:
            return None
        if len(hops) > min(self.client.max_redirects, limits.REDIRECTS_MAX):
            raise self.api.httpx.TooManyRedirects("Exceeded maximum allowed redirects.", request=response.request)
        return request

    def again(self, effect: fx.Send) -> Any:
        """The request of this effect: the caller's own, or that of an earlier answer, with a payment or without."""
        request = self.request if effect.onto is None else _handle(effect.onto).request
        return request if effect.credential is None else self.with_credential(request, effect.credential)

    def with_credential(self, request: Any, credential: HeaderLine | None) -> Any:
        """A copy of ``request`` with this payment as its only one, or with none."""
        headers = request.headers.copy()
        for name in _PAYMENT_HEADERS:
            headers.pop(name, None)
        if credential is not None:
            headers[credential.name] = credential.value
        return self.api.httpx.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )

    def status_request(self, effect: fx.AskStatus) -> Any:
        request = self.client.build_request("GET", effect.url, headers={"accept": "application/json"})
        return self.with_credential(request, effect.credential)

    def decoded(self, response: Any, raw: list[bytes], *, limit: int, complete: bool) -> bytes | None:
        return decode(b"".join(raw), response.headers.get("content-encoding", ""), limit) if complete else None


def _handle(answer: fx.Answer) -> Any:
    return answer.handle


def _text(url: Any) -> str:
    """A URL without userinfo and fragment."""
    return str(url.copy_with(userinfo=b"", fragment=None))


class SyncExchange(_Exchange):
    """One logical call of a blocking client."""

    def run(self) -> Any:
        """The response that the caller gets."""
        if not isinstance(self.request.stream, self.api.httpx.ByteStream):
            self.request.stream = self.api.kept(self.request.stream, self.body)
        handlers: Handlers = {
            **self.payer.handlers(),
            fx.Send: self.send,
            fx.Peek: self.peek,
            fx.KeepBody: self.keep_body,
            fx.AskStatus: self.ask_status,
            fx.Approve: self.payer.approve,
            fx.Wait: self.wait,
        }
        try:
            bought = run_sync(buy(self.call()), handlers)
            response = _handle(bought.answer)
            if bought.purchase is not None and response.next_request is not None:
                response = self.follow_paid(response)
            if self.read:
                response.read()
            elif bought.purchase is not None:
                broke_off = functools.partial(self.payer.cut_off, bought.purchase)
                response.stream = self.api.watched(response.stream, self.api.httpx.TransportError, broke_off)
        except BaseException:
            if self.open is not None:
                self.open.close()
            raise
        attach(response, bought)
        return response

    def enquire(self, row: PurchaseRow) -> PurchaseRow:
        """Ask the seller what became of a payment."""
        return run_sync(enquire(row), {**self.payer.handlers(), fx.AskStatus: self.ask_status})

    def send(self, effect: fx.Send) -> fx.Answer | fx.NoAnswer:
        if self.open is not None:
            self.open.close()
        try:
            if effect.credential is None:
                return self.hop_by_hop(self.again(effect))
            request = self.again(effect)
            self.check(request)
            self.open = response = self.send_once(request, self.auth)
            if self.read and response.status_code < 400:
                response.read()  # here, so that an answer that breaks off is one that did not come
            return self.answer(response, [_text(request.url)])
        except self.api.httpx.TransportError as error:
            return fx.NoAnswer(error)

    def hop_by_hop(self, request: Any) -> fx.Answer:
        auth = self.auth
        hops: list[str] = []
        history: list[Any] = []
        while True:
            self.check(request)
            self.open = response = self.send_once(request, auth)
            hops.append(_text(request.url))
            response.history = [*history]
            request = self.next_hop(response, hops)
            if request is None:
                return self.answer(response, hops)
            response.close()
            history.append(response)
            auth = None  # the header is copied within an origin, and must not follow to another

    def follow_paid(self, response: Any) -> Any:
        """Where a paid answer redirects to, asked without the payment."""
        request = self.next_hop(response, [])
        if request is None:
            return response
        response.close()
        return _handle(self.hop_by_hop(self.with_credential(request, None)))

    def peek(self, effect: fx.Peek) -> bytes | None:
        response = _handle(effect.answer)
        stream, chunks, size = response.stream, [], 0
        source = iter(stream)
        complete = False
        try:
            while size <= effect.limit:
                chunk = next(source, None)
                if chunk is None:
                    complete = True
                    break
                chunks.append(chunk)
                size += len(chunk)
        except self.api.httpx.TransportError:
            return None
        response.stream = self.api.replay(chunks, source, stream)
        return self.decoded(response, chunks, limit=effect.limit, complete=complete)

    def keep_body(self, effect: fx.KeepBody) -> bytes:
        stream = self.request.stream
        if isinstance(stream, self.api.httpx.ByteStream):
            for chunk in stream:
                self.body.keep(chunk)
            self.body.complete = True
        else:
            stream.finish()
        return self.body.digest()

    def ask_status(self, effect: fx.AskStatus) -> tuple[int, bytes | None] | None:
        request = self.status_request(effect)
        self.check(request)
        try:
            response = self.send_once(request, self.auth)
        except self.api.httpx.TransportError:
            return None
        try:
            return response.status_code, self.peek(fx.Peek(self.answer(response, []), effect.limit))
        finally:
            response.close()

    def wait(self, effect: fx.Wait) -> None:
        import time

        time.sleep(effect.seconds)


class AsyncExchange(_Exchange):
    """One logical call of an asynchronous client. What blocks (store, keys) runs in a thread."""

    async def run(self) -> Any:
        """The response that the caller gets."""
        if not isinstance(self.request.stream, self.api.httpx.ByteStream):
            self.request.stream = self.api.kept_async(self.request.stream, self.body)
        handlers: AsyncHandlers = {
            **{kind: _in_thread(handler) for kind, handler in self.payer.handlers().items()},
            fx.Send: self.send,
            fx.Peek: self.peek,
            fx.KeepBody: self.keep_body,
            fx.AskStatus: self.ask_status,
            fx.Approve: self.payer.approve_async,
            fx.Wait: self.wait,
        }
        try:
            bought = await run_async(buy(self.call()), handlers)
            response = _handle(bought.answer)
            if bought.purchase is not None and response.next_request is not None:
                response = await self.follow_paid(response)
            if self.read:
                await response.aread()
            elif bought.purchase is not None:
                cut_off = functools.partial(_in_thread(self.payer.cut_off), bought.purchase)
                response.stream = self.api.watched_async(response.stream, self.api.httpx.TransportError, cut_off)
        except BaseException:
            if self.open is not None:
                await self.open.aclose()
            raise
        attach(response, bought)
        return response

    async def enquire(self, row: PurchaseRow) -> PurchaseRow:
        """Ask the seller what became of a payment."""
        handlers = {kind: _in_thread(handler) for kind, handler in self.payer.handlers().items()}
        return await run_async(enquire(row), {**handlers, fx.AskStatus: self.ask_status})

    async def send(self, effect: fx.Send) -> fx.Answer | fx.NoAnswer:
        if self.open is not None:
            await self.open.aclose()
        try:
            if effect.credential is None:
                return await self.hop_by_hop(self.again(effect))
            request = self.again(effect)
            self.check(request)
            self.open = response = await self.send_once(request, self.auth)
            if self.read and response.status_code < 400:
                await response.aread()
            return self.answer(response, [_text(request.url)])
        except self.api.httpx.TransportError as error:
            return fx.NoAnswer(error)

    async def hop_by_hop(self, request: Any) -> fx.Answer:
        auth = self.auth
        hops: list[str] = []
        history: list[Any] = []
        while True:
            self.check(request)
            self.open = response = await self.send_once(request, auth)
            hops.append(_text(request.url))
            response.history = [*history]
            request = self.next_hop(response, hops)
            if request is None:
                return self.answer(response, hops)
            await response.aclose()
            history.append(response)
            auth = None

    async def follow_paid(self, response: Any) -> Any:
        """Where a paid answer redirects to, asked without the payment."""
        request = self.next_hop(response, [])
        if request is None:
            return response
        await response.aclose()
        return _handle(await self.hop_by_hop(self.with_credential(request, None)))

    async def peek(self, effect: fx.Peek) -> bytes | None:
        response = _handle(effect.answer)
        stream, chunks, size = response.stream, [], 0
        source = aiter(stream)
        complete = False
        try:
            while size <= effect.limit:
                chunk = await anext(source, None)
                if chunk is None:
                    complete = True
                    break
                chunks.append(chunk)
                size += len(chunk)
        except self.api.httpx.TransportError:
            return None
        response.stream = self.api.replay_async(chunks, source, stream)
        return self.decoded(response, chunks, limit=effect.limit, complete=complete)

    async def keep_body(self, effect: fx.KeepBody) -> bytes:
        stream = self.request.stream
        if isinstance(stream, self.api.httpx.ByteStream):
            async for chunk in stream:
                self.body.keep(chunk)
            self.body.complete = True
        else:
            await stream.finish()
        return self.body.digest()

    async def ask_status(self, effect: fx.AskStatus) -> tuple[int, bytes | None] | None:
        request = self.status_request(effect)
        self.check(request)
        try:
            response = await self.send_once(request, self.auth)
        except self.api.httpx.TransportError:
            return None
        try:
            return response.status_code, await self.peek(fx.Peek(self.answer(response, []), effect.limit))
        finally:
            await response.aclose()

    async def wait(self, effect: fx.Wait) -> None:
        from anyio import sleep

        await sleep(effect.seconds)


def _in_thread(handler: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
    async def run(effect: Any) -> Any:
        from anyio import CancelScope, to_thread

        # Shielded: a step of the journal takes milliseconds, and what it did must be known even when the call is cancelled.
        with CancelScope(shield=True):
            return await to_thread.run_sync(handler, effect)

    return run
