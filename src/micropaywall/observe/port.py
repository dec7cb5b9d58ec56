"""Who is told: one method."""

from __future__ import annotations

from typing import Final, Protocol

from micropaywall.observe.events import Event

__all__ = ["SILENT", "Observer", "Silent"]


class Observer(Protocol):
    """Told of every event, synchronously and on the hot path: return quickly, never block. See also `observe.together`."""

    def notify(self, event: Event, /) -> None:
        """Take note of ``event``."""
        ...


class Silent:
    """Takes no note. Callers may test for `SILENT` to spare themselves the making of events."""

    def notify(self, event: Event, /) -> None:
        """Do nothing."""


SILENT: Final = Silent()
