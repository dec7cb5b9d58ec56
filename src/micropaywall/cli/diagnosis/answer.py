"""An HTTP answer to look at: asked for now, or saved in a file (``curl -i URL > answer.txt``). Nothing is paid."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, Any, Final, cast
from urllib.parse import urljoin, urlsplit

from micropaywall import limits
from micropaywall.errors import ChallengeInvalid, ConfigurationError

__all__ = ["HttpAnswer", "fetch", "read_saved"]

_TIMEOUT_S: Final = 20.0
_BODY_BYTES_MAX: Final = limits.CHALLENGE_BODY_BYTES_MAX


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, raw header lines (names lower-cased) and the body's beginning.

    ``url`` is the one that answered ("" for a saved answer), ``hops`` the redirects on the way there. ``received_ms`` is our clock
    when the head came, None for a saved answer.
    """

    url: str
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    hops: tuple[str, ...] = ()
    received_ms: int | None = None

    def values(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    @property
    def header_bytes(self) -> int:
        """Size of the header block as a proxy has to buffer it (status line apart)."""
        return sum(len(name) + len(value) + 4 for name, value in self.headers)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_options: Any) -> None:
        return None


def fetch(url: str, *, method: str = "GET") -> HttpAnswer:
    """Ask ``url`` once, without a payment, following at most REDIRECTS_MAX redirects.

    Raises ConfigurationError for what is no URL, ChallengeInvalid when there is no answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("that is neither a URL nor a file", expected="http://… or https://…", received=url)
    opener = urllib.request.build_opener(_NoRedirects)
    hops: list[str] = []
    while True:
        request = urllib.request.Request(url, method=method, headers={"Accept": "application/json, */*"})  # noqa: S310
        answer = _ask(opener, request, tuple(hops))
        location = answer.values("location")
        if answer.status not in (301, 302, 303, 307, 308) or not location or len(hops) == limits.REDIRECTS_MAX:
            return answer
        url = urljoin(url, location[0])
        hops.append(url)
        if urlsplit(url).scheme not in ("http", "https"):
            return answer


def _ask(opener: urllib.request.OpenerDirector, request: urllib.request.Request, hops: tuple[str, ...]) -> HttpAnswer:
    try:
        try:
            response: IO[bytes] = opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:  # an answer too, as urllib sees it
            response = error
        with response:
            received_ms = time.time_ns() // 1_000_000
            body = response.read(_BODY_BYTES_MAX)
            head = cast("HTTPResponse", response)
            return HttpAnswer(request.full_url, int(head.status), _raw(head.headers.items()), body, hops, received_ms)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ChallengeInvalid(
            f"{request.full_url} does not answer: {getattr(reason, 'strerror', None) or reason}",
            hint="Is the server running, and is the address right?",
        ) from None


def _raw(items: Sequence[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in items)


def read_saved(path: Path) -> HttpAnswer:
    """The answer in a file as ``curl -i`` writes it; with several (redirects, 100 Continue) the last one counts."""
    with path.open("rb") as file:
        text = file.read(limits.CHALLENGE_HEADER_BYTES_MAX + _BODY_BYTES_MAX)
    while True:
        head, _, body = _split(text)
        lines = head.replace(b"\r\n", b"\n").split(b"\n")
        words = lines[0].split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise ConfigurationError(
                f"{path} is not a saved HTTP answer",
                expected="HTTP/1.1 402 Payment Required, headers, blank line, body",
            )
        if not body.startswith(b"HTTP/"):
            break
        text = body
    headers: list[tuple[bytes, bytes]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    return HttpAnswer("", int(words[1]), tuple(headers), body)


def _split(text: bytes) -> tuple[bytes, bytes, bytes]:
    found = [(text.find(mark), mark) for mark in (b"\r\n\r\n", b"\n\n") if mark in text]
    if not found:
        return text, b"", b""
    at, mark = min(found)
    return text[:at], mark, text[at + len(mark) :]
