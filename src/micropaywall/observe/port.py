"""Who is told: one method, any number of listeners, and none of them can disturb a payment."""

from __future__ import annotations

import logging
from typing import Final, Protocol

from micropaywall.observe.events import Event

__all__ = ["SILENT", "Observer", "Silent", "Together"]


class Observer(Protocol):
    """Told of every event, synchronously and on the hot path: return quickly, never block."""

    def notify(self, event: Event, /) -> None:
        """Take note of ``event``."""
        ...


class Silent:
    """Takes no note. Callers may test for `SILENT` to spare themselves the making of events."""

    def notify(self, event: Event, /) -> None:
        """Do nothing."""


SILENT: Final = Silent()


class Together:
    """Several observers as one. One that raises is logged, and the others and the payment go on."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def notify(self, event: Event, /) -> None:
        """Tell each."""
        for observer in self._observers:
            try:
                observer.notify(event)
            except Exception:  # a metrics library must not decide whether somebody is served
                logging.getLogger("micropaywall").exception("observer %s failed", type(observer).__name__)
