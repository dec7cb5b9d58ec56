"""PEP 3333's own words, and the few things that the application wrapper and an exchange both do with them."""

from __future__ import annotations

import http
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from micropaywall.core.model import Request, StoredResponse
from micropaywall.seller.paywall import Paywall

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


def paths_of(environ: Environ) -> tuple[str, bytes, str]:
    """(decoded path as the framework routes it, raw target without query, mount prefix)."""
    root = _decoded(environ.get("SCRIPT_NAME", ""))
    path = root + _decoded(environ.get("PATH_INFO", "")) or "/"
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    target = raw.encode("latin-1", "replace").partition(b"?")[0] if raw else quote(path).encode()
    return path, target, root


def _decoded(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def request_of(paywall: Paywall, environ: Environ) -> Request:
    """The Request of a WSGI environ, body unread."""
    path, target, _ = paths_of(environ)
    query = environ.get("QUERY_STRING", "")
    full = target.decode("latin-1") + (f"?{query}" if query else "")
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    headers = [
        (key[5:].replace("_", "-").lower().encode(), str(value).encode("latin-1", "replace"))
        for key, value in environ.items()
        if key.startswith("HTTP_")
    ]
    headers += [
        (key.replace("_", "-").lower().encode(), str(environ[key]).encode("latin-1", "replace"))
        for key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(key)
    ]
    url = paywall.url(environ.get("wsgi.url_scheme", "http"), host, full)
    return Request(
        environ["REQUEST_METHOD"], full.encode("latin-1", "replace"), path, url, headers, environ.get("REMOTE_ADDR", "")
    )


def respond(start_response: StartResponse, response: StoredResponse, method: str) -> list[bytes]:
    start_response(_status(response.status), [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.headers])
    return [] if method == "HEAD" else [response.body]


def _status(code: int) -> str:
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} Status"
