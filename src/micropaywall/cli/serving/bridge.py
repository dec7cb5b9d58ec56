"""A WSGI application as an ASGI application, so that ``serve --app`` takes either.

The application runs in a thread for each request (PEP 3333): its request body is spooled to a file first, its response
passes on chunk by chunk as it is made. When the client leaves, the iterable is closed and nothing more is asked of it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import IO, Any, Final

__all__ = ["WsgiBridge"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
_Environ = dict[str, Any]

_THREADS: Final = 40
"""Requests that are in the application at once; the others wait. As many as Starlette and anyio allow."""
_BODY_MEMORY_BYTES: Final = 1_048_576
"""A request body beyond this is spooled to disk."""


class WsgiBridge:
    """``app`` (WSGI), callable as ASGI."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="micropaywall-wsgi")

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Serve one request; the lifespan protocol is answered, WebSockets are closed."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011})
        elif scope["type"] == "http":
            with tempfile.SpooledTemporaryFile(_BODY_MEMORY_BYTES) as body:
                await _spool(receive, body)
                loop = asyncio.get_running_loop()
                run = _Run(self.app, environ_of(scope, body), send, loop)
                await loop.run_in_executor(self._threads, run)

    async def _lifespan(self, receive: _Receive, send: _Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self._threads.shutdown(wait=False)
                return


class _Run:
    """One request in its thread."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        environ: _Environ,
        send: _Send,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._app = app
        self._environ = environ
        self._send_async = send
        self._loop = loop
        self._start: _Message | None = None
        self._sent = False

    def __call__(self) -> None:
        chunks = self._app(self._environ, self._start_response)
        try:
            for chunk in chunks:
                self._write(chunk)
            if not self._sent:
                self._write(b"", last=True)
            else:
                self._send({"type": "http.response.body", "body": b""})
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self._sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._start is not None and exc_info is None:
            raise RuntimeError("the application called start_response twice")
        self._start = {
            "type": "http.response.start",
            "status": int(status.split(" ", 1)[0]),
            "headers": [(name.strip().lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
        return self._write

    def _write(self, chunk: bytes, *, last: bool = False) -> None:
        if not chunk and not last:
            return
        if not self._sent:
            if self._start is None:
                raise RuntimeError("the application gave a body without calling start_response")
            self._sent = True
            self._send(self._start)
        self._send({"type": "http.response.body", "body": chunk, "more_body": not last})

    def _send(self, message: _Message) -> None:
        """Hand a message to the event loop and wait: the application goes no faster than its client reads."""
        asyncio.run_coroutine_threadsafe(_awaited(self._send_async(message)), self._loop).result()


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _spool(receive: _Receive, body: IO[bytes]) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body.write(message.get("body", b""))
        more = message.get("more_body", False)
    body.seek(0)


def environ_of(scope: MutableMapping[str, Any], body: IO[bytes]) -> _Environ:
    """The WSGI environ of an ASGI scope. Names and values are bytes in disguise: latin-1, as PEP 3333 asks."""
    root = scope.get("root_path", "")
    path = scope["path"]
    inner = path[len(root) :] if root and path.startswith(root) else path
    server = scope.get("server") or ("localhost", 80)
    environ: _Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.encode("utf-8", "surrogateescape").decode("latin-1"),
        "PATH_INFO": inner.encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "RAW_URI": (scope.get("raw_path") or b"").decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "micropaywall.payment": scope.get("micropaywall.payment"),
    }
    if scope.get("client"):
        environ["REMOTE_ADDR"] = scope["client"][0]
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        if b"_" in raw_name:
            continue  # HTTP_X_Y would be either X-Y or X_Y, and a client could pass one for the other
        key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        joiner = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{joiner}{value}" if key in environ else value
    return environ
