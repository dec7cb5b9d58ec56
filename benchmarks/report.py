"""What a benchmark found: rows for the table, targets held or missed, one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.load import Series


@dataclass(frozen=True)
class Row:
    """One line of a table; what does not apply is None.

    ``ratio`` is of requests per second to those of ``against``; ``cpu_ratio`` the same by CPU time per request, which other
    programs on the machine disturb less.
    """

    name: str
    rps: float | None = None
    cpu_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    against: str = ""
    note: str = ""
    runs: Sequence[float] = field(default_factory=tuple)

    @classmethod
    def of(cls, name: str, series: Series, base: Series | None = None, note: str = "") -> Row:
        """From a series of samples: medians, the rate of every run, and the share of ``base``'s rate."""
        return cls(
            name,
            rps=round(series.rps, 1),
            cpu_us=round(series.cpu_us, 2),
            p50_ms=round(series.p50_ms, 3),
            p99_ms=round(series.p99_ms, 3),
            ratio=None if base is None else round(series.ratio(base), 4),
            cpu_ratio=None if base is None else round(series.cpu_ratio(base), 4),
            against="" if base is None else base.name,
            note=note,
            runs=[round(sample.rps, 1) for sample in series.samples],
        )


@dataclass(frozen=True)
class Target:
    """A promise about speed, and what was found."""

    name: str
    found: float
    bound: float
    at_most: bool
    unit: str = ""

    @property
    def held(self) -> bool:
        return self.found <= self.bound if self.at_most else self.found >= self.bound


def at_least(name: str, found: float, bound: float, unit: str = "") -> Target:
    return Target(name, round(found, 4), bound, at_most=False, unit=unit)


def at_most(name: str, found: float, bound: float, unit: str = "") -> Target:
    return Target(name, round(found, 4), bound, at_most=True, unit=unit)


@dataclass(frozen=True)
class Section:
    """One table and its targets."""

    key: str
    title: str
    rows: Sequence[Row]
    targets: Sequence[Target]


def _share(row: Row) -> str:
    return f"{row.ratio:.2f} of {row.against} ({row.cpu_ratio:.2f} by CPU)"


def _number(value: float) -> str:
    """Four digits are enough, and large numbers are written out."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def render(sections: Sequence[Section]) -> str:
    """The tables as text for people."""
    lines: list[str] = []
    for section in sections:
        lines += ["", section.title, "-" * len(section.title)]
        timed = any(row.rps is not None for row in section.rows)
        if timed:
            lines.append(f"{'':52} {'req/s':>9} {'CPU µs':>7} {'p50 ms':>7} {'p99 ms':>7}  ratio")
        for row in section.rows:
            text = f"{row.name:52}"
            if timed:
                text += f" {_cell(row.rps, ',.0f'):>9} {_cell(row.cpu_us, '.1f'):>7}"
                text += f" {_cell(row.p50_ms, '.2f'):>7} {_cell(row.p99_ms, '.2f'):>7}"
            if row.ratio is not None:
                text += f"  {_share(row)}"
            if row.note:
                text += f"  {row.note}"
            lines.append(text.rstrip())
        for target in section.targets:
            sign = "at most" if target.at_most else "at least"
            verdict = "held" if target.held else "MISSED"
            lines.append(
                f"  {verdict:6} {target.name}: {_number(target.found)}{target.unit} ({sign} {target.bound:,g}{target.unit})"
            )
    return "\n".join(lines)


def save(path: Path, sections: Sequence[Section], about: dict[str, object]) -> None:
    """Everything as JSON, the machine included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        **about,
        "sections": [
            {
                "key": section.key,
                "title": section.title,
                "rows": [
                    {key: value for key, value in asdict(row).items() if value not in (None, "", [], ())}
                    for row in section.rows
                ],
                "targets": [{**asdict(target), "held": target.held} for target in section.targets],
            }
            for section in sections
        ],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


_BEGIN = "<!-- results: written by `make bench` -->"
_END = "<!-- end of results -->"


def markdown(sections: Sequence[Section], about: dict[str, object]) -> str:
    """The tables as Markdown, for the documentation."""
    machine = about["machine"]
    assert isinstance(machine, dict)
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"
    lines = [f"Measured on {about['date']}: {where}, Python {machine['python']}, SQLite {machine['sqlite']}."]
    for section in sections:
        timed = any(row.rps is not None for row in section.rows)
        lines += ["", f"### {section.title}", ""]
        if timed:
            lines += ["| | req/s | CPU µs | p50 ms | p99 ms | ratio |", "|---|---:|---:|---:|---:|---|"]
        else:
            lines += ["| | |", "|---|---|"]
        for row in section.rows:
            if timed:
                ratio = _share(row) if row.ratio is not None else row.note
                if row.ratio is not None and row.note:
                    ratio += f" ({row.note})"
                lines.append(
                    f"| {row.name} | {_cell(row.rps, ',.0f')} | {_cell(row.cpu_us, '.1f')} | {_cell(row.p50_ms, '.2f')} "
                    f"| {_cell(row.p99_ms, '.2f')} | {ratio} |"
                )
            else:
                lines.append(f"| {row.name} | {row.note} |")
        if section.targets:
            lines.append("")
        for target in section.targets:
            sign = "at most" if target.at_most else "at least"
            verdict = "held" if target.held else "**missed**"
            lines.append(
                f"- {target.name}: {_number(target.found)}{target.unit} ({sign} {target.bound:,g}{target.unit}), {verdict}"
            )
    return "\n".join(lines)


def write_page(page: Path, sections: Sequence[Section], about: dict[str, object]) -> None:
    """Put the tables between the marks of ``page``."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n\n{markdown(sections, about)}\n\n{_END}{after}")
