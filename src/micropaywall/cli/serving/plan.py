"""What a server process needs to know, as a value that travels to worker processes; and the application made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micropaywall import settings as configuration
from micropaywall.cli import parts
from micropaywall.cli.serving.application import kind_of, load_object
from micropaywall.cli.serving.bridge import WsgiBridge
from micropaywall.cli.serving.sample import SAMPLE_ROUTES, sample_app
from micropaywall.core.routes import make_route
from micropaywall.errors import ConfigurationError

if TYPE_CHECKING:
    from micropaywall.core.routes import Route
    from micropaywall.seller.paywall import Paywall
    from micropaywall.settings import Loaded

__all__ = ["Plan", "Site"]


@dataclass(frozen=True, slots=True)
class Site:
    """A server's application.

    ``paywall`` is None when the application brings its own (``app = paywall.asgi(app)``); ``stop`` then closes it, where the
    lifespan of the application does not.
    """

    asgi: Callable[..., Any]
    paywall: Paywall | None
    routes: tuple[Route, ...]
    stop: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The command line of ``serve``, resolved. Every process reads the same file and environment with the same flags."""

    config_file: Path | None
    sandbox: bool
    flags: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> Loaded:
        """The settings; ConfigurationError when they cannot work."""
        return configuration.load_settings(self.config_file, flags=self.flags)

    def site(self, loaded: Loaded) -> Site:
        """The application with its paywall; every rail is opened. Raises ConfigurationError or RailError."""
        settings = loaded.settings
        if not settings.server.app:
            routes = configuration.routes(settings.seller) or tuple(
                make_route(name, options) for name, options in SAMPLE_ROUTES.items()
            )
            return self._behind_paywall(sample_app, loaded, routes)
        return self._given(loaded, configuration.routes(settings.seller))

    def _given(self, loaded: Loaded, routes: tuple[Route, ...]) -> Site:
        from micropaywall.asgi import PaywallMiddleware
        from micropaywall.wsgi import PaywallApplication

        settings = loaded.settings
        app = load_object(settings.server.app)
        kind = kind_of(app, settings.server.app)
        wrapped = next(
            (
                part
                for part in (app, getattr(app, "wsgi_app", None))
                if isinstance(part, (PaywallMiddleware, PaywallApplication))
            ),
            None,
        )
        if wrapped is not None and routes:
            raise ConfigurationError(
                "the application has a paywall of its own, and the configuration prices routes too",
                expected="prices in one place",
                received=settings.server.app,
                hint="Take seller.routes out of the configuration, or the paywall out of the application.",
            )
        asgi = WsgiBridge(app) if kind == "wsgi" else app
        if wrapped is not None:
            stop = wrapped.stop if isinstance(wrapped, PaywallApplication) else None
            return Site(asgi, None, tuple(entry[3] for entry in wrapped.paywall.table.routes), stop)
        if not routes:
            raise ConfigurationError(
                "nothing is priced",
                expected="[[seller.routes]] in the configuration, or an application with its own paywall",
                received=settings.server.app,
                hint='[[seller.routes]] with path = "/report" and price = "$0.001"',
            )
        return self._behind_paywall(asgi, loaded, routes)

    def _behind_paywall(self, app: Callable[..., Any], loaded: Loaded, routes: tuple[Route, ...]) -> Site:
        paywall = parts.make_paywall(loaded, routes, sandbox=self.sandbox)
        return Site(paywall.asgi(app), paywall, routes)
