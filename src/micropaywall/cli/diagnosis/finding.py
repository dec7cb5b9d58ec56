"""A finding: something that was looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from micropaywall.cli.output import Output
from micropaywall.cli.screen import plain

__all__ = ["Finding", "Level", "bad", "good", "note", "show", "warn"]

Level = Literal["good", "note", "warn", "bad"]
_SIGNS: dict[Level, tuple[str, str]] = {
    "good": ("✓", "green"),
    "note": ("·", "dim"),
    "warn": ("!", "yellow"),
    "bad": ("✗", "red"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """``name`` is stable, for programs; ``text`` one sentence; ``hint`` what to do. Only ``bad`` makes a check fail."""

    name: str
    level: Level
    text: str
    hint: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """The finding as JSON."""
        members: dict[str, object] = {"name": self.name, "level": self.level, "text": self.text}
        if self.hint:
            members["hint"] = self.hint
        return members | dict(self.facts)


def good(name: str, text: str, **facts: object) -> Finding:
    """As it should be."""
    return Finding(name, "good", text, None, facts)


def note(name: str, text: str, hint: str | None = None, **facts: object) -> Finding:
    """Worth knowing."""
    return Finding(name, "note", text, hint, facts)


def warn(name: str, text: str, hint: str | None = None, **facts: object) -> Finding:
    """Works, but somebody may stumble over it."""
    return Finding(name, "warn", text, hint, facts)


def bad(name: str, text: str, hint: str | None = None, **facts: object) -> Finding:
    """Does not work."""
    return Finding(name, "bad", text, hint, facts)


def show(out: Output, finding: Finding) -> None:
    """The finding for people: a sign, the sentence, and under it what to do."""
    sign, colour = _SIGNS[finding.level]
    lines = out.screen.wrap(out.screen.text(plain(finding.text)), indent="  ")
    lines[0] = f"{out.screen.style(out.screen.text(sign), colour)} {lines[0][2:]}"
    out.lines(lines)
    if finding.hint:
        arrow = out.screen.text("→ ")
        hint = out.screen.wrap(plain(finding.hint), indent="  " + " " * len(arrow), first="  " + arrow)
        out.lines(out.screen.style(line, "dim") for line in hint)
