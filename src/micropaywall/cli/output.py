"""What a command says: laid out for people, or one JSON document for programs (``--json``). Errors go to standard error.

Results go to standard output; remarks (progress, receipts, hints) to standard error and only for people.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar

import click

from micropaywall.cli.screen import Column, Screen, plain, screen_of

__all__ = ["Output", "json_option", "local_time", "short_time", "to_json"]

F = TypeVar("F", bound=Callable[..., Any])


class Output:
    """The two streams of one command."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.screen: Screen = screen_of(self._out)
        self.err_screen: Screen = screen_of(self._err)

    # -- standard output ---------------------------------------------------------------------------------------------

    def document(self, value: object) -> None:
        """The one JSON document of this command; nothing for people."""
        if self.as_json:
            self._out.write(to_json(value, self._out) + "\n")
            self._out.flush()

    def line(self, text: str = "", *style: str) -> None:
        """A line for people; nothing with ``--json``. The text is already within the width, or must not be broken."""
        if not self.as_json:
            self._out.write(self.screen.style(self.screen.text(text), *style) + "\n")
            self._out.flush()

    def lines(self, lines: Iterable[str]) -> None:
        """Several of `line`."""
        for line in lines:
            self.line(line)

    def say(self, text: str, *, indent: str = "", first: str | None = None) -> None:
        """Sentences, wrapped."""
        self.lines(self.screen.wrap(text, indent=indent, first=first))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]], *, indent: str = "") -> None:
        """A table; a cell's control characters are taken out."""
        if not self.as_json:
            self.lines(self.screen.table(columns, rows, indent=indent))

    def pairs(self, items: Iterable[tuple[str, str]], *, indent: str = "  ") -> None:
        """``name  value`` lines."""
        if not self.as_json:
            self.lines(self.screen.pairs(items, indent=indent))

    def commands(self, rows: Sequence[tuple[str, str]], *, indent: str = "  ") -> None:
        """Commands to type, each with what it is for: beside it where there is room, else above it."""
        width = max(len(command) for command, _ in rows)
        beside = len(indent) + width + 4 + max(len(what) for _, what in rows) <= (self.screen.columns or 1_000)
        for command, what in rows:
            note = self.screen.style(f"# {what}", "dim")
            if beside:
                self.line(f"{indent}{command:<{width}}  {note}")
            else:
                self.line(indent + note)
                self.line(indent + command)

    def check(self, good: bool, text: str, hint: str | None = None) -> None:
        """A ✓ or ✗ line, with what to do next under a bad one."""
        sign = self.screen.style(self.screen.text("✓" if good else "✗"), "green" if good else "red")
        if not self.as_json:
            wrapped = self.screen.wrap(plain(text), indent="  ")
            wrapped[0] = f"{sign} {wrapped[0][2:]}"
            self.lines(wrapped)
            if hint:
                self.lines(
                    self.screen.style(line, "dim") for line in self.screen.wrap(hint, indent="    ", first="  → ")
                )

    # -- standard error ----------------------------------------------------------------------------------------------

    def remark(self, text: str = "", *style: str) -> None:
        """A line for people beside the result; nothing with ``--json``."""
        if not self.as_json:
            self._err.write(self.err_screen.style(self.err_screen.text(text), *style) + "\n")
            self._err.flush()

    def remark_pairs(self, items: Iterable[tuple[str, str]], *, indent: str = "  ") -> None:
        """``name  value`` lines beside the result."""
        if not self.as_json:
            for line in self.err_screen.pairs(items, indent=indent):
                self.remark(line)

    def problem(self, members: Mapping[str, object]) -> None:
        """An error: RFC 9457 JSON for programs, a few lines for people; always on standard error."""
        if self.as_json:
            self._err.write(to_json(members, self._err) + "\n")
        else:
            self._err.writelines(line + "\n" for line in problem_lines(members, self.err_screen))
        self._err.flush()


def problem_lines(members: Mapping[str, object], screen: Screen) -> list[str]:
    """An error for people: what happened, what was expected and what came, what to do."""
    title, detail = plain(str(members["title"])), plain(str(members["detail"]))
    head = screen.wrap(title, indent="  ")
    head[0] = screen.style(f"{screen.text('✗')} {head[0][2:]}", "red", "bold")
    lines = head if title == detail else [*head, *screen.wrap(screen.text(detail), indent="  ")]
    items = [(name, _value(members[name])) for name in ("expected", "received") if members.get(name) is not None]
    if members.get("moneyMoved") not in (None, "no"):
        moved = "yes" if members["moneyMoved"] == "yes" else "not known yet"
        items.append(("money moved", moved))
    if members.get("hint"):
        items.append(("what next", plain(str(members["hint"]))))
    items.append(("code", str(members["code"])))
    return lines + screen.pairs(items)


def _value(value: object) -> str:
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_value(item) for item in value)
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def to_json(value: object, stream: TextIO) -> str:
    """``value`` as JSON: indented on a terminal, one line elsewhere; escaped where the stream is not Unicode."""
    unicode = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not unicode, indent=2 if stream.isatty() else None, default=str)


def json_option(command: F) -> F:
    """``--json``, as the `Output` that the command's parameter ``out`` gets."""
    option = click.option(
        "--json",
        "out",
        is_flag=True,
        callback=lambda _context, _parameter, value: Output(as_json=value),
        help="Print JSON for programs; an error is a JSON problem (RFC 9457) on standard error.",
    )
    return option(command)


def local_time(ms: int) -> str:
    """A time for people, in their zone: ``2027-01-15 09:00:00``."""
    return _local(ms).strftime("%Y-%m-%d %H:%M:%S")


def short_time(ms: int) -> str:
    """A time for a table: of today the hour, else the day; never more than 11 columns."""
    moment = _local(ms)
    now = datetime.now(UTC).astimezone()
    if moment.date() == now.date():
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%m-%d %H:%M" if moment.year == now.year else "%Y-%m-%d")


def _local(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone()
