"""What happens, told to whoever wants to know: one port, and adapters for logs, Prometheus and OpenTelemetry.

The adapters (`observe.logs`, `observe.prometheus`, `observe.opentelemetry`), and `observe.together` for several at once, are
imported by who uses them: this package itself is pure, and the core may speak of events.
"""

from __future__ import annotations

from micropaywall.observe.events import (
    Bought,
    Declined,
    Event,
    Offered,
    Paid,
    Recovered,
    Refunded,
    Refused,
    Rejected,
    Released,
    Reorganised,
    Replayed,
    Reserved,
    Served,
    Settled,
    Unknown,
)
from micropaywall.observe.port import SILENT, Observer, Silent

__all__ = [
    "SILENT",
    "Bought",
    "Declined",
    "Event",
    "Observer",
    "Offered",
    "Paid",
    "Recovered",
    "Refunded",
    "Refused",
    "Rejected",
    "Released",
    "Reorganised",
    "Replayed",
    "Reserved",
    "Served",
    "Settled",
    "Silent",
    "Unknown",
]
