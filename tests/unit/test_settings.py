"""The configuration: what is read, what wins, what is refused, and what is never shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micropaywall
from micropaywall.clock import ManualClock
from micropaywall.errors import ConfigurationError, PriceError, RailError
from micropaywall.rails import registry
from micropaywall.sandbox import rail
from micropaywall.settings import (
    RAIL_SETTINGS,
    BudgetSettings,
    Loaded,
    RouteSettings,
    SandboxRail,
    Settings,
    lines,
    load_settings,
    routes,
)
from micropaywall.settings.check import check
from micropaywall.settings.load import _Reader
from micropaywall.settings.secrets import REDACTED, shown

PAY_TO = "0x" + "ab" * 20
KEY = "0x" + "c0ffee" * 10 + "beef"

FULL = f"""
[seller]
pay_to = "{PAY_TO}"
public_url = "https://api.example.com"
trusted_proxies = ["10.0.0.0/8", "::1"]
settle = "before"
binding = "required"
handler_timeout_s = 7

[[seller.routes]]
method = "GET"
path = "/api/resource"
price = "$0.001"
rails = ["sandbox"]

[[seller.routes]]
path = "/items/{{id}}"
price = 2500
settle = "deferred"
binding = "strict"
max_body_bytes = 10
timeout_s = 3
exposure_atomic = 5
bind_body = true
description = "an item"
mime_type = "application/json"

[rails.sandbox]
initial_balance = "5"
finality_depth = 3
store = "play.db"

[ledger]
url = "sqlite:///book.db"
retention_days = 30

[server]
port = 8443
tls_cert = "cert.pem"
tls_key = "key.pem"

[buyer]
wallet = "robot"
allow_hosts = ["*.example.com"]
approve_above = "$1"

[[buyer.budgets]]
limit = "$5"
window = "day"

[log]
level = "debug"
"""


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str | None = None, /, flags: dict[str, object] | None = None, **environ: str) -> Loaded:
        file = None
        if text is not None:
            file = tmp_path / "settings.toml"
            file.write_text(text, encoding="utf-8")
        return load_settings(file, flags=flags, environ=environ)

    return load


def refused(load, text: str, kind: type[ConfigurationError] = ConfigurationError, **environ: str) -> ConfigurationError:
    with pytest.raises(kind) as caught:
        load(text, **environ)
    return caught.value


# -- what is read


def test_without_a_file_every_setting_has_its_default(load) -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert loaded.file is None
    assert {line.origin for line in lines(loaded)} == {"default"}


def test_a_full_file_is_read_into_types(load) -> None:
    settings = load(FULL).settings
    assert settings.seller.pay_to == PAY_TO
    assert settings.seller.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.rails == {"sandbox": SandboxRail(initial_balance="5", finality_depth=3, store="play.db")}
    assert settings.buyer.budgets[0].window == "day"
    assert settings.server.port == 8443


def test_routes_take_the_sellers_defaults_where_they_say_nothing(load) -> None:
    first, second = routes(load(FULL).settings.seller)
    assert first.name == "GET /api/resource"
    assert (first.settle, first.binding, first.timeout_s, first.rails) == ("before", "required", 7.0, ("sandbox",))
    assert (second.settle, second.binding, second.timeout_s) == ("deferred", "strict", 3.0)
    assert (second.name, second.max_body, second.exposure_atomic, second.bind_body) == ("/items/{id}", 10, 5, True)
    assert (second.description, second.mime_type) == ("an item", "application/json")


def test_a_route_may_allow_no_body_and_no_exposure_at_all(load) -> None:
    (route,) = routes(
        load('[[seller.routes]]\npath = "/a"\nprice = "$1"\nmax_body_bytes = 0\nexposure_atomic = 0').settings.seller
    )
    assert (route.max_body, route.exposure_atomic) == (0, 0)


def test_the_users_own_file_is_read_when_none_is_named(micropaywall_home: Path) -> None:
    micropaywall_home.mkdir()
    (micropaywall_home / "micropaywall.toml").write_text("[server]\nport = 4000\n")
    assert load_settings().settings.server.port == 4000


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[server]\nport = 4001\n")
    loaded = load_settings(environ={"MICROPAYWALL_CONFIG": str(tmp_path / "x.toml")})
    assert (loaded.settings.server.port, loaded.file) == (4001, tmp_path / "x.toml")


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path / "absent.toml")


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbf[server]\nport = 4002\n")
    assert load_settings(tmp_path / "x.toml").settings.server.port == 4002


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"[server]\nhost = '\xff'\n")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_settings(tmp_path / "x.toml")


def test_a_file_that_is_not_toml_is_refused_with_the_line(load, tmp_path: Path) -> None:
    error = refused(load, "[server]\nport 4000\n")
    assert str(tmp_path / "settings.toml") in error.detail
    assert "line 2" in error.detail


# -- what wins


def test_flag_beats_environment_beats_file_beats_default(load) -> None:
    text = '[server]\nport = 1\nhost = "a"\nworkers = 2\n'
    loaded = load(
        text,
        flags={"server.port": 3, "server.workers": None},
        MICROPAYWALL_SERVER_PORT="2",
        MICROPAYWALL_SERVER_HOST="b",
    )
    server = loaded.settings.server
    assert (server.port, server.host, server.workers) == (3, "b", 2)
    origins = {line.key: line.origin for line in lines(loaded)}
    assert origins["server.port"] == "flag --port"
    assert origins["server.host"] == "environment MICROPAYWALL_SERVER_HOST"
    assert origins["server.workers"] == f"file {loaded.file}"
    assert origins["server.app"] == "default"


def test_lists_come_from_the_environment_separated_by_commas(load) -> None:
    loaded = load(
        "[seller]\ntrusted_proxies = ['::1', '::2']\n", MICROPAYWALL_SELLER_TRUSTED_PROXIES="10.0.0.1, 10.0.0.2"
    )
    assert loaded.settings.seller.trusted_proxies == ("10.0.0.1", "10.0.0.2")
    assert loaded.origin("seller.trusted_proxies[0]").kind == "environment"


def test_rails_are_set_from_the_environment_by_name(load) -> None:
    loaded = load(
        "[rails.sandbox]\nfinality_depth = 2\nv1 = false\n",
        MICROPAYWALL_RAILS_SANDBOX_FINALITY_DEPTH="9",
        MICROPAYWALL_RAILS_SANDBOX_FAULTS="slow=2, flapping",
    )
    assert loaded.settings.rails["sandbox"] == SandboxRail(finality_depth=9, faults=("slow=2", "flapping"), v1=False)


@pytest.mark.parametrize("value", ["true", "1"])
def test_switches_are_read_from_text(load, value: str) -> None:
    assert load(None, MICROPAYWALL_SERVER_ALLOW_PLAIN_HTTP=value).settings.server.allow_plain_http is True


def test_an_unknown_variable_of_a_section_is_refused_with_a_hint(load) -> None:
    with pytest.raises(ConfigurationError, match=r"MICROPAYWALL_SERVER_PROT: server\.prot") as caught:
        load(None, MICROPAYWALL_SERVER_PROT="1")
    assert caught.value.hint == "Did you mean 'port'?"


def test_a_variable_for_a_rail_that_does_not_exist_is_refused(load) -> None:
    with pytest.raises(RailError, match="MICROPAYWALL_RAILS_NOPE_STORE"):
        load(None, MICROPAYWALL_RAILS_NOPE_STORE="1")


def test_variables_that_are_no_settings_are_left_alone(load) -> None:
    assert (
        load(None, MICROPAYWALL_HOME="/x", MICROPAYWALL_REQUIRE_ALL="1", MICROPAYWALL_PASSPHRASE="p").settings
        == Settings()
    )


# -- ${VAR}


def test_variables_are_expanded_with_defaults_and_a_way_to_write_them_literally(load) -> None:
    text = (
        '[server]\nhost = "${H}"\nport = "${P:-5000}"\napp = "${A:-}"\n[[seller.routes]]\npath="/$${x}"\nprice="$0.5"\n'
    )
    settings = load(text, H="h", P="").settings
    assert (settings.server.host, settings.server.port, settings.server.app) == ("h", 5000, "")
    assert (settings.seller.routes[0].path, settings.seller.routes[0].price) == ("/${x}", "$0.5")


def test_a_variable_that_is_set_and_empty_is_empty(load) -> None:
    assert load('[server]\napp = "${A}"', A="").settings.server.app == ""


def test_a_missing_variable_is_refused_by_name(load, tmp_path: Path) -> None:
    error = refused(load, '[server]\nhost = "${NOPE}"')
    assert error.detail == f"{tmp_path / 'settings.toml'}: server.host: the environment has no variable NOPE"


@pytest.mark.parametrize("broken", ["${", "${}", "${1}", "${A", "${A-b}", "${A B}"])
def test_a_broken_expansion_is_refused(load, broken: str) -> None:
    assert "server.host" in refused(load, f"[server]\nhost = '{broken}'", A="x").detail


def test_an_expanded_value_cannot_change_the_file(load) -> None:
    evil = '"\nport = 1\n[buyer]\nkill_switch = true #${H}'
    settings = load('[server]\nhost = "${H}"', H=evil).settings
    assert settings.server.host == evil
    assert settings.server.port == 3000


def test_show_marks_values_that_name_a_variable(load) -> None:
    loaded = load('[server]\nhost = "${H}"\n', H="h")
    assert next(line for line in lines(loaded) if line.key == "server.host").origin.endswith("(with a variable)")


# -- what is refused


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("[servr]\nport = 1", "servr", "server"),
        ("[server]\nprot = 1", "server.prot", "port"),
        ("[[seller.routes]]\npath = '/'\nprice = 1\nbindin = 'first'", "seller.routes[0].bindin", "binding"),
        ("[[buyer.budgets]]\nlimit = 1\nwindows = 'day'", "buyer.budgets[0].windows", "window"),
        ("port = 1", "port", None),
    ],
)
def test_an_unknown_key_is_an_error_that_names_file_key_and_the_likely_slip(load, tmp_path, text, where, hint) -> None:
    error = refused(load, text)
    assert error.detail == f"{tmp_path / 'settings.toml'}: {where}: there is no such setting"
    assert error.hint == (f"Did you mean {hint!r}?" if hint else None)
    assert error.received == where.rpartition(".")[2]


@pytest.mark.parametrize(
    ("text", "where", "expected", "received"),
    [
        ("[server]\nport = 'x'", "server.port", "a whole number", "x"),
        ("[server]\nport = 65536", "server.port", "a whole number <= 65535", 65536),
        ("[server]\nport = true", "server.port", "a whole number", True),
        ("[server]\nhost = 1", "server.host", "text", 1),
        ("[seller]\ntrusted_proxies = '::1'", "seller.trusted_proxies", "a list", "::1"),
        ("[seller]\nsettle = 'later'", "seller.settle", "one of after, before, deferred", "later"),
        ("[[seller.routes]]\npath = '/'\nprice = 0.5", "seller.routes[0].price", "a whole number or text", 0.5),
        ("[[seller.routes]]\npath = '/'", "seller.routes[0]", "it lacks price", {"path": "/"}),
        ("[[seller.routes]]\npath = '/'\nprice=1\nmethod='HEAD'", "seller.routes[0].method", None, "HEAD"),
        ("server = 5", "server", "a table", 5),
        ("[server]\ntls_cert = 'c'", "server.tls_key", "both tls_cert and tls_key", "only one of them"),
        ("[server]\ntls_key = 'c'", "server.tls_cert", "both tls_cert and tls_key", "only one of them"),
        ("[server]\napp = 'main.py'", "server.app", "module:attribute", "main.py"),
        ("[seller]\npay_to = '0x12'", "seller.pay_to", "0x and 40 hex digits", "0x12"),
        ("[seller]\ntrusted_proxies = ['a']", "seller.trusted_proxies[0]", None, "a"),
        ("[seller]\npublic_url = 'ftp://x'", "seller.public_url", None, "ftp://x"),
        ("[seller]\npublic_url = 'https://x/path'", "seller.public_url", None, "https://x/path"),
        ("[seller]\npublic_url = 'https://x:99999'", "seller.public_url", None, "https://x:99999"),
        ("[ledger]\nurl = 'mysql://x'", "ledger.url", "sqlite:///path/to/ledger.db", "mysql://x"),
        ("[ledger]\nurl = 'book.db'", "ledger.url", "sqlite:///path/to/ledger.db", "book.db"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_file_key_expected_and_received(
    load, tmp_path: Path, text: str, where: str, expected: str | None, received: object
) -> None:
    error = refused(load, text)
    assert error.detail.startswith(f"{tmp_path / 'settings.toml'}: {where}: ")
    assert error.received == received
    if expected is not None:
        assert error.expected == expected


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgresql_is_refused_as_not_available_yet(load, scheme: str) -> None:
    error = refused(load, f"[ledger]\nurl = '{scheme}://user:hunter2@db/pay'")
    assert "not available yet" in error.detail
    assert "hunter2" not in json.dumps(error.problem())


@pytest.mark.parametrize("price", ["0.001", "$0", "-1 USDC", "$1e3", "free"])
def test_a_price_that_cannot_be_read_is_refused_when_the_settings_are(load, price: str) -> None:
    for text, key in (
        (f"[[seller.routes]]\npath = '/'\nprice = '{price}'", "seller.routes[0].price"),
        (f"[[buyer.budgets]]\nlimit = '{price}'\nwindow = 'day'", "buyer.budgets[0].limit"),
        (f"[buyer]\napprove_above = '{price}'", "buyer.approve_above"),
    ):
        assert f"settings.toml: {key}: " in refused(load, text, PriceError).detail


def test_two_prices_for_one_route_are_refused(load) -> None:
    route = "[[seller.routes]]\nmethod = 'GET'\npath = '/a'\nprice = 1\n"
    assert "prices the same as seller.routes[0]" in refused(load, route + route).detail


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[rails.lightning]\n", "no such rail"),
        ("[rails]\nsandbox = 1\n", "a rail is a table"),
        ("rails = 5\n", "a table"),
        ("[rails.sandbox]\nfinalty_depth = 1\n", "no such setting"),
        ("[rails.sandbox]\nfinality_depth = 0\n", "a whole number >= 1"),
        ("[rails.sandbox]\ninitial_balance = 'lots'\n", "rails.sandbox.initial_balance"),
        ("[rails.sandbox]\ninitial_balance = '0.0000001'\n", "rails.sandbox.initial_balance"),
        ("[rails.sandbox]\nstore = 'redis://x'\n", "neither a file nor a URL"),
        ("[rails.sandbox]\nfaults = ['slowly']\n", "rails.sandbox.faults: there is no such sandbox fault"),
        ("[[seller.routes]]\npath = '/'\nprice = 1\nrails = ['base']\n", "no rail is called 'base'"),
    ],
)
def test_an_unknown_or_broken_rail_stops_the_start(load, text: str, what: str) -> None:
    assert what in refused(load, text, RailError).detail


def test_a_slip_in_the_name_of_a_rail_gets_a_hint(load) -> None:
    assert refused(load, "[rails.sandbx]\n").hint == "Did you mean 'sandbox'?"


def test_the_settings_know_the_same_rails_as_the_registry() -> None:
    assert sorted(RAIL_SETTINGS) == sorted(registry.names())


def test_the_sandboxs_settings_are_the_options_of_its_rail() -> None:
    assert set(SandboxRail.__struct_fields__) == rail._OPTIONS
    rail.open_rail(pay_to=None, options=msgspec.to_builtins(SandboxRail()), clock=ManualClock())


# -- what is never shown


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("buyer.passphrase", "correct horse", REDACTED),
        ("rails.base.private_key", "x", REDACTED),
        ("rails.ln.macaroon", "x", REDACTED),
        ("rails.base.api_key", "x", REDACTED),
        ("buyer.passphrase_file", "/run/secrets/pass", "/run/secrets/pass"),
        ("server.tls_key", "key.pem", "key.pem"),
        ("seller.pay_to", PAY_TO, PAY_TO),
        ("seller.pay_to", KEY, REDACTED),
        ("seller.pay_to", KEY[2:], REDACTED),
        ("server.tls_key", "-----BEGIN EC PRIVATE KEY-----\nabc", REDACTED),
        ("ledger.url", "postgresql://u:p%40ss@h/d", f"postgresql://u:{REDACTED}@h/d"),
        ("seller.routes", [{"token": "x", "path": "/"}], [{"token": REDACTED, "path": "/"}]),
        ("seller.trusted_proxies", ["::1", KEY], ["::1", REDACTED]),
        ("buyer.token", "", ""),
        ("server.port", 3000, 3000),
    ],
)
def test_what_looks_like_a_secret_is_hidden(key: str, value: object, expected: object) -> None:
    assert shown(key, value) == expected


def test_a_private_key_in_the_wrong_place_is_neither_shown_nor_in_the_error(load) -> None:
    error = refused(load, f"[seller]\npay_to = '{KEY}'")
    assert KEY[2:] not in json.dumps(error.problem())
    loaded = load(f"[buyer]\nwallet = '{KEY}'")
    assert KEY[2:] not in repr(lines(loaded))


_KEYS = sorted(
    {"rails", "sandbox", "x"}
    | set(Settings.SECTIONS)
    | {name for kind in (*Settings.SECTIONS.values(), SandboxRail) for name in kind.__struct_fields__}
)
_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.just("sandbox")
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
)


@given(st.dictionaries(st.sampled_from([*Settings.SECTIONS, "rails", "x"]), _TREES, max_size=4))
def test_any_tree_of_tables_is_read_or_refused_as_a_configuration_error(tree) -> None:
    reader = _Reader({})
    reader.values = tree
    try:
        check(reader.finish(None))
    except ConfigurationError:
        pass


# -- what every setting must have


def test_every_setting_has_a_description_and_every_section_a_docstring() -> None:
    sections = {**Settings.SECTIONS, "rails.sandbox": SandboxRail}
    for name, kind in sections.items():
        assert kind.__doc__, name
        for field in msgspec.inspect.type_info(kind).fields:
            assert isinstance(field.type, msgspec.inspect.Metadata), f"{name}.{field.name}"
            assert (field.type.extra_json_schema or {}).get("description"), f"{name}.{field.name} has no description"


def test_every_setting_is_read_by_the_program() -> None:
    """A setting that nobody reads is a promise that nobody keeps."""
    package = Path(micropaywall.__file__).parent
    text = "".join(
        file.read_text(encoding="utf-8")
        for file in package.rglob("*.py")
        if file.parent.name != "settings" or file.name == "check.py"
    )
    kinds = [*Settings.SECTIONS.values(), SandboxRail, RouteSettings, BudgetSettings]
    unread = {
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name in kind.__struct_fields__
        if not re.search(rf"""(?:\.|")\b{name}\b""", text)
    }
    assert unread == set()
