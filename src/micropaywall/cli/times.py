"""Times on the command line: ``2027-01-15``, ``2027-01-15T08:00:00Z``, or so long ago: ``90s``, ``15m``, ``24h``, ``7d``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

__all__ = ["MOMENT", "Moment"]

_AGO: Final = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A time as milliseconds since the epoch. Without a zone it is in the machine's."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a time; a usage error when it is none."""
        if isinstance(value, int):
            return value
        now = datetime.now(UTC)
        if match := _AGO.fullmatch(value):
            return _ms(now - timedelta(**{_UNITS[match["unit"]]: int(match["number"])}))
        try:
            return _ms(datetime.fromisoformat(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; 2027-01-15, 2027-01-15T08:00:00Z or 24h (ago) are.", param, ctx)


MOMENT: Final = Moment()


def _ms(moment: datetime) -> int:
    return max(0, int(moment.timestamp() * 1000))
