"""One sandbox chain for several machines: its calls over HTTP, on the standard library's server.

Whoever reaches the server can do everything that the sandbox can: make money, cancel authorizations, undo blocks. It is meant
for a developer's machine or a test network. On loopback it refuses requests that name another host, so that a web page in
the developer's browser cannot use it (DNS rebinding), and takes JSON bodies only (no cross-site forms).
"""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from micropaywall import limits
from micropaywall.core.hosts import is_loopback_host
from micropaywall.errors import MicropaywallError, RailError, RequestRefused
from micropaywall.sandbox.chain import Network
from micropaywall.sandbox.token import SANDBOX_NETWORK
from micropaywall.sandbox.wire import CALLS, PATH, decode, encode

__all__ = ["DEFAULT_PORT", "SandboxServer"]

DEFAULT_PORT: Final = 4020

POLL_S: Final = 0.05
"""How soon `close` is noticed."""

_log = logging.getLogger("micropaywall.sandbox")


class SandboxServer:
    """Serves ``network`` on ``host`` and ``port`` (0: any free one) in threads of its own, as a context manager or until `close`.

    ``url`` is what `open_network` takes.
    """

    def __init__(self, network: Network, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        try:
            self._http = _Server((host, port), _Handler)
        except OSError as error:
            raise RailError(f"the sandbox server cannot listen on {host}:{port}: {error.strerror or error}") from error
        self._http.network = network
        self._http.only_loopback = is_loopback_host(host)
        name = self._http.server_address[0]
        bare = name.decode() if isinstance(name, bytes | bytearray) else str(name)
        shown = f"[{bare}]" if ":" in bare else bare
        self.url = f"http://{shown}:{self._http.server_address[1]}"
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve in the background."""
        self._thread = threading.Thread(
            target=self._http.serve_forever,
            kwargs={"poll_interval": POLL_S},
            name="micropaywall-sandbox-http",
            daemon=True,
        )
        self._thread.start()

    def serve(self) -> None:
        """Serve until interrupted."""
        self._http.serve_forever()

    def close(self) -> None:
        """Stop listening; calls under way finish. The network stays open."""
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    network: Network
    only_loopback: bool


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "micropaywall-sandbox"
    sys_version = ""
    timeout = limits.SANDBOX_IDLE_S
    wbufsize = -1  # head and body in one packet: two of them wait for each other (Nagle, delayed acknowledgement)
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """What this is."""
        self._answer(200, {"network": SANDBOX_NETWORK, "calls": PATH})

    def do_POST(self) -> None:
        """One call."""
        try:
            self._answer(200, {"answer": self._call()})
        except MicropaywallError as error:
            problem = error.problem()
            if isinstance(error, RailError):
                problem["status"] = 400  # here it is the caller who asked for what cannot be
            self._answer(problem["status"], problem)
        except Exception:  # noqa: BLE001 - the request's top frame
            _log.exception("a call of the sandbox network failed")
            self._answer(500, RailError("the sandbox network failed").problem())

    def _call(self) -> Any:
        if self.server.only_loopback and not _names_loopback(self.headers.get("host", "")):
            raise _refuse(403, "this sandbox serves its own machine only")
        if self.headers.get_content_type() != "application/json":
            raise _refuse(415, "a call has a JSON body")
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > limits.SANDBOX_REQUEST_BYTES_MAX:
            self.close_connection = True  # what follows is not read
            raise _refuse(413, f"a call has a Content-Length of at most {limits.SANDBOX_REQUEST_BYTES_MAX}")
        body = self.rfile.read(int(length))
        name = self.path.removeprefix(PATH)
        call = CALLS.get(name)
        if call is None or not self.path.startswith(PATH):
            raise _refuse(404, "the sandbox network has no such call")
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            raise _refuse(400, "the body is not JSON") from None
        if not isinstance(given, dict) or set(given) != set(call.arguments):
            raise _refuse(400, f"{name} takes exactly: {', '.join(call.arguments) or 'nothing'}")
        arguments = {key: decode(form, given[key]) for key, form in call.arguments.items()}
        return encode(getattr(self.server.network, name)(**arguments))

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if status == 200 else "application/problem+json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        _log.debug(format, *args)


def _names_loopback(host: str) -> bool:
    try:
        return is_loopback_host(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _refuse(status: int, detail: str) -> RequestRefused:
    return RequestRefused(detail, facts={"status": status})
