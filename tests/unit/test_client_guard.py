"""Which addresses are connected to, and that the guard is really in the pools of every client."""

from __future__ import annotations

from typing import Any

import httpcore
import httpx
import pytest

from micropaywall.client.guard import AddressGuard
from micropaywall.client.network import guard_transport
from micropaywall.errors import AddressDenied, ConfigurationError

GUARD = AddressGuard()
LOCAL = AddressGuard(allow_private=True)

PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "2606:4700:4700::1111",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "::ffff:8.8.8.8",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.1.1",
    "100.64.0.1",
    "fd00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "2002:c0a8:101::1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "ff02::1",
    "1::1",
]
LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1"]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    assert GUARD.checked("api.example.com", [address]) == [address]


@pytest.mark.parametrize("address", PRIVATE + LOOPBACK)
def test_the_local_network_is_reached_only_when_that_is_allowed(address: str) -> None:
    with pytest.raises(AddressDenied):
        GUARD.checked("api.example.com", [address])
    assert LOCAL.checked("api.example.com", [address]) == [address]


@pytest.mark.parametrize("address", NEVER)
def test_addresses_that_no_seller_has_are_never_reached(address: str) -> None:
    for guard in (GUARD, LOCAL):
        with pytest.raises(AddressDenied):
            guard.checked("api.example.com", [address])


def test_a_name_with_several_addresses_is_reached_at_those_that_are_allowed() -> None:
    assert GUARD.checked("h", ["10.0.0.1", "8.8.8.8", "127.0.0.1"]) == ["8.8.8.8"]
    assert GUARD.checked("h", []) == []
    with pytest.raises(AddressDenied) as caught:
        GUARD.checked("h", ["10.0.0.1", "127.0.0.1"])
    assert caught.value.received == "10.0.0.1"


def test_loopback_is_reached_under_a_name_that_can_mean_nothing_else() -> None:
    for host in ("localhost", "app.localhost", "127.0.0.1", "::1"):
        assert GUARD.checked(host, ["127.0.0.1"]) == ["127.0.0.1"]
    for host in ("evil.example", "127.0.0.1.nip.io", "127.1", "2130706433"):
        with pytest.raises(AddressDenied):
            GUARD.checked(host, ["127.0.0.1"])


def test_a_name_of_this_machine_is_no_way_into_the_local_network() -> None:
    with pytest.raises(AddressDenied):
        GUARD.checked("localhost", ["10.0.0.1"])


def test_a_redirect_to_this_machine_is_refused_unless_the_program_asked_for_this_machine() -> None:
    GUARD.check_hop("localhost", asked="127.0.0.1")
    LOCAL.check_hop("localhost", asked="api.example.com")
    GUARD.check_hop("api.example.com", asked="localhost")
    for host in ("localhost", "LOCALHOST.", "127.0.0.1", "[::1]"):
        with pytest.raises(AddressDenied):
            GUARD.check_hop(host, asked="api.example.com")


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "169.254.169.254"]
)
def test_numbers_in_every_shape_are_checked_before_anything_resolves_them(host: str) -> None:
    with pytest.raises(AddressDenied):
        GUARD.check_hop(host, asked="api.example.com")


def test_names_that_begin_with_a_digit_are_names() -> None:
    GUARD.check_hop("1and1.example", asked="x")
    GUARD.check_hop("8.8.8.8", asked="x")


# -- in the pools -----------------------------------------------------------------------------------------------------


class Inner:
    """A network backend that writes down where it was sent."""

    def __init__(self, *refuse: str) -> None:
        self.connected: list[str] = []
        self.refuse = refuse

    def connect_tcp(self, host: str, port: int, *_: Any) -> str:
        self.connected.append(host)
        if host in self.refuse:
            raise httpcore.ConnectError("refused")
        return f"stream to {host}"

    def sleep(self, _: float) -> None:
        pass


def backend(guard: AddressGuard, inner: Inner) -> Any:
    transport = httpx.HTTPTransport()
    transport._pool._network_backend = inner  # type: ignore[assignment]
    guard_transport(transport, guard, httpcore, (httpx.HTTPTransport,))
    wrapped = transport._pool._network_backend
    guard_transport(transport, guard, httpcore, (httpx.HTTPTransport,))
    assert transport._pool._network_backend is wrapped  # once is enough
    return wrapped


def test_a_name_that_changes_between_check_and_use_is_used_as_it_was_checked() -> None:
    """DNS rebinding: the second question would get another answer, and is never asked."""
    answers = iter([["93.184.216.34"], ["169.254.169.254"]])
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    inner = Inner()
    assert (
        backend(AddressGuard(resolver=resolver), inner).connect_tcp("rebind.example", 443) == "stream to 93.184.216.34"
    )
    assert asked == ["rebind.example"]
    assert inner.connected == ["93.184.216.34"]


def test_a_denied_address_is_not_even_tried() -> None:
    inner = Inner()
    guarded = backend(AddressGuard(resolver=lambda *_: ["10.0.0.1"]), inner)
    with pytest.raises(AddressDenied):
        guarded.connect_tcp("intranet.example", 80)
    assert inner.connected == []


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    inner = Inner("8.8.8.8")
    guarded = backend(AddressGuard(resolver=lambda *_: ["8.8.8.8", "10.0.0.1", "8.8.4.4"]), inner)
    assert guarded.connect_tcp("dns.example", 443) == "stream to 8.8.4.4"
    assert inner.connected == ["8.8.8.8", "8.8.4.4"]
    inner.refuse = ("8.8.8.8", "8.8.4.4")
    with pytest.raises(httpcore.ConnectError, match="refused"):
        guarded.connect_tcp("dns.example", 443)


def test_a_name_that_does_not_resolve_is_a_failed_connection() -> None:
    def fail(*_: Any) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(httpcore.ConnectError, match="no such host"):
        backend(AddressGuard(resolver=fail), Inner()).connect_tcp("nowhere.example", 443)
    with pytest.raises(httpcore.ConnectError, match="no address"):
        backend(AddressGuard(resolver=lambda *_: []), Inner()).connect_tcp("nowhere.example", 443)


def test_a_client_of_another_shape_is_refused_rather_than_left_unguarded() -> None:
    for change in ("pool", "backend"):
        transport = httpx.HTTPTransport()
        if change == "pool":
            del transport._pool
        else:
            transport._pool._network_backend = object()  # type: ignore[assignment]
        with pytest.raises(ConfigurationError, match="does not fit"):
            guard_transport(transport, GUARD, httpcore, (httpx.HTTPTransport,))


def test_transports_of_the_programs_own_are_left_alone() -> None:
    guard_transport(httpx.MockTransport(lambda _: httpx.Response(200)), GUARD, httpcore, (httpx.HTTPTransport,))
    guard_transport(None, GUARD, httpcore, (httpx.HTTPTransport,))


def test_a_proxy_is_the_users_own() -> None:
    transport = httpx.HTTPTransport(proxy="http://127.0.0.1:3128")
    before = transport._pool._network_backend
    guard_transport(transport, GUARD, httpcore, (httpx.HTTPTransport,))
    assert transport._pool._network_backend is before
