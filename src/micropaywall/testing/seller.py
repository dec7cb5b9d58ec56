"""A seller for a test: the application behind a paywall, on a real server in a thread of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from micropaywall.core.book import Record
from micropaywall.core.routes import PriceFunction, PriceSpec, Route
from micropaywall.errors import ConfigurationError
from micropaywall.seller.paywall import Paywall
from micropaywall.settlement.worker import SettlementWorker, Tick

if TYPE_CHECKING:
    from micropaywall.testing.sandbox import PaywallSandbox

__all__ = ["RunningSeller", "SellerFactory", "Serving"]

T = TypeVar("T")
Interface = Literal["asgi", "wsgi"]


class Serving(Protocol):
    """An application that is being served."""

    url: str

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the event loop that the paywall lives in."""
        ...

    def close(self) -> None:
        """Stop serving, and the paywall."""
        ...


class RunningSeller:
    """A seller at ``url``, and its book."""

    def __init__(self, paywall: Paywall, serving: Serving) -> None:
        self.paywall = paywall
        self.url = serving.url
        self._serving = serving
        serving.call(paywall.start())

    def records(self) -> list[Record]:
        """The transaction log, oldest first."""

        async def read() -> list[Record]:
            return [record async for record in self.paywall.ledger.records()]

        return self._serving.call(read())

    def work(self) -> Tick:
        """One look of the settlement worker at the book now: settle, ask, refund, confirm."""
        paywall = self.paywall
        settlements = {(rail.seller.name, rail.seller.network): rail.settlement for rail in paywall.rails}
        worker = SettlementWorker(paywall.ledger, settlements, clock=paywall.clock, owner=f"{paywall.owner}:test")
        return self._serving.call(worker.tick())

    def close(self) -> None:
        """Stop."""
        self._serving.close()


class SellerFactory:
    """Makes sellers for a test, and stops them after it.

    ``sandbox_seller(app, {"GET /report": "$0.001"})`` puts a price on an application; ``sandbox_seller(app, paywall=paywall)``
    uses a paywall of `PaywallSandbox.paywall` (for prices bound to endpoints); ``sandbox_seller(app)`` serves an application
    that is behind its own paywall already. ``interface`` is found out unless it is given.
    """

    def __init__(self, sandbox: PaywallSandbox) -> None:
        self._sandbox = sandbox
        self._running: list[RunningSeller] = []

    def __call__(
        self,
        app: Callable[..., Any],
        routes: Mapping[str, PriceSpec | PriceFunction | Mapping[str, object]] | Sequence[Route] | None = None,
        *,
        paywall: Paywall | None = None,
        interface: Interface | None = None,
        **options: Any,
    ) -> RunningSeller:
        """Serve ``app``; ``options`` are those of `micropaywall.Paywall`."""
        from micropaywall.testing.servers import AsgiServer, WsgiServer

        own = getattr(app, "paywall", None)
        if isinstance(own, Paywall):
            if routes is not None or paywall is not None or options:
                raise ConfigurationError(
                    "this application is behind a paywall already", hint="Pass the application alone."
                )
            self._sandbox.faults.watch(own)
            wrapped, paywall = app, own
            interface = interface or _interface(app)
        else:
            if paywall is None:
                paywall = self._sandbox.paywall(routes, **options)
            elif routes is not None or options:
                raise ConfigurationError("routes and options belong to the paywall that was given")
            interface = interface or _interface(app)
            wrapped = paywall.asgi(app) if interface == "asgi" else paywall.wsgi(app)
        serving = AsgiServer(wrapped, paywall) if interface == "asgi" else WsgiServer(wrapped)
        seller = RunningSeller(paywall, serving)
        self._running.append(seller)
        return seller

    def close(self) -> None:
        """Stop all sellers."""
        while self._running:
            self._running.pop().close()


def _interface(app: Callable[..., Any]) -> Interface:
    """ASGI applications are awaited, WSGI applications are not."""
    call = app if inspect.isroutine(app) else getattr(app, "__call__", app)  # noqa: B004 - its kind is asked
    return "asgi" if inspect.iscoroutinefunction(call) else "wsgi"
