"""Host names as a buyer compares them. Pure: nothing is resolved here."""

from __future__ import annotations

import ipaddress

from micropaywall.errors import ConfigurationError

__all__ = ["host_matches", "is_loopback_host", "normal_host"]


def normal_host(host: str) -> str:
    """A host name as it is compared: lower case, IDNA, without the root's dot, IPv6 without brackets."""
    text = host.strip().lower().removesuffix(".").strip("[]")
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise ConfigurationError("that is no host name", received=host[:100]) from None
    return text


def is_loopback_host(host: str) -> bool:
    """Whether a host, as written, can only mean this machine: ``localhost`` (RFC 6761), 127.0.0.0/8 or ::1."""
    name = normal_host(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_matches(pattern: str, host: str) -> bool:
    """Whether ``pattern`` (``api.example.com``, or ``*.example.com`` for all below) means ``host`` (normal)."""
    if pattern.startswith("*."):
        return host.endswith("." + normal_host(pattern[2:]))
    return host == normal_host(pattern)
