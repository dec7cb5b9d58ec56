"""The wrapper: which requests are priced, and what those without a credential are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
            if method == "OPTIONS" and self.paywall.table.routes:
                return self.app(environ, _preflight(start_response))
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
