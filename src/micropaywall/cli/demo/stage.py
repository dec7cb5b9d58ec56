"""Steps as they are told to people and to programs: each with what was seen, and what was checked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from micropaywall.cli.output import Output
from micropaywall.cli.screen import Column, plain

__all__ = ["Stage", "Step"]

_INDENT = "     "


@dataclass(slots=True)
class Step:
    """One step. It holds when it was checked, and every check held."""

    name: str
    title: str
    checks: list[tuple[str, bool]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """A step without a check proves nothing."""
        return bool(self.checks) and all(held for _, held in self.checks)


class Stage:
    """Where the demo plays."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._steps: list[Step] = []
        self._begun = time.monotonic()
        out.line("micropaywall: a seller, a buyer, and play money on a sandbox network", "bold")

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Step]:
        """One step, numbered; an error in it ends the demo."""
        step = Step(name, title)
        self._steps.append(step)
        begun = time.monotonic()
        self._out.line()
        self._out.line(f"{len(self._steps):>2}  {title}", "bold")
        try:
            yield step
        finally:
            step.seconds = round(time.monotonic() - begun, 3)

    def arrow(self, sign: str, text: str) -> None:
        """What happens: ``→`` from the buyer, ``←`` from the seller, ``!`` from outside."""
        if not self._out.as_json:
            colour = "yellow" if sign == "!" else "cyan"
            lines = self._out.screen.wrap(self._out.screen.text(plain(text)), indent=_INDENT + "  ")
            self._out.line(
                _INDENT + self._out.screen.style(self._out.screen.text(sign), colour) + lines[0][len(_INDENT) + 1 :]
            )
            self._out.lines(lines[1:])

    def say(self, text: str) -> None:
        """A sentence."""
        self._out.say(text, indent=_INDENT)

    def pairs(self, items: Iterable[tuple[str, str]]) -> None:
        """What was seen, by name."""
        self._out.pairs([(name, plain(value)) for name, value in items], indent=_INDENT + "  ")

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Rows of a book."""
        self._out.table(columns, rows, indent=_INDENT + "  ")

    def check(self, held: bool, text: str) -> None:
        """A claim, checked now."""
        self._steps[-1].checks.append((text, held))
        if not self._out.as_json:
            sign = self._out.screen.text("✓" if held else "✗")
            first = "   " + self._out.screen.style(sign, "green" if held else "red") + " "
            lines = self._out.screen.wrap(text, indent=_INDENT)
            self._out.line(first + lines[0][len(_INDENT) :])
            self._out.lines(lines[1:])

    def finish(self) -> bool:
        """The verdict; whether every step held."""
        held = all(step.held for step in self._steps)
        seconds = round(time.monotonic() - self._begun, 1)
        self._out.document(
            {
                "held": held,
                "seconds": seconds,
                "steps": [
                    {
                        "name": step.name,
                        "title": step.title,
                        "held": step.held,
                        "seconds": step.seconds,
                        "checks": [{"claim": text, "held": ok} for text, ok in step.checks],
                        "facts": step.facts,
                    }
                    for step in self._steps
                ],
            }
        )
        checks = [ok for step in self._steps for _, ok in step.checks]
        self._out.line()
        if held:
            self._out.line(f"All {len(checks)} checks held, in {seconds} s.", "bold", "green")
            self._next()
        else:
            self._out.line(
                f"{checks.count(False)} of {len(checks)} checks failed. That is a defect: please report it.", "red"
            )
        return held

    def _next(self) -> None:
        self._out.line()
        self._out.line("Next:", "bold")
        self._out.commands(
            [
                ("micropaywall serve --sandbox", "a seller that stays"),
                ("micropaywall get http://localhost:3000/api/resource", "in another terminal"),
                ("micropaywall ledger list", "the seller's book"),
                ("micropaywall doctor http://localhost:3000/", "any 402, explained"),
            ]
        )
