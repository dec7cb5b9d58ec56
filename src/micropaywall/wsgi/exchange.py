"""One request that pays, and the flow that serves it, driven from a WSGI server's thread."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

from micropaywall.core import effects
from micropaywall.core.challenge import paid_headers
from micropaywall.core.model import Credential, Receipt, Request, StoredResponse
from micropaywall.core.paywall import serve
from micropaywall.core.routes import Route, two_prices
from micropaywall.errors import MicropaywallError, RequestRefused
from micropaywall.ids import RowId
from micropaywall.proto import x402
from micropaywall.seller.holding import body_too_large
from micropaywall.seller.paywall import Paywall
from micropaywall.seller.portal import Portal
from micropaywall.wsgi.messages import Environ, StartResponse, WSGIApp, request_of, respond
from micropaywall.wsgi.run import Run, Streamed

SESSION: Final = "micropaywall.exchange"
"""Environ key under which a view that is priced by itself finds its exchange."""
PAYMENT: Final = "micropaywall.payment"
"""Environ key of what is known of the payment while the application runs: see `core.effects.RunHandler`."""
CREDENTIAL_KEYS: Final = tuple("HTTP_" + name.decode().upper().replace("-", "_") for name in x402.CREDENTIAL_HEADERS)


class Site(Protocol):
    """What an exchange needs of the wrapper that it belongs to."""

    app: WSGIApp
    paywall: Paywall
    portal: Portal

    def start(self) -> None:
        """Open the paywall, if it is not."""
        ...


class Exchange:
    """One request that pays (or may be asked to), and the flow that serves it."""

    def __init__(self, site: Site, environ: Environ, start_response: StartResponse) -> None:
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
        if self._override is not None:
            return False
        if self._flow is not None and route is self._route:
            return True  # this very price was asked already
        if self._charge_id is not None:
            raise two_prices(route)
        self._flow = None  # free so far
        self._site.start()
        if not any(key in self._environ for key in CREDENTIAL_KEYS):
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
            except RequestRefused as error:
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
            length = int(given) if str(given).isascii() and str(given).isdigit() else limit + 1
            if length > limit:
                raise body_too_large(limit, given)
            body = stream.read(length)
            if len(body) < length:
                raise RequestRefused("the request was not complete", expected=f"{length} bytes of body")
        elif self._environ.get("wsgi.input_terminated"):
            body = stream.read(limit + 1)
        else:
            body = b""  # what nobody can tell the end of, the application does not get either
        if len(body) > limit:
            raise body_too_large(limit, given)
        self._environ["wsgi.input"] = io.BytesIO(body)
        self._environ["CONTENT_LENGTH"] = str(len(body))
        return bytes(body)

    # -- the application's side --------------------------------------------------------------------------------------

    def _handle(self) -> Iterable[bytes]:
        run = Run(self._app, self._environ, self._paywall)
        began = time.monotonic()
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
        waits_for = self._waits_for
        if isinstance(waits_for, effects.RunHandler) and time.monotonic() - began > waits_for.timeout_s:
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
        return respond(self._start_response, self._decided, self._environ["REQUEST_METHOD"])

    def _stream(self, run: Run, receipt: Receipt | None) -> Iterable[bytes]:
        headers = run.raw_headers()
        if receipt is not None and self._credential is not None:
            headers = tuple(paid_headers(headers, receipt, self._credential.dialect))
        self._start_response(run.status, [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers])
        return Streamed(run, self._advance, keep_bytes=self._paywall.stored_bytes if receipt is not None else 0)
