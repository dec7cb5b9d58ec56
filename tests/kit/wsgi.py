"""One request to a WSGI application, without a server, checked against PEP 3333 by the standard library's validator."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

from tests.kit.call import Response


def wsgi_call(
    app: Any,
    method: str = "GET",
    target: str = "/",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    host: str = "seller.test",
    raw: bool = True,
    leave_after: int | None = None,
) -> Response:
    """Send one request; ``raw`` tells the application the target as received (as gunicorn and werkzeug do).

    ``leave_after``: the client goes away after so many pieces of the body.
    """
    path, _, query = target.partition("?")
    if "://" in path:  # the absolute form; servers take the path out of it
        path = "/" + path.partition("://")[2].partition("/")[2]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "seller.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if raw:
        environ["REQUEST_URI"] = target
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in headers:
        environ["HTTP_" + name.decode().upper().replace("-", "_")] = value.decode()
    response = Response()

    def start_response(status: str, lines: list[tuple[str, str]], exc_info: Any = None) -> Any:
        response.status = int(status[:3])
        response.headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in lines]
        return response.pieces.append

    iterable = validator(app)(environ, start_response)
    try:
        for count, piece in enumerate(iterable):
            response.pieces.append(piece)
            if leave_after is not None and count + 1 >= leave_after:
                break
        else:
            response.complete = True
    finally:
        iterable.close()
    return response
