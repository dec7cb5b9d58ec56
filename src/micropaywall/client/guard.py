"""Which addresses a buyer connects to. A URL that a program (or a model) was handed must not reach into the local network.

Names are resolved once, every resulting address is checked, and the connection is made to a checked address, so that a name
cannot mean one thing when it is checked and another when it is used (DNS rebinding). Loopback is reached only under a name
that can mean nothing else, and only when the program itself asked for it, not a redirect.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Final, Literal

from micropaywall.core.hosts import is_loopback_host, normal_host
from micropaywall.errors import AddressDenied

__all__ = ["AddressGuard", "Resolver"]

Resolver = Callable[[str, int], "Iterable[str]"]
"""(host, port) -> numeric addresses, in order of preference. Raises OSError."""
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def _v4(*networks: str) -> tuple[ipaddress.IPv4Network, ...]:
    return tuple(ipaddress.IPv4Network(network) for network in networks)


def _v6(*networks: str) -> tuple[ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.IPv6Network(network) for network in networks)


# IANA's special-purpose registries (RFC 6890), written out: what `ipaddress` calls global differs between Python releases.
_LOOPBACK_V4: Final = _v4("127.0.0.0/8")
_PRIVATE_V4: Final = _v4("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
_NEVER_V4: Final = _v4(
    "0.0.0.0/8",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
_PRIVATE_V6: Final = _v6("fc00::/7", "fe80::/10", "fec0::/10")
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NEVER_V6: Final = _v6("2001::/23", "2001:db8::/32", "3fff::/20")
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
"""Where clouds hand out credentials. Denied even where private addresses are allowed: nobody sells there."""


class AddressGuard:
    """The rules of one client. ``allow_private``: private, link-local, carrier-grade NAT and loopback may be reached."""

    def __init__(self, *, allow_private: bool = False, resolver: Resolver | None = None) -> None:
        self._allow_private = allow_private
        self.resolver = resolver or _resolve

    def check_hop(self, host: str, *, asked: str) -> None:
        """Accept the host of a URL that is about to be requested; ``asked`` is the one that the program asked for.

        Raises AddressDenied. What a name resolves to is checked when the connection is made.
        """
        name = normal_host(host)
        if is_loopback_host(name):
            if not (is_loopback_host(asked) or self._allow_private):
                raise AddressDenied(
                    "the request was redirected to this machine itself", expected=normal_host(asked), received=name
                )
            return
        if (address := _numeric(name)) is not None:
            self._check(name, address)

    def checked(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Those of ``addresses`` that may be connected to for ``host``; AddressDenied when there are some, but none may."""
        allowed: list[str] = []
        denied: AddressDenied | None = None
        for text in addresses:
            try:
                self._check(host, ipaddress.ip_address(text))
            except AddressDenied as error:
                denied = denied or error
            else:
                allowed.append(text)
        if not allowed and denied is not None:
            raise denied
        return allowed

    def _check(self, host: str, address: _IP) -> None:
        what = _what(address)
        if what == "" or (what == "private" and self._allow_private):
            return
        if what == "loopback" and (self._allow_private or is_loopback_host(host)):
            return
        raise AddressDenied(
            f"{host} is at {_PHRASES[what]}, which is not connected to",
            expected="a public address",
            received=str(address),
            hint=None if what == "never" else "If that is meant: Policy(allow_private_addresses=True).",
        )


_PHRASES: Final = {
    "loopback": "an address of this machine",
    "private": "a private or link-local address",
    "never": "an address that no seller has",
}


def _what(address: _IP) -> Literal["", "loopback", "private", "never"]:
    """What kind of address it is: "" for a public one. Forms that embed an IPv4 address count as that address."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = _embedded(address)
        if embedded is not None:
            return _what(embedded) or ("never" if address.teredo is not None else "")
    if address in _METADATA:
        return "never"
    if isinstance(address, ipaddress.IPv4Address):
        if any(address in network for network in _LOOPBACK_V4):
            return "loopback"
        if any(address in network for network in _PRIVATE_V4):
            return "private"
        return "never" if any(address in network for network in _NEVER_V4) else ""
    if address.is_loopback:
        return "loopback"
    if any(address in network for network in _PRIVATE_V6):
        return "private"
    return "" if address in _PUBLIC_V6 and not any(address in network for network in _NEVER_V6) else "never"


_NAT64: Final = _v6("64:ff9b::/96", "64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway or this machine's kernel would make of ``address``, or None."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    low = int(address) & 0xFFFFFFFF
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(low)
    if address in _COMPATIBLE and low > 1:
        return ipaddress.IPv4Address(low)
    return None


def _numeric(host: str) -> _IP | None:
    """The address that ``host`` is, also in the shapes that resolvers take (``127.1``, ``0x7f000001``, ``2130706433``)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
