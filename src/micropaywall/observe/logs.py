"""Events as records of the standard library's logging, under the logger ``micropaywall``; and two formats for our programs.

A library must not choose its host's logger: `LogObserver` only emits, with the facts in ``record.facts`` for structured
formatters. `set_up` is for the command line and the server, which own their process.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from micropaywall.observe.events import Event, Severity

__all__ = ["JsonFormatter", "LogObserver", "TextFormatter", "set_up"]

LEVELS: Final[dict[Severity, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
VALUE_CHARS_MAX: Final = 500
"""A value in a line: details come from rails, and a rail's answer may be long."""
_BARE: Final = re.compile(r"[A-Za-z0-9_.:/@+{}-]+", re.ASCII)


class LogObserver:
    """Logs each event at its severity: ``settled payment_id=pay_… transaction=0x…``."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("micropaywall")

    def notify(self, event: Event, /) -> None:
        """Emit one record."""
        level = LEVELS[event.severity]
        if self._logger.isEnabledFor(level):
            facts = event.facts()
            line = " ".join([event.name, *(f"{name}={_quoted(value)}" for name, value in facts.items())])
            self._logger.log(level, "%s", line, extra={"event": event.name, "facts": facts})


class TextFormatter(logging.Formatter):
    """``2027-01-15T08:00:00.000Z info settled payment_id=… …``: one line a record; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        text = f"{_time(record)} {record.levelname.lower()} {_one_line(record.getMessage())}"
        if record.exc_info:
            text += " exception=" + _quoted(self.formatException(record.exc_info), limit=20_000)
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``event`` or ``message``, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        members: dict[str, object] = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        event = getattr(record, "event", None)
        if event is None:
            members["message"] = record.getMessage()
        else:
            members["event"] = event
            members.update({name: _cut(value) for name, value in getattr(record, "facts", {}).items()})
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return json.dumps(members, ensure_ascii=False, default=str)


def set_up(level: Severity, style: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Log ``micropaywall`` to ``stream`` (standard error) from ``level`` on. Calling it again replaces what it did before."""
    logger = logging.getLogger("micropaywall")
    for handler in [known for known in logger.handlers if getattr(known, "set_up_by_micropaywall", False)]:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.set_up_by_micropaywall = True  # type: ignore[attr-defined]
    logger.addHandler(handler)
    logger.setLevel(LEVELS[level])
    logger.propagate = False


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{record.msecs:03.0f}Z"


def _cut(value: object) -> object:
    return value[:VALUE_CHARS_MAX] + "…" if isinstance(value, str) and len(value) > VALUE_CHARS_MAX else value


def _quoted(value: object, limit: int = VALUE_CHARS_MAX) -> str:
    """A value for key=value: bare when it is a plain word, else a JSON string, so that it cannot forge a line or a key."""
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + "…"
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text)
