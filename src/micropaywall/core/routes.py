"""Which route a request means, and which requests could mean two things.

Middleware sees a path before the framework routes it, and the two may read it differently: ``/api%2Fresource``, ``//``,
``/./``, ``;x``, a backslash, double encoding, the absolute form of the target, a prefix that a proxy or a mount stripped.
Rule: a request is let through unpriced only when *no* reading of its path is a priced route. When the plain reading is the
priced route itself, the price is asked; when only a twisted reading is, the request is refused (AmbiguousPath).

Nothing here depends on which framework is behind; the tests run Starlette, FastAPI, Flask and Django.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from micropaywall import limits
from micropaywall.core.model import Binding, Request, SettleMode
from micropaywall.errors import AmbiguousPath, ConfigurationError
from micropaywall.money import Money, Price, parse_price

PriceSpec = str | int | Money | Price
PriceFunction = Callable[[Request], "PriceSpec | Awaitable[PriceSpec | None] | None"]
"""Sees the request (method, path, query, headers, and the body where the route says ``price_reads_body``); returns a price,
or None for a request that is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A priced endpoint. ``name`` is ``"GET /items/{id}"``, as it appears in the book.

    ``price`` is fixed, or a function of the request. ``max_body`` bounds the request body, which is held to fingerprint it.
    ``settle`` and ``binding`` are explained in `docs/concepts.md`. ``exposure_atomic`` caps what one payer may have unsettled
    in ``deferred`` mode, in atomic units of the asset paid.
    """

    name: str
    price: Price | PriceFunction
    settle: SettleMode = "after"
    binding: Binding = "first"
    bind_body: bool = False
    price_reads_body: bool = False
    description: str = ""
    mime_type: str = ""
    max_body: int = limits.REQUEST_BODY_BYTES_MAX
    timeout_s: float = limits.HANDLER_TIMEOUT_S
    exposure_atomic: int = limits.EXPOSURE_ATOMIC_DEFAULT
    rails: tuple[str, ...] = ()

    @property
    def quotes_body(self) -> bool:
        """Whether a 402 for this route depends on the request's body, which then has to be read first."""
        return self.price_reads_body or self.bind_body


def make_route(name: str, price: PriceSpec | PriceFunction | Mapping[str, object] | Route) -> Route:
    """A Route from what users write: a price, a function, or a mapping of Route's fields.

    Raises PriceError or ConfigurationError, naming the route.
    """
    if isinstance(price, Route):
        return price
    if isinstance(price, Mapping):
        options = dict(price)
        unknown = set(options) - {f for f in Route.__dataclass_fields__ if f != "name"}
        if unknown or "price" not in options:
            raise ConfigurationError(
                f"route {name!r}: " + (f"unknown option {min(unknown)!r}" if unknown else "there is no price"),
                expected=sorted(f for f in Route.__dataclass_fields__ if f != "name"),
            )
        given = options.pop("price")
        options["rails"] = tuple(options.get("rails", ()))  # type: ignore[arg-type]
    else:
        given, options = price, {}
    resolved = given if callable(given) else parse_price(given)  # type: ignore[arg-type]
    route = Route(name=name, price=resolved, **options)  # type: ignore[arg-type]
    if route.settle not in ("before", "after", "deferred"):
        raise ConfigurationError(
            f"route {name!r}: settle is one of before, after, deferred",
            expected="before, after, deferred",
            received=route.settle,
        )
    if route.binding not in ("first", "required", "strict"):
        raise ConfigurationError(
            f"route {name!r}: binding is one of first, required, strict",
            expected="first, required, strict",
            received=route.binding,
        )
    return route


def two_prices(route: Route) -> ConfigurationError:
    """For a request that is paid for and meets the price of ``route`` too: one payment never stands for two."""
    return ConfigurationError(
        "a request met two prices, and one payment cannot stand for both",
        expected="at most one price that is not free for each request",
        received=route.name,
        hint="Take one of the prices off: of the endpoint, of its router or of a dependency.",
    )


_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "QUERY"})
_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
_SEGMENT: Final = r"[A-Za-z0-9_\-~!$&'()*+,=:@]+(?:\.[A-Za-z0-9_\-~!$&'()*+,=:@]+)*"
_PLAIN: Final = re.compile(f"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?".encode(), re.ASCII)
"""Targets that every framework reads the same: no escapes, no empty, dot or parameter segments.

Written so that each byte can be matched in one way only: strangers choose the target, and a failing match must not try more.
"""


@dataclass(slots=True)
class RouteTable:
    """The priced routes of an application, matched by method and path; OPTIONS never matches.

    HEAD counts as GET, and so does every method that no route can name (TRACE, or an invented one): many applications
    answer those as they answer GET.
    """

    routes: tuple[tuple[str, str, re.Pattern[str], Route], ...] = ()
    _decisions: dict[tuple[str, bytes, str, str], Route | AmbiguousPath | None] = field(default_factory=dict)

    @classmethod
    def of(cls, routes: Mapping[str, PriceSpec | PriceFunction | Mapping[str, object]] | Iterable[Route]) -> RouteTable:
        """From ``{"GET /path": price, "/any-method/{id}": {...}}`` or from finished routes; first match wins."""
        items = routes.items() if isinstance(routes, Mapping) else ((route.name, route) for route in routes)
        return cls(tuple(_compile(name, make_route(name, value)) for name, value in items))

    def match(self, method: str, target: bytes, path: str, root_path: str = "") -> Route | None:
        """The route that this request must pay for, or None when no reading of it is priced.

        ``target`` is the raw path as received, without query; ``path`` what the framework will route, percent-decoded;
        ``root_path`` a prefix that a proxy or mount owns. Raises AmbiguousPath.
        """
        decision: Route | AmbiguousPath | None
        key = (method, target, path, root_path)
        try:
            decision = self._decisions[key]
        except KeyError:
            decision = self._decide(method, target, path, root_path)
            if len(self._decisions) >= limits.CHALLENGE_CACHE_ENTRIES_MAX:
                self._decisions.clear()
            if len(target) < 512:
                self._decisions[key] = decision
        if decision.__class__ is AmbiguousPath:
            # A new one each time: an exception that is raised again keeps the frames of every time before.
            raise copy.copy(decision)
        return decision  # type: ignore[return-value]

    def priced_path(self, target: bytes, path: str, root_path: str = "") -> bool:
        """Whether some method is priced at this path, in any reading of it: then OPTIONS is answered without a body."""
        if len(target) > limits.PATH_BYTES_MAX:
            return True
        readings = _readings(target, path, root_path)
        return readings is None or any(
            pattern.fullmatch(reading) for reading in readings for _, _, pattern, _ in self.routes
        )

    def _decide(self, method: str, target: bytes, path: str, root_path: str) -> Route | AmbiguousPath | None:
        method = method.upper()  # werkzeug serves "get" as GET
        if method == "OPTIONS" or not self.routes:
            return None
        if len(target) > limits.PATH_BYTES_MAX:
            return AmbiguousPath("the path is too long", expected=f"at most {limits.PATH_BYTES_MAX} bytes")
        method = method if method in _METHODS else "GET"
        plain = self._find(method, path) or self._find(method, _without(path, root_path))
        readings = _readings(target, path, root_path)
        others = [route for reading in readings or () if (route := self._find(method, reading)) not in (None, plain)]
        if not others and readings is not None:
            return plain
        if plain is None and len(set(map(id, others))) == 1 and _PLAIN.fullmatch(target):
            return others[0]  # only a prefix or a trailing slash apart: the framework redirects, or serves the same
        return AmbiguousPath(
            f"the path can also be read as the priced {others[0].name}" if others else "the path has too many readings",
            expected="the path as the 402 or the documentation writes it",
            received=path[:200],
            hint="Remove encoded or doubled slashes, dot segments, parameters and backslashes.",
        )

    def _find(self, method: str, path: str) -> Route | None:
        for verb, _, pattern, route in self.routes:
            if verb in ("", method) and pattern.fullmatch(path):
                return route
        return None


def _compile(name: str, route: Route) -> tuple[str, str, re.Pattern[str], Route]:
    method, _, path = name.strip().rpartition(" ")
    method = method.strip().upper()
    if method == "HEAD":
        method = "GET"
    if (method and method not in _METHODS) or not path.startswith("/"):
        raise ConfigurationError(
            f"{name!r} does not name a route",
            expected='"GET /path", "/path" for every method, "/items/{id}", "/files/{name:path}" or "/files/*"',
            received=name,
        )
    pattern, position = "", 0
    for found in _PARAMETER.finditer(path):
        pattern += re.escape(path[position : found.start()]) + (".*" if found[2] else "[^/]+")
        position = found.end()
    rest = path[position:]
    if rest.endswith("/*"):
        pattern += re.escape(rest[:-2]) + "(?:/.*)?"
    else:
        pattern += re.escape(rest.rstrip("/") if rest != "/" and position + len(rest) == len(path) else rest)
        pattern += "/?" if pattern else "/"
        if pattern == "//?":
            pattern = "/"
    return method, path, re.compile(pattern, re.DOTALL), route


def _without(path: str, root_path: str) -> str:
    """``path`` inside a mount or behind a proxy prefix (the reading of Starlette's get_route_path)."""
    if root_path and path.startswith(root_path):
        inner = path[len(root_path) :]
        if not inner or inner.startswith("/"):
            return inner or "/"
    return path


def _readings(target: bytes, path: str, root_path: str) -> set[str] | None:
    """Every path that some server, proxy or framework could make of this one; None when there are too many to say."""
    seen: set[str] = set()
    todo = [path, target.decode("latin-1")]
    if root_path:
        todo += [_without(text, root_path) for text in list(todo)] + [root_path.rstrip("/") + path]
    while todo:
        text = todo.pop()
        if text not in seen:
            if len(seen) == limits.PATH_READINGS_MAX:
                return None
            seen.add(text)
            todo += _one_step(text)
    return seen


def _one_step(text: str) -> Iterator[str]:
    if "://" in text[:12]:
        _, _, after = text.partition("://")
        yield "/" + after.partition("/")[2]
    if "?" in text:
        yield text.partition("?")[0]
    if "#" in text:
        yield text.partition("#")[0]
    if "%" in text:
        yield unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
        yield unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("latin-1")
    if "\\" in text:
        yield text.replace("\\", "/")
    if ";" in text:
        yield re.sub(r";[^/]*", "", text)
    if "//" in text:
        yield re.sub(r"/{2,}", "/", text)
    if "/." in text:
        yield _without_dots(text)
    if "\x00" in text:
        yield text.partition("\x00")[0]
    stripped = text.strip(" \t\r\n")
    if stripped != text:
        yield stripped
    if text.endswith((".", "/")) and len(text) > 1:
        yield text[:-1]


def _without_dots(text: str) -> str:
    kept: list[str] = []
    for segment in text.split("/")[1:]:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)
