"""One server process: uvicorn around a site, started whole or not at all, stopped without losing a request."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from micropaywall.errors import ConfigurationError
from micropaywall.observe import logs

if TYPE_CHECKING:
    from micropaywall.cli.serving.plan import Site
    from micropaywall.settings import Settings

__all__ = ["SIGNALS", "access_log", "listen", "require_uvicorn", "run"]

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
_GRACE_S: Final = 30
"""How long requests that are being served may go on after the server was told to stop; a second Ctrl-C ends it at once."""
_BACKLOG: Final = 2_048


def require_uvicorn() -> None:
    """ConfigurationError, saying what to install, when uvicorn is not there."""
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "the server needs uvicorn, which is not installed", hint="pip install 'micropaywall[server]'"
        ) from None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigurationError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(
            socket, "SO_EXCLUSIVEADDRUSE"
        ):  # Windows, where SO_REUSEADDR would let another program take the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="Another program may have the port; choose another with --port, or 0 for any free one.",
        ) from None
    listener.set_inheritable(True)
    return listener


def run(
    site: Site,
    settings: Settings,
    listener: socket.socket,
    *,
    started: Callable[[], None],
    stop: threading.Event | None = None,
) -> None:
    """Serve until told to stop (Ctrl-C, SIGTERM, or ``stop``). ``started`` is called once requests are accepted.

    The book is opened, and what an earlier process left is recovered, before the first request is accepted.
    """
    import uvicorn

    _set_up_logs(settings)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                started()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """As uvicorn does, but a signal that was obeyed is not raised again: a stop that was asked for is no failure."""
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {number: signal.signal(number, self._told) for number in SIGNALS}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        def _told(self, number: int, _frame: FrameType | None) -> None:
            if self.should_exit and number == signal.SIGINT:
                self.force_exit = True
            self.should_exit = True

    server_settings, proxies = settings.server, settings.seller.trusted_proxies
    config = uvicorn.Config(
        access_log(site.asgi),
        log_config=None,
        access_log=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        server_header=False,
        ssl_certfile=server_settings.tls_cert or None,
        ssl_keyfile=server_settings.tls_key or None,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = Server(config)
    if stop is not None:
        threading.Thread(target=_stop_when, args=(stop, server), daemon=True).start()
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(site, server, listener))


async def _serve(site: Site, server: Any, listener: socket.socket) -> None:
    if site.paywall is not None:
        await site.paywall.start()
    try:
        await server.serve(sockets=[listener])
    finally:
        if site.paywall is not None:
            await site.paywall.stop()
        if site.stop is not None:
            await asyncio.to_thread(site.stop)


def _stop_when(stop: threading.Event, server: Any) -> None:
    stop.wait()
    server.should_exit = True


def _set_up_logs(settings: Settings) -> None:
    logs.set_up(settings.log.level, settings.log.format)
    ours = logging.getLogger("micropaywall")
    theirs = logging.getLogger("uvicorn")
    theirs.handlers = list(ours.handlers)
    theirs.propagate = False
    theirs.setLevel(logging.WARNING)


def access_log(app: Callable[..., Any]) -> Callable[..., Any]:
    """``app`` with one log line a request: method, path (without query, which may hold secrets), status, payment, time."""
    logger = logging.getLogger("micropaywall.access")

    async def logged(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        facts: dict[str, str | int] = {"method": scope["method"], "path": scope["path"]}
        begun = time.perf_counter()

        async def noting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                facts["status"] = message["status"]
                for name, value in message.get("headers", ()):
                    if name.lower() == b"payment-id":
                        facts["payment_id"] = value.decode("latin-1")
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            facts["ms"] = round((time.perf_counter() - begun) * 1000)
            logger.info("%s", _line(facts), extra={"event": "request", "facts": facts})

    return logged


def _line(facts: MutableMapping[str, str | int]) -> str:
    payment = f" {facts['payment_id']}" if "payment_id" in facts else ""
    return f"{facts.get('status', '---')} {facts['method']} {facts['path']}{payment} {facts['ms']} ms"
