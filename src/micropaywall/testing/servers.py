"""Real servers in threads, on free ports of loopback: uvicorn for ASGI, the standard library's for WSGI."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from socketserver import ThreadingMixIn
from typing import Any, Final, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from micropaywall.errors import ConfigurationError, Unavailable
from micropaywall.seller.paywall import Paywall

__all__ = ["AsgiServer", "WsgiServer"]

T = TypeVar("T")
_HOST: Final = "127.0.0.1"
START_S: Final = 20.0
STOP_S: Final = 20.0
CALL_S: Final = 60.0


class AsgiServer:
    """uvicorn with one worker in a thread; the paywall lives in its event loop."""

    def __init__(self, app: Any, paywall: Paywall) -> None:
        try:
            import uvicorn
        except ImportError:
            raise ConfigurationError(
                "an ASGI application needs uvicorn to be served", hint="pip install 'micropaywall[server]'"
            ) from None
        self._socket = socket.create_server((_HOST, 0))
        self.url = f"http://{_HOST}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_config=None, log_level="warning", loop="asyncio", access_log=False)
        self._server = uvicorn.Server(config)
        self._paywall = paywall
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="micropaywall-test-seller", daemon=True)
        self._thread.start()
        self._await_start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` in the server's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop.result(START_S)).result(CALL_S)

    def close(self) -> None:
        """Stop; idempotent."""
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        try:
            await self._server.serve(sockets=[self._socket])
        except SystemExit:
            return  # how uvicorn says that the application did not start; who waits for it is told
        finally:
            await self._paywall.stop()  # where the application has no lifespan, nobody else does

    def _await_start(self) -> None:
        ready = threading.Event()
        for _ in range(int(START_S / 0.01)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            ready.wait(0.01)
        self.close()
        raise Unavailable("the test's seller did not start; its log says why")


class WsgiServer:
    """The standard library's WSGI server with a thread per request; the paywall has its own event loop."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._http = make_server(_HOST, 0, app, server_class=_Threading, handler_class=_Quiet)
        self.url = f"http://{_HOST}:{self._http.server_port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="micropaywall-test-seller",
            daemon=True,
        )
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` in the paywall's event loop."""
        portal: Callable[[Coroutine[Any, Any, T]], T] = self._app.portal.call
        return portal(coroutine)

    def close(self) -> None:
        """Stop; idempotent."""
        self._http.shutdown()
        self._thread.join(STOP_S)
        self._http.server_close()
        self._app.stop()


class _Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """A test's log is not the place for each request."""
