"""A paywall around any WSGI application (PEP 3333).

The same flow as `asgi`, driven from the server's thread; the book and the rails live in one background event loop per process.
Request bodies are read within bounds and handed to the application again; response iterables are always closed.

    application = Paywall({"GET /api/resource": "$0.001"}, pay_to="0x…").wsgi(application)
"""

from __future__ import annotations

import http
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final
from urllib.parse import quote

from micropaywall import limits
from micropaywall.core import effects
from micropaywall.core.challenge import REQUEST_HEADERS, paid_headers, problem_response
from micropaywall.core.model import Credential, Receipt, Request, StoredResponse
from micropaywall.core.paywall import serve
from micropaywall.core.routes import Route
from micropaywall.errors import AmbiguousPath, MicropaywallError, RequestBodyTooLarge
from micropaywall.ids import RowId
from micropaywall.proto import x402
from micropaywall.seller.paywall import STATUS_PREFIX, Paywall
from micropaywall.seller.portal import Portal

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

SESSION: Final = "micropaywall.exchange"
PAYMENT: Final = "micropaywall.payment"
_CREDENTIAL_KEYS: Final = tuple("HTTP_" + name.decode().upper().replace("-", "_") for name in x402.CREDENTIAL_HEADERS)


class PaywallApplication:
    """``app`` with ``paywall`` in front."""

    def __init__(self, app: WSGIApp, paywall: Paywall) -> None:
        self.app = app
        self.paywall = paywall
        self.portal = Portal()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path, target, root = _paths(environ)
        method = environ["REQUEST_METHOD"]
        try:
            route = self.paywall.table.match(method, target, path, root)
        except AmbiguousPath as error:
            return _respond(start_response, problem_response(error), method)
        if route is None:
            if path.startswith(STATUS_PREFIX + "pay_"):
                self.start()
                return _respond(
                    start_response, self.portal.call(self.paywall.status(request_of(self.paywall, environ))), method
                )
            if method == "OPTIONS" and self.paywall.table.routes:
                return self.app(environ, _preflight(start_response))
            if self.paywall.bound:
                return Exchange(self, environ, start_response).run_unmatched()
            return self.app(environ, start_response)
        self.start()
        if not any(key in environ for key in _CREDENTIAL_KEYS):
            answer = Exchange(self, environ, start_response).unpaid(route)
            return self.app(environ, start_response) if answer is None else _respond(start_response, answer, method)
        return Exchange(self, environ, start_response).run(route)

    def start(self) -> None:
        """Open the paywall, if it is not; idempotent."""
        if not self.paywall.started:
            self.portal.call(self.paywall.start())

    def stop(self) -> None:
        """Close the paywall and its background loop."""
        self.portal.call(self.paywall.stop())
        self.portal.stop()


def _paths(environ: Environ) -> tuple[str, bytes, str]:
    """(decoded path as the framework routes it, raw target without query, mount prefix)."""
    root = _decoded(environ.get("SCRIPT_NAME", ""))
    path = root + _decoded(environ.get("PATH_INFO", "")) or "/"
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    target = raw.encode("latin-1", "replace").partition(b"?")[0] if raw else quote(path).encode()
    return path, target, root


def _decoded(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def request_of(paywall: Paywall, environ: Environ) -> Request:
    """The Request of a WSGI environ, body unread."""
    path, target, _ = _paths(environ)
    query = environ.get("QUERY_STRING", "")
    full = target.decode("latin-1") + (f"?{query}" if query else "")
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    headers = [
        (key[5:].replace("_", "-").lower().encode(), str(value).encode("latin-1", "replace"))
        for key, value in environ.items()
        if key.startswith("HTTP_")
    ]
    headers += [
        (key.replace("_", "-").lower().encode(), str(environ[key]).encode("latin-1", "replace"))
        for key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(key)
    ]
    url = paywall.url(environ.get("wsgi.url_scheme", "http"), host, full)
    return Request(
        environ["REQUEST_METHOD"], full.encode("latin-1", "replace"), path, url, headers, environ.get("REMOTE_ADDR", "")
    )


def _respond(start_response: StartResponse, response: StoredResponse, method: str) -> list[bytes]:
    start_response(_status(response.status), [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.headers])
    return [] if method == "HEAD" else [response.body]


def _status(code: int) -> str:
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} Status"


def _preflight(start_response: StartResponse) -> StartResponse:
    def starting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
        changed = [
            (name, f"{value}, {REQUEST_HEADERS.decode()}")
            if name.lower() == "access-control-allow-headers" and value.strip() != "*"
            else (name, value)
            for name, value in headers
        ]
        return start_response(status, changed, *rest)

    return starting


class Exchange:
    """One request that pays (or may be asked to), and the flow that serves it."""

    def __init__(self, site: PaywallApplication, environ: Environ, start_response: StartResponse) -> None:
        self._app = site.app
        self._site = site
        self._paywall = site.paywall
        self._portal = site.portal
        self._environ = environ
        self._start_response = start_response
        self._flow: effects.Flow | None = None
        self._route: Route | None = None
        self._request: Request | None = None
        self._credential: Credential | None = None
        self._waits_for: effects.Effect | None = None
        self._decided: StoredResponse | None = None
        self._override: StoredResponse | None = None
        self._charge_id: RowId | None = None

    # -- entry points ------------------------------------------------------------------------------------------------

    def run(self, route: Route) -> Iterable[bytes]:
        """Serve a request whose route is known from its path and which carries a credential."""
        self._begin(route)
        if self._decided is not None:
            return self._send_decided()
        return self._handle()

    def run_unmatched(self) -> Iterable[bytes]:
        """Run the application; one of its endpoints may call `enter`."""
        self._environ[SESSION] = self
        return self._handle()

    def enter(self, route: Route) -> bool:
        """Called by a priced endpoint before it runs: True when it may run; else its answer will be replaced."""
        if self._flow is not None or self._override is not None:
            return self._override is None
        self._site.start()
        if not any(key in self._environ for key in _CREDENTIAL_KEYS):
            self._override = self.unpaid(route)
            return self._override is None
        self._begin(route)
        self._override, self._decided = self._decided, None
        return self._override is None

    def unpaid(self, route: Route) -> StoredResponse | None:
        """The 402 for a request without a credential; None when it is free. The body is read when the price depends on it."""
        request = request_of(self._paywall, self._environ)
        if route.quotes_body:
            try:
                request.body = self._read_body(route.max_body)
            except RequestBodyTooLarge as error:
                return self._portal.call(self._paywall.refused(route, request, error))
        return self._portal.call(self._paywall.unpaid(route, request))

    def _begin(self, route: Route) -> None:
        self._route = route
        self._request = request_of(self._paywall, self._environ)
        try:
            self._credential = x402.read_credential(self._request.headers)
            if self._credential is None:  # the caller saw a payment header
                raise LookupError("no credential")
        except MicropaywallError as error:
            self._decided = self._portal.call(self._paywall.refused(route, self._request, error))
            return
        self._flow = serve(self._paywall, route, self._request, self._credential)
        self._advance(None)
        if isinstance(self._waits_for, effects.RunHandler):
            self._environ[PAYMENT] = self._waits_for.facts

    # -- driving the flow --------------------------------------------------------------------------------------------

    def _advance(self, value: Any, error: BaseException | None = None) -> None:
        """Perform effects until the application has to run, its stream has to flow, or the answer is decided."""
        steps, route, request = self._flow, self._route, self._request
        if steps is None or route is None or request is None:
            raise RuntimeError("the exchange has not begun")
        self._waits_for = None
        try:
            effect = steps.send(value) if error is None else steps.throw(error)
            while True:
                if isinstance(effect, (effects.RunHandler, effects.Stream)):
                    self._waits_for = effect
                    if isinstance(effect, effects.RunHandler) and effect.charge_id is not None:
                        self._charge_id = effect.charge_id
                        self._paywall.working.add(effect.charge_id)
                    return
                try:
                    if isinstance(effect, effects.ReadBody):
                        value = self._read_body(effect.limit)
                    else:
                        value = self._portal.call(self._paywall.perform(effect))
                except MicropaywallError as failure:
                    effect = steps.throw(failure)
                else:
                    effect = steps.send(value)
        except StopIteration as done:
            self._rest()
            answer: effects.Answer = done.value
            if answer.response is not None:
                headers = answer.response.headers
                if answer.receipt is not None:
                    headers = tuple(paid_headers(headers, answer.receipt, answer.dialect))
                self._decided = StoredResponse(answer.response.status, headers, answer.response.body)
        except MicropaywallError as failure:
            self._rest()
            self._decided = self._portal.call(self._paywall.refused(route, request, failure))
        except BaseException as raised:
            self._rest()
            if raised is not error:
                raise

    def _rest(self) -> None:
        if self._charge_id is not None:
            self._paywall.working.discard(self._charge_id)

    def _read_body(self, limit: int) -> bytes:
        stream = self._environ["wsgi.input"]
        given = self._environ.get("CONTENT_LENGTH")
        if given:
            length = int(given) if str(given).isdigit() else limit + 1
            body = stream.read(length) if length <= limit else b"x" * (limit + 1)
        elif self._environ.get("wsgi.input_terminated"):
            body = stream.read(limit + 1)
        else:
            return b""
        if len(body) > limit:
            raise RequestBodyTooLarge(
                "the request body is larger than this priced route reads",
                expected=f"at most {limit} bytes",
                received=f"{given or f'over {limit}'} bytes",
            )
        self._environ["wsgi.input"] = io.BytesIO(body)
        self._environ["CONTENT_LENGTH"] = str(len(body))
        return bytes(body)

    # -- the application's side --------------------------------------------------------------------------------------

    def _handle(self) -> Iterable[bytes]:
        run = _Run(self._app, self._environ, self._paywall)
        began = time.monotonic()
        timeout_s = self._waits_for.timeout_s if isinstance(self._waits_for, effects.RunHandler) else None
        try:
            run.begin()
            if self._override is not None:
                run.close()
                self._decided = self._override
                return self._send_decided()
            if self._flow is None:  # nothing was priced
                self._start_response(run.status, run.headers)
                return run.rest()
            handled = run.hold()
        except BaseException as error:
            run.close()
            if self._flow is not None and isinstance(self._waits_for, effects.RunHandler):
                own = isinstance(error, TimeoutError)
                self._advance(None, RuntimeError("the application timed out by itself") if own else error)
            raise
        if timeout_s is not None and time.monotonic() - began > timeout_s:
            run.close()
            self._advance(None, TimeoutError())
        else:
            self._advance(handled)
        if isinstance(self._waits_for, effects.Stream):
            return self._stream(run, self._waits_for.receipt)
        run.close()
        return self._send_decided()

    def _send_decided(self) -> Iterable[bytes]:
        if self._decided is None:
            raise RuntimeError("the flow ended without an answer")
        return _respond(self._start_response, self._decided, self._environ["REQUEST_METHOD"])

    def _stream(self, run: _Run, receipt: Receipt | None) -> Iterable[bytes]:
        headers = run.raw_headers()
        if receipt is not None and self._credential is not None:
            headers = tuple(paid_headers(headers, receipt, self._credential.dialect))
        self._start_response(run.status, [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers])
        return _Streamed(run, self._advance, keep_bytes=self._paywall.stored_bytes if receipt is not None else 0)


class _Run:
    """One call of the application: status, headers and body as they come, within what may be held."""

    def __init__(self, app: WSGIApp, environ: Environ, paywall: Paywall) -> None:
        self._app = app
        self._paywall = paywall
        self._environ = environ
        self._iterable: Iterable[bytes] | None = None
        self._iterator: Iterator[bytes] | None = None
        self._written: list[bytes] = []
        self._held: IO[bytes] | None = None
        self._size = 0
        self._ended = False
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def begin(self) -> None:
        """Call the application and wait until it has called start_response."""

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            self.status, self.headers = status, list(headers)
            return self._written.append

        self._iterable = self._app(self._environ, start_response)
        self._iterator = iter(self._iterable)
        while not self.status:  # PEP 3333: a generator may call it with its first piece
            try:
                self._written.append(next(self._iterator))
            except StopIteration:
                self._ended = True
                if not self.status:
                    raise RuntimeError("the application returned without an answer") from None

    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header lines as bytes, names lower-cased."""
        return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers)

    def hold(self) -> effects.Handled:
        """Read the body while it may be held; ``response`` None when it streams, outgrew that, or is too large to keep."""
        code, headers = int(self.status[:3]), self.raw_headers()
        names = {name for name, _ in headers}
        events = any(n == b"content-type" and v.lower().startswith(b"text/event-stream") for n, v in headers)
        whole = isinstance(self._iterable, (list, tuple)) or b"content-length" in names
        for piece in self._written:
            self._store(piece)
        self._written = []
        if not events and self._iterator is not None:
            for piece in self._iterator:
                self._store(piece)
                if (piece and not whole) or self._size > self._paywall.held_disk_bytes:
                    break
            else:
                self._ended = True
        if self._ended and self._size <= self._paywall.stored_bytes:
            return effects.Handled(code, headers, StoredResponse(code, headers, b"".join(self._take_held())))
        return effects.Handled(code, headers, None)

    def rest(self) -> Iterable[bytes]:
        """Everything not yet handed out; closes the application's iterable at the end."""
        return _Rest(self)

    def pieces(self) -> Iterator[bytes]:
        """The held part, then what the application still makes."""
        yield from self._take_held()
        yield from self._written
        if not self._ended and self._iterator is not None:
            yield from self._iterator

    def _store(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._held is None:
            self._held = tempfile.SpooledTemporaryFile(self._paywall.held_memory_bytes)  # noqa: SIM115 (closed by close)
        self._held.write(piece)

    def _take_held(self) -> Iterator[bytes]:
        if self._held is not None:
            with self._held as held:
                self._held = None
                held.seek(0)
                while piece := held.read(262_144):
                    yield piece

    def close(self) -> None:
        """Close what the application returned, as PEP 3333 asks."""
        if self._held is not None:
            self._held.close()
            self._held = None
        iterable, self._iterable = self._iterable, None
        closing = getattr(iterable, "close", None)
        if closing is not None:
            closing()


class _Rest:
    """The body of an unpriced answer, untouched, with its close."""

    def __init__(self, run: _Run) -> None:
        self._pieces = run.pieces()
        self.close = run.close

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


class _Streamed:
    """A paid stream: passes pieces on, keeps them while they are few, and books the delivery when it ends.

    A server closes it early when the buyer leaves; the rest is then made and kept, for a retry with the same payment.
    """

    def __init__(self, run: _Run, advance: Callable[[Any], None], *, keep_bytes: int) -> None:
        self._run = run
        self._pieces = run.pieces()
        self._advance = advance
        self._kept: list[bytes] | None = [] if keep_bytes else None
        self._kept_bytes = 0
        self._keep_bytes = keep_bytes
        self._done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._end()
            raise
        self._keep(piece)
        return piece

    def close(self) -> None:
        if not self._done:
            deadline = time.monotonic() + limits.DRAIN_AFTER_DISCONNECT_S
            for piece in self._pieces:
                self._keep(piece)
                if self._kept is None or time.monotonic() > deadline:
                    self._kept = None
                    break
            self._end()
        self._run.close()

    def _keep(self, piece: bytes) -> None:
        if self._kept is not None:
            self._kept.append(piece)
            self._kept_bytes += len(piece)
            if self._kept_bytes > self._keep_bytes:
                self._kept = None

    def _end(self) -> None:
        if not self._done:
            self._done = True
            run = self._run
            whole = None
            if self._kept is not None:
                whole = StoredResponse(int(run.status[:3]), run.raw_headers(), b"".join(self._kept))
            self._advance(whole)
