"""A `requests.Session` that pays. Every option of requests is its own; see `Session` for the rest.

import micropaywall.client.requests as paying

session = paying.Session(budget="$1 a day")
print(session.get("http://localhost:3000/api/resource").json())
"""

from __future__ import annotations

import functools
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util import parse_url

from micropaywall.client.bodies import ACCEPT_ENCODING, KeptBody, KeptStream, decode
from micropaywall.client.guard import AddressGuard
from micropaywall.client.payer import Approver, Paid, Payer, attach, make_payer, paid
from micropaywall.client.wallet import Wallet
from micropaywall.core import buyer_effects as fx
from micropaywall.core.budget import Budget
from micropaywall.core.buyer import buy
from micropaywall.core.delivery import enquire
from micropaywall.core.drive import Handlers, run_sync
from micropaywall.core.policy import Policy
from micropaywall.core.purchase import HeaderLine, PurchaseRow
from micropaywall.proto.x402.credential import CREDENTIAL_HEADERS
from micropaywall.wallets.signer import Signer

__all__ = ["Paid", "Session", "paid"]

_NO_ANSWER: Final = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
_CHUNK_BYTES: Final = 16_384


class Session(requests.Session):
    """A `requests.Session` that pays for what costs something, within budget and policy.

    The parameters are those of `micropaywall.client.Payer`; ``payer`` is an alternative to them, which sessions can share.
    """

    def __init__(
        self,
        *,
        wallet: Wallet | Signer | str | None = None,
        budget: Budget | str | None = None,
        policy: Policy | None = None,
        approve: Approver | None = None,
        agent: str = "default",
        idempotency: Literal["header", "request"] = "header",
        payer: Payer | None = None,
        guard: AddressGuard | None = None,
    ) -> None:
        super().__init__()
        self._own_payer = payer is None
        self.payer = make_payer(
            payer, wallet=wallet, budget=budget, policy=policy, approve=approve, agent=agent, idempotency=idempotency
        )
        self.guard = guard or AddressGuard(allow_private=self.payer.policy.allow_private_addresses)
        self._inside = threading.local()
        self.headers["Accept-Encoding"] = ACCEPT_ENCODING
        for scheme in ("http://", "https://"):
            self.mount(scheme, GuardedAdapter(self.guard))

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request, and pay for it when that is asked and allowed."""
        check: Callable[[requests.PreparedRequest], None] | None = getattr(self._inside, "check", None)
        if check is not None:  # requests itself follows a redirect
            check(request)
            return super().send(request, **options)
        follow = options.pop("allow_redirects", True)
        read = not options.pop("stream", self.stream)
        exchange = _Exchange(self, request, options, follow=follow, read=read)
        self._inside.check = exchange.check
        try:
            return exchange.run(super().send)
        finally:
            del self._inside.check

    def reconcile(self) -> list[PurchaseRow]:
        """Ask sellers what became of the payments that have no verdict; the payments as they are then.

        One is written off only when it has expired and its seller says that it never moved.
        """
        found = []
        for row in self.payer.store.open_payments():
            exchange = _Exchange(self, requests.Request("GET", row.origin).prepare(), {}, follow=False, read=False)
            found.append(exchange.enquire(row, super().send))
        return found

    def close(self) -> None:
        """Close connections, and the journal when it is this session's own."""
        super().close()
        if self._own_payer:
            self.payer.close()


class _Exchange:
    """One logical call of a session."""

    def __init__(
        self,
        session: Session,
        request: requests.PreparedRequest,
        options: dict[str, Any],
        *,
        follow: bool,
        read: bool,
    ) -> None:
        self.session = session
        self.request = request
        self.options = options
        self.follow = follow
        self.read = read
        self.body = KeptBody()
        self.open: requests.Response | None = None
        self.send_once: Callable[..., requests.Response] = session.send
        body: Any = request.body
        if body is not None and not isinstance(body, (bytes, str)):
            body = _RewindableStream(_chunks(body), self.body)
        request.body = body

    def run(self, send_once: Callable[..., requests.Response]) -> requests.Response:
        """The response that the caller gets; ``send_once`` is the session's own `send`."""
        self.send_once = send_once
        payer = self.session.payer
        handlers: Handlers = {
            **payer.handlers(),
            fx.Send: self.send,
            fx.Peek: self.peek,
            fx.KeepBody: self.keep_body,
            fx.AskStatus: self.ask_status,
            fx.Approve: payer.approve,
            fx.Wait: lambda effect: time.sleep(effect.seconds),
        }
        key = self.request.headers.get("Idempotency-Key")
        try:
            call = payer.call(self.request.method or "GET", _url(self.request), _string(key))
            bought = run_sync(buy(call), handlers)
            response = _response(bought.answer)
            if bought.purchase is not None and self.follow and response.is_redirect:
                response = self.follow_paid(response)
            if self.read:
                response.content  # noqa: B018 - reads it
            elif bought.purchase is not None:
                response.raw = _Watched(response.raw, functools.partial(payer.cut_off, bought.purchase))
        except BaseException:
            if self.open is not None:
                self.open.close()
            raise
        attach(response, bought)
        return response

    def enquire(self, row: PurchaseRow, send_once: Callable[..., requests.Response]) -> PurchaseRow:
        """Ask the seller what became of a payment."""
        self.send_once = send_once
        return run_sync(enquire(row), {**self.session.payer.handlers(), fx.AskStatus: self.ask_status})

    def check(self, request: requests.PreparedRequest) -> None:
        """Look at one hop before it is made."""
        self.session.guard.check_hop(
            parse_url(_url(request)).host or "", asked=parse_url(_url(self.request)).host or ""
        )

    def send(self, effect: fx.Send) -> fx.Answer | fx.NoAnswer:
        if self.open is not None:
            self.open.close()
        request = self.request if effect.onto is None else _response(effect.onto).request
        paying = effect.credential is not None
        if effect.credential is not None:
            request = _with_credential(request, effect.credential)
        self.check(request)
        try:
            response = self.send_once(request, stream=True, allow_redirects=self.follow and not paying, **self.options)
            self.open = response
            if paying and self.read and response.status_code < 400:
                response.content  # noqa: B018 - here, so that an answer that breaks off is one that did not come
        except _NO_ANSWER as error:
            return fx.NoAnswer(error)
        return _answer(response)

    def follow_paid(self, response: requests.Response) -> requests.Response:
        """Where a paid answer redirects to, asked without the payment."""
        request = _with_credential(response.request, None)
        hops = [response, *self.session.resolve_redirects(response, request, stream=True, **self.options)]
        last: requests.Response = hops.pop()
        last.history = hops
        return last

    def peek(self, effect: fx.Peek) -> bytes | None:
        response = _response(effect.answer)
        if isinstance(response.raw, _Peeked) or not isinstance(response.raw, urllib3.BaseHTTPResponse):
            return None
        raw = response.raw
        source = raw.stream(_CHUNK_BYTES, decode_content=False)
        chunks: list[bytes] = []
        size, complete = 0, False
        try:
            while size <= effect.limit:
                chunk = next(source, None)
                if chunk is None:
                    complete = True
                    break
                chunks.append(chunk)
                size += len(chunk)
        except (HTTPError, OSError):
            return None
        response.raw = _Peeked(chunks, source, raw, self.request.method)
        encoding = response.headers.get("Content-Encoding", "")
        return decode(b"".join(chunks), encoding, effect.limit) if complete else None

    def keep_body(self, effect: fx.KeepBody) -> bytes:
        body: Any = self.request.body
        if isinstance(body, _RewindableStream):
            body.finish()
        elif body:
            self.body.keep(body.encode() if isinstance(body, str) else body)
        return self.body.digest()

    def ask_status(self, effect: fx.AskStatus) -> tuple[int, bytes | None] | None:
        asked = requests.Request("GET", effect.url, headers={"Accept": "application/json"})
        request = _with_credential(self.session.prepare_request(asked), effect.credential)
        self.check(request)
        try:
            response = self.send_once(request, stream=True, allow_redirects=False, **self.options)
        except _NO_ANSWER:
            return None
        try:
            return response.status_code, self.peek(fx.Peek(_answer(response), effect.limit))
        finally:
            response.close()


def _answer(response: requests.Response) -> fx.Answer:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.raw.headers.iteritems()
    ]
    hops = tuple(_url(hop.request) for hop in [*response.history, response])
    return fx.Answer(response.status_code, headers, hops, response)


def _response(answer: fx.Answer) -> requests.Response:
    response = answer.handle
    if not isinstance(response, requests.Response):
        raise TypeError("the answer is not one of this session")
    return response


def _url(request: requests.PreparedRequest) -> str:
    """The URL of a request without userinfo and fragment."""
    return parse_url(request.url or "")._replace(auth=None, fragment=None).url


def _string(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _with_credential(request: requests.PreparedRequest, credential: HeaderLine | None) -> requests.PreparedRequest:
    """A copy of ``request`` with this payment as its only one, or with none."""
    copy = request.copy()
    for name in CREDENTIAL_HEADERS:
        copy.headers.pop(name.decode(), None)
    if credential is not None:
        copy.headers[credential.name] = credential.value
    return copy


# -- bodies -----------------------------------------------------------------------------------------------------------


class _RewindableStream(KeptStream):
    """A request body that requests may send again: it asks for the beginning, and iterating begins there anyway."""

    def seek(self, position: int) -> None:
        """Accepted and not needed."""


def _chunks(body: Any) -> Iterator[bytes]:
    if hasattr(body, "read"):
        while chunk := body.read(_CHUNK_BYTES):
            yield chunk.encode() if isinstance(chunk, str) else chunk
    else:
        for chunk in body:
            yield chunk.encode() if isinstance(chunk, str) else chunk


class _Peeked(urllib3.HTTPResponse):
    """A response of which the beginning of the body was read: the beginning again, then the rest, undecoded."""

    def __init__(
        self, chunks: list[bytes], rest: Iterator[bytes], raw: urllib3.BaseHTTPResponse, method: str | None
    ) -> None:
        self._inner = raw
        super().__init__(
            body=io.BufferedReader(_Chunks(chunks, rest)),
            headers=raw.headers,
            status=raw.status,
            version=raw.version,
            reason=raw.reason,
            preload_content=False,
            request_method=method,
            request_url=raw.geturl(),
        )

    def close(self) -> None:
        super().close()
        self._inner.close()

    def release_conn(self) -> None:
        self._inner.release_conn()


class _Watched:
    """A raw response that tells when its body broke off; for everything else it is what it wraps."""

    def __init__(self, raw: Any, broke_off: Callable[[], None]) -> None:
        self._raw = raw
        self._broke_off = broke_off

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *args: Any, **options: Any) -> Iterator[bytes]:
        try:
            yield from self._raw.stream(*args, **options)
        except (HTTPError, OSError):
            self._broke_off()
            raise

    def read(self, *args: Any, **options: Any) -> Any:
        try:
            return self._raw.read(*args, **options)
        except (HTTPError, OSError):
            self._broke_off()
            raise


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: list[bytes], rest: Iterator[bytes]) -> None:
        self._source = iter([*chunks])
        self._rest = rest
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = next(self._source, None)
            if chunk is None:
                chunk = next(self._rest, None)
            if chunk is None:
                return 0
            self._left = chunk
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


# -- the address guard in urllib3 -------------------------------------------------------------------------------------


class GuardedAdapter(HTTPAdapter):
    """An adapter that connects to checked addresses only. A proxy is the user's own, and resolves names itself."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _guarded_pools(self._guard)


def _guarded_pools(guard: AddressGuard) -> dict[str, type[HTTPConnectionPool]]:
    class Connection(HTTPConnection):
        def _new_conn(self) -> Any:
            return _connect(self, guard, super()._new_conn)

    class TLSConnection(HTTPSConnection):
        def _new_conn(self) -> Any:
            return _connect(self, guard, super()._new_conn)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class TLSPool(HTTPSConnectionPool):
        ConnectionCls = TLSConnection

    return {"http": Pool, "https": TLSPool}


def _connect(connection: HTTPConnection, guard: AddressGuard, connect: Callable[[], Any]) -> Any:
    """Have ``connect`` connect to a checked address of the connection's host. TLS still names the host."""
    name = connection._dns_host  # noqa: SLF001 - urllib3 has no other place for an address
    try:
        found = list(guard.resolver(name, connection.port))
    except OSError as error:
        raise NameResolutionError(name, connection, error) from error  # type: ignore[arg-type]
    last: Exception | None = None
    for address in guard.checked(name, found):
        connection._dns_host = address  # noqa: SLF001
        try:
            return connect()
        except (NewConnectionError, ConnectTimeoutError) as error:
            last = error
        finally:
            connection._dns_host = name  # noqa: SLF001
    raise last or NewConnectionError(connection, f"{name} has no address")
