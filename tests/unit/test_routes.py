"""A path meets its price or is refused; it is never let through because it was written in another way."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micropaywall.core.routes import Route, RouteTable, make_route
from micropaywall.errors import AmbiguousPath, ConfigurationError, PriceError
from micropaywall.money import Price

ROUTES: dict[str, object] = {
    "GET /api/resource": "$0.001",
    "GET /": "$0.001",
    "/items/{id}": "$0.10",
    "GET /files/*": "0.01 USDC",
    "POST /docs/{name:path}": 1000,
    "/premium": "$5",
}
TABLE = RouteTable.of(ROUTES)  # type: ignore[arg-type]


def match(method: str, target: str, root_path: str = "") -> str | None:
    route = TABLE.match(method, target.encode("latin-1"), unquote(target), root_path)
    return route.name if route else None


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/resource", "GET /api/resource"),
        ("HEAD", "/api/resource", "GET /api/resource"),
        ("get", "/api/resource", "GET /api/resource"),
        ("options", "/api/resource", None),
        ("GET", "/api/resource/", "GET /api/resource"),
        ("GET", "/%61pi/resource", "GET /api/resource"),
        ("GET", "/", "GET /"),
        ("GET", "/items/7", "/items/{id}"),
        ("DELETE", "/items/7", "/items/{id}"),
        ("GET", "/items/a%20b", "/items/{id}"),
        ("GET", "/items/%C3%A9", "/items/{id}"),
        ("GET", "/files", "GET /files/*"),
        ("GET", "/files/a/b.txt", "GET /files/*"),
        ("GET", "/files/a%2Fb", "GET /files/*"),
        ("POST", "/docs/a/b", "POST /docs/{name:path}"),
        ("POST", "/api/resource", None),
        ("OPTIONS", "/api/resource", None),
        ("GET", "/health", None),
        ("GET", "/api", None),
        ("GET", "/api/resources", None),
    ],
)
def test_plain_paths_mean_one_route(method: str, target: str, expected: str | None) -> None:
    assert match(method, target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "//api/resource",
        "/api//resource",
        "/api/./resource",
        "/x/../api/resource",
        "/api/resource;x=1",
        "/api;x/resource",
        "/api%252Fresource",
        "/api/resource%00",
        "/api/resource%23",
        "/api/resource%3Fx",
        "/api\\resource",
        "/api%5Cresource",
        "/%2e%2e/api/resource",
        "/api/resource.",
        "/api/resource%20",
        "http://other/api/resource",
        "/files/../premium",
        "/files/..%2Fpremium",
        "/files/%2e%2e/premium",
    ],
)
def test_twisted_paths_are_refused_and_never_free(target: str) -> None:
    with pytest.raises(AmbiguousPath):
        match("GET", target)


def test_a_path_with_more_readings_than_can_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micropaywall.limits.PATH_READINGS_MAX", 3)
    with pytest.raises(AmbiguousPath, match="too many readings"):
        match("GET", "/a%252525252fb;c//d/./e")


def test_an_encoded_slash_that_the_framework_decodes_meets_the_price() -> None:
    assert match("GET", "/api%2Fresource") == "GET /api/resource"


def test_a_prefix_of_a_proxy_or_mount_meets_the_price() -> None:
    assert match("GET", "/v1/api/resource", "/v1") == "GET /api/resource"
    assert match("GET", "/v1", "/v1") == "GET /"


def test_a_refusal_is_remembered_without_growing_for_ever() -> None:
    table = RouteTable.of(ROUTES)  # type: ignore[arg-type]
    for number in range(10_000):
        table.match("GET", b"/nothing/%d" % number, f"/nothing/{number}")
    assert len(table._decisions) <= 4_096


ALIASES = st.lists(
    st.sampled_from(["/", "//", "/./", "/x/../", "%2F", "%252f", ";a", "\\", "%5c", "%00", "%2e", "."]), max_size=4
)


@given(ALIASES, ALIASES, ALIASES)
def test_whatever_normalises_to_a_priced_path_is_priced_or_refused(a: list[str], b: list[str], c: list[str]) -> None:
    target = "/" + "".join(a) + "premium" + "".join(b) + "".join(c)
    decoded = unquote(target)
    simple = "/" + "/".join(part for part in decoded.split("/") if part not in ("", "."))
    try:
        found = TABLE.match("GET", target.encode("latin-1"), decoded)
    except AmbiguousPath:
        return
    assert simple != "/premium" or found is not None


@pytest.mark.parametrize("name", ["api", "GET api", "FETCH /x", "", "HEAD,GET /x"])
def test_a_name_that_is_no_route_stops_the_start(name: str) -> None:
    with pytest.raises(ConfigurationError):
        RouteTable.of({name: "$1"})


def test_an_unknown_route_option_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="setle"):
        make_route("GET /x", {"price": "$1", "setle": "after"})


@pytest.mark.parametrize("price", ["0.001", 0.001, "$-1", "$0", "free", "$1e3", "$1,000", True, "0.5 sat"])
def test_a_price_that_could_be_misread_stops_the_start(price: object) -> None:
    with pytest.raises(PriceError):
        make_route("GET /x", price)  # type: ignore[arg-type]


def test_a_finished_route_is_taken_as_it_is() -> None:
    route = Route(name="GET /x", price=Price(__import__("decimal").Decimal(1), "USD"))
    assert make_route("GET /y", route) is route
