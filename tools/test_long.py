"""`make test-long`: every test with full counts, then the coverage-guided fuzzer; the result goes into docs/test-long.md.

python tools/test_long.py                       about an hour: 30 minutes of it are the fuzzer
python tools/test_long.py --fuzz-minutes 5 --seed 7
python tools/test_long.py --only fuzz           one part; the page keeps what it says of the other
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "test-long.md"
SECONDS_PER_TEST: Final = 3_600
PARTS: Final = ("tests", "fuzz")


@dataclass(frozen=True)
class Row:
    """One line of the page. ``count`` is what was done: tests, or inputs tried."""

    part: str
    what: str
    count: str
    result: str
    seconds: float
    seed: str
    date: str


def run_tests(seed: int, arguments: list[str]) -> Iterator[Row]:
    """All tests, those marked ``long`` too, with the Hypothesis profile ``long``; a row for each tier."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "report.xml")
        command = [
            sys.executable, "-m", "pytest", "-m", "", "-q", f"--junitxml={report}", f"--hypothesis-seed={seed}",
            "-o", f"timeout={SECONDS_PER_TEST}", *arguments,
        ]  # fmt: skip
        environment = {
            **_environment(),
            "HYPOTHESIS_PROFILE": "long",
            "MICROPAYWALL_REQUIRE_ALL": "1",
            "MICROPAYWALL_TEST_SEED": str(seed),
        }
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if not report.is_file():
            yield _row("tests", "pytest", "0 tests", f"**did not run** (exit status {status})", 0.0, seed)
            return
        yield from tiers(report.read_text(encoding="utf-8"), seed)
        if status not in (0, 1):
            yield _row("tests", "pytest", "", f"**exit status {status}**", 0.0, seed)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def tiers(report: str, seed: int) -> Iterator[Row]:
    """Rows from pytest's JUnit report, by the folder below ``tests``."""
    counts: dict[str, int] = defaultdict(int)
    failed: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314  pytest's own file of a moment ago
        tier = (case.get("classname") or "").removeprefix("tests.").partition(".")[0] or "other"
        counts[tier] += 1
        failed[tier] += any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        seconds[tier] += float(case.get("time") or 0)
    for tier in sorted(counts):
        result = f"**{failed[tier]} failed**" if failed[tier] else "all passed"
        yield _row("tests", tier, f"{counts[tier]:,} tests", result, seconds[tier], seed)


def run_fuzzer(minutes: float) -> Iterator[Row]:
    """LibFuzzer over everything that is read from strangers, corpus kept."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="micropaywall-findings-") as findings, tempfile.TemporaryFile("w+") as said:
        command = [
            sys.executable, "-m", "tests.fuzz.fuzz_wire", "--seconds", str(round(minutes * 60)), "--keep", "--findings", findings,
        ]  # fmt: skip
        print(f"fuzzing for {minutes:g} minutes", flush=True)
        status = subprocess.run(
            command, cwd=ROOT, env=_environment(), stdout=said, stderr=subprocess.STDOUT, check=False
        ).returncode
        said.seek(0)
        text = said.read()
        result = "nothing found"
        if status != 0:
            kept = [file.name for file in Path(findings).iterdir()]
            for file in Path(findings).iterdir():
                (ROOT / ".cache").mkdir(exist_ok=True)
                (ROOT / ".cache" / file.name).write_bytes(file.read_bytes())
            result = f"**exit status {status}** {' '.join(kept)}"
            print(text[-4_000:])
    yield fuzz_row(text, result, time.monotonic() - started)


def fuzz_row(text: str, result: str, seconds: float) -> Row:
    """A row from what libFuzzer printed."""
    tried = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
    edges = re.findall(r"\bcov: (\d+)", text)
    seed = re.search(r"INFO: Seed: (\d+)", text)
    count = f"{int(tried[1]):,} inputs" if tried else "0 inputs"
    if not tried and not result.startswith("**"):
        result = "**no statistics**"
    if edges:
        count += f", {edges[-1]} edges"
    return _row("fuzz", "wire formats", count, result, seconds, int(seed[1]) if seed else "")


def _row(part: str, what: str, count: str, result: str, seconds: float, seed: int | str) -> Row:
    return Row(part, what, count, result, round(seconds, 1), str(seed), f"{datetime.now(UTC):%Y-%m-%d}")


# -- the page ---------------------------------------------------------------------------------------------------------

_DATA: Final = re.compile(r"^<!-- data: (.*) -->$", re.MULTILINE)


def page(rows: Iterable[Row], commit: str) -> str:
    """The page; its data stands in a comment, so that one part can be run anew."""
    rows = list(rows)
    failed = sum("**" in row.result for row in rows)
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    lines = [
        "# The last long run",
        "",
        "Written by `make test-long`: every test with full counts (Hypothesis with 5,000 examples each, the tests that are marked",
        "`long`), then the coverage-guided fuzzer over everything that is read from strangers, whose invariant is: it parses, or",
        "it is refused by a typed error.",
        "",
        f"Of commit `{commit}`, on {machine}. **{'Everything held.' if not failed else f'Failed: {failed} of {len(rows)}.'}**",
        "",
        "| part | what | how much | result | minutes | seed | date |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {r.part} | {r.what} | {r.count} | {r.result} | {r.seconds / 60:.1f} | {r.seed} | {r.date} |"
            for r in rows
        ),
        "",
        "`--seed` repeats the tests with the same seed; a finding of the fuzzer is replayed by",
        "`python -m tests.fuzz.fuzz_wire --replay FILE`.",
        "",
        f"<!-- data: {json.dumps([asdict(row) for row in rows])} -->",
    ]
    return "\n".join(lines) + "\n"


def rows_of(text: str) -> list[Row]:
    """The rows of a page that was written before."""
    match = _DATA.search(text)
    return [Row(**row) for row in json.loads(match[1])] if match else []


def main(arguments: list[str] | None = None) -> int:
    """Run and write the page; 1 when something failed."""
    parser = argparse.ArgumentParser(description="Run everything with full counts and write docs/test-long.md.")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="default: a new one")
    parser.add_argument("--fuzz-minutes", type=float, default=30.0)
    options, rest = parser.parse_known_args(arguments)
    parts = (options.only,) if options.only else PARTS
    old = rows_of(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else []
    rows = [row for row in old if row.part not in parts]
    print(f"seed {options.seed}", flush=True)
    if "tests" in parts:
        rows += run_tests(options.seed, rest)
    if "fuzz" in parts:
        rows += run_fuzzer(options.fuzz_minutes)
    rows.sort(key=lambda row: PARTS.index(row.part))
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    PAGE.write_text(page(rows, head.stdout.strip() or "unknown"), encoding="utf-8", newline="\n")
    print(f"written: {PAGE.relative_to(ROOT)}")
    return int(any("**" in row.result for row in rows if row.part in parts))


if __name__ == "__main__":
    raise SystemExit(main())
