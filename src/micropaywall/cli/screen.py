"""What a stream can show: width, colour, characters. And text made to fit it.

Text that came from elsewhere (a seller's error, a header, a file) is passed through `plain` before it reaches a terminal: a
control character in it could move the cursor or rewrite what was printed before.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

__all__ = ["Column", "Screen", "plain", "screen_of"]

PROSE_COLUMNS_MAX: Final = 100
"""Sentences are not set wider than this; longer lines are hard to read."""
_TERMINAL_COLUMNS_MIN: Final = 40
_GAP: Final = "  "
_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_ASCII: Final = {
    "✓": "ok",
    "✗": "X",
    "•": "*",
    "→": "->",
    "←": "<-",
    "·": "-",
    "…": "...",
    "–": "-",
    "│": "|",
    "×": "x",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. ``keep``: which end of a text survives when it must be cut (``"both"``: the middle goes).

    ``rigid``: it is not narrowed while another can be. ``spare``: it is left out when the terminal is too narrow for all.
    """

    title: str
    right: bool = False
    keep: str = "start"
    least: int = 8
    rigid: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Screen:
    """One stream. ``columns`` is None where nothing is cut: a file or a pipe."""

    columns: int | None = None
    colour: bool = False
    unicode: bool = True

    @property
    def prose_columns(self) -> int:
        """Width for sentences."""
        return min(self.columns or PROSE_COLUMNS_MAX, PROSE_COLUMNS_MAX)

    def style(self, text: str, *names: str) -> str:
        """``text`` in ``names`` ("bold", "dim", "red", "green", "yellow", "cyan"), or as it is without colour."""
        if not self.colour or not names or not text:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"

    def text(self, text: str) -> str:
        """``text`` with signs that this stream can encode."""
        if self.unicode:
            return text
        for sign, instead in _ASCII.items():
            text = text.replace(sign, instead)
        return text

    def wrap(self, text: str, *, indent: str = "", first: str | None = None) -> list[str]:
        """Sentences as lines within the width. ``first`` replaces the indent of the first line."""
        return textwrap.wrap(
            text,
            self.prose_columns,
            initial_indent=indent if first is None else first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [(indent if first is None else first).rstrip()]

    def fit(self, text: str, columns: int, *, keep: str = "start") -> str:
        """``text`` in at most ``columns``; what is left out is marked."""
        if width_of(text) <= columns:
            return text
        mark = self.text("…")
        room = max(columns - len(mark), 0)
        if keep == "both":
            head = (room + 1) // 2
            tail = room - head
            return _head(text, head) + mark + (_tail(text, tail) if tail else "")
        return mark + _tail(text, room) if keep == "end" else _head(text, room) + mark

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]], *, indent: str = "") -> list[str]:
        """Aligned lines under a header, never wider than the screen: the widest columns give way first."""
        cells = [[self.text(plain(cell)) for cell in row] for row in rows]
        shown = list(range(len(columns)))
        widths = self._widths(columns, cells, shown, len(indent))
        while widths is None:
            spare = [index for index in shown if columns[index].spare]
            if spare:
                shown.remove(spare[-1])
            widths = self._widths(columns, cells, shown, len(indent), force=not spare)
        header = self._row(
            [columns[index].title for index in shown], [columns[index] for index in shown], widths, indent
        )
        kept = [columns[index] for index in shown]
        lines = [self._row([row[index] for index in shown], kept, widths, indent) for row in cells]
        return [self.style(header, "dim"), *lines]

    def _widths(
        self, columns: Sequence[Column], cells: list[list[str]], shown: list[int], indent: int, *, force: bool = False
    ) -> list[int] | None:
        """Widths of the columns ``shown`` that fit the screen; None when they do not without harm, unless ``force``."""
        widths = [max([width_of(columns[index].title), *(width_of(row[index]) for row in cells)]) for index in shown]
        if self.columns is None:
            return widths
        room = self.columns - indent - len(_GAP) * (len(widths) - 1)
        while sum(widths) > room:
            soft = [
                place
                for place, index in enumerate(shown)
                if not columns[index].rigid and widths[place] > columns[index].least
            ]
            if not soft and not force:
                return None
            narrowed = max(soft or range(len(shown)), key=widths.__getitem__)
            if widths[narrowed] <= 1:
                break
            widths[narrowed] -= 1
        return widths

    def _row(self, row: Sequence[str], columns: Sequence[Column], widths: Sequence[int], indent: str) -> str:
        parts = []
        for text, column, width in zip(row, columns, widths, strict=True):
            fitted = self.fit(text, width, keep=column.keep)
            padding = " " * (width - width_of(fitted))
            parts.append(padding + fitted if column.right else fitted + padding)
        return (indent + _GAP.join(parts)).rstrip()

    def pairs(self, items: Iterable[tuple[str, str]], *, indent: str = "  ") -> list[str]:
        """``name  value`` lines, the values aligned and wrapped under themselves."""
        shown = [(name, self.text(value)) for name, value in items]
        width = max((len(name) for name, _ in shown), default=0)
        lines: list[str] = []
        for name, value in shown:
            first = f"{indent}{name:<{width}}{_GAP}"
            wrapped = self.wrap(value, indent=" " * len(first), first="\0" * len(first))
            wrapped[0] = indent + self.style(f"{name:<{width}}", "dim") + _GAP + wrapped[0][len(first) :]
            lines += wrapped
        return lines


def screen_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """What ``stream`` can show. ``NO_COLOR`` turns colour off, ``FORCE_COLOR`` on, ``COLUMNS`` sets the width.

    Sources: no-color.org, force-color.org; POSIX for COLUMNS.
    """
    terminal = stream.isatty()
    columns: int | None = None
    given = environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given):
        columns = max(int(given), _TERMINAL_COLUMNS_MIN)
    elif terminal:
        columns = max(shutil.get_terminal_size().columns, _TERMINAL_COLUMNS_MIN)
    colour = terminal and environ.get("TERM") != "dumb"
    if environ.get("FORCE_COLOR"):
        colour = True
    if environ.get("NO_COLOR"):
        colour = False
    return Screen(columns, colour, _encodes(stream))


def _encodes(stream: TextIO) -> bool:
    try:
        "✓✗•→←·…│".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plain(text: str) -> str:
    """``text`` without control characters and other signs that do not show (each becomes a space)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def width_of(text: str) -> int:
    """Columns that ``text`` takes: East Asian wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _head(text: str, columns: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _columns(char)
        if used > columns:
            return text[:index]
    return text


def _tail(text: str, columns: int) -> str:
    return _head(text[::-1], columns)[::-1]
