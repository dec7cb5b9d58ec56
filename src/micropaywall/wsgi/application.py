"""The wrapper: which requests are priced, and what those without a credential are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from micropaywall.core.challenge import REQUEST_HEADERS, problem_response
from micropaywall.errors import AmbiguousPath
from micropaywall.seller.paywall import STATUS_PREFIX, Paywall
from micropaywall.seller.portal import Portal
from micropaywall.wsgi.exchange import CREDENTIAL_KEYS, Exchange
from micropaywall.wsgi.messages import Environ, StartResponse, WSGIApp, paths_of, request_of, respond


class PaywallApplication:
    """``app`` with ``paywall`` in front."""

    def __init__(self, app: WSGIApp, paywall: Paywall) -> None:
        self.app = app
        self.paywall = paywall
        self.portal = Portal()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path, target, root = paths_of(environ)
        method = environ["REQUEST_METHOD"]
        try:
            route = self.paywall.table.match(method, target, path, root)
        except AmbiguousPath as error:
            return respond(start_response, problem_response(error), method)
        if route is None:
            if path.startswith(STATUS_PREFIX + "pay_"):
                self.start()
                return respond(
                    start_response, self.portal.call(self.paywall.status(request_of(self.paywall, environ))), method
                )
            if method.upper() == "OPTIONS" and self.paywall.table.routes:
                priced = self.paywall.table.priced_path(target, path, root)
                pieces = self.app(environ, _preflight(start_response, bodiless=priced))
                return _Bodiless(pieces) if priced else pieces
            if self.paywall.bound:
                return Exchange(self, environ, start_response).run_unmatched()
            return self.app(environ, start_response)
        self.start()
        if not any(key in environ for key in CREDENTIAL_KEYS):
            answer = Exchange(self, environ, start_response).unpaid(route)
            return self.app(environ, start_response) if answer is None else respond(start_response, answer, method)
        return Exchange(self, environ, start_response).run(route)

    def start(self) -> None:
        """Open the paywall, if it is not; idempotent."""
        if not self.paywall.started:
            self.portal.call(self.paywall.start())

    def stop(self) -> None:
        """Close the paywall and its background loop."""
        self.portal.call(self.paywall.stop())
        self.portal.stop()


def _preflight(start_response: StartResponse, *, bodiless: bool) -> StartResponse:
    """Let a browser send the payment headers that the application's own CORS answer does not know of."""

    def starting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
        changed = [
            (name, f"{value}, {REQUEST_HEADERS.decode()}")
            if name.lower() == "access-control-allow-headers" and value.strip() != "*"
            else (name, value)
            for name, value in headers
            if not (bodiless and name.lower() == "content-length")
        ]
        write = start_response(status, changed, *rest)
        return (lambda _: None) if bodiless else write

    return starting


class _Bodiless:
    """An answer to OPTIONS at a priced path: an application that takes it for GET must not give its content away."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for _ in self._pieces:
            yield b""

    def close(self) -> None:
        """Close what the application returned, as PEP 3333 asks."""
        closing = getattr(self._pieces, "close", None)
        if closing is not None:
            closing()
