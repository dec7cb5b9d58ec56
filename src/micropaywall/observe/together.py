"""Any number of observers as one, none of which can disturb a payment."""

from __future__ import annotations

import logging

from micropaywall.observe.events import Event
from micropaywall.observe.port import Observer

__all__ = ["Together"]


class Together:
    """Tells each observer. One that raises is logged, and the others and the payment go on."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def notify(self, event: Event, /) -> None:
        """Tell each."""
        for observer in self._observers:
            try:
                observer.notify(event)
            except Exception:  # a metrics library must not decide whether somebody is served
                logging.getLogger("micropaywall").exception("observer %s failed", type(observer).__name__)
