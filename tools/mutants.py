"""Take out each guard, one at a time, and see that its test then fails.

``tests/mutants.toml`` and ``tests/mutants.d/*.toml`` list the guards:

    [[mutant]]
    name = "reserve-before-handler"
    file = "src/micropaywall/core/paywall.py"
    find = '''...'''                # must stand in the file exactly once
    replace = '''...'''             # what takes the guard out
    test = "tests/unit/test_x.py::test_y"     # one node id or a list; must pass as it is, and fail with the mutation
    why = "without it, a payment is spent twice"
    money = true                    # part of `make mutants-money`, which CI runs
    timeout_s = 60                  # optional; a test that hangs has noticed, too

The working tree is never touched: each worker has a copy of the project in a temporary directory and mutates that.
Exit status 0: every mutant was noticed. 1: one survived. 2: one does not apply, or its test does not pass unmutated.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).resolve().parents[1]
TIMEOUT_S: Final = 120.0
_LINKED: Final = (".venv", ".cache", "node_modules")
"""Large, ignored, never mutated: linked into the copies instead of copied."""
_PYTEST_FAILED: Final = 1
_FIELDS: Final = frozenset({"name", "file", "find", "replace", "test", "why", "money", "timeout_s"})

Verdict = Literal["noticed", "timed out", "survived", "does not run", "does not apply", "test fails unmutated"]
GOOD: Final = frozenset({"noticed", "timed out"})


class ListError(Exception):
    """A list of mutants that cannot be used; the message names the file and the mutant."""


@dataclass(frozen=True)
class Mutant:
    """One guard and how it is taken out."""

    name: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    why: str
    money: bool = False
    timeout_s: float = TIMEOUT_S

    def applied(self, text: str) -> str | None:
        """``text`` without the guard; None when the guard is not there exactly once."""
        return text.replace(self.find, self.replace) if text.count(self.find) == 1 else None


@dataclass
class Result:
    """What became of one mutant. ``output`` is the test's, when something is wrong."""

    name: str
    verdict: Verdict
    seconds: float = 0.0
    output: str = field(default="", repr=False)


# -- the lists --------------------------------------------------------------------------------------------------------


def read_lists(root: Path) -> list[Mutant]:
    """All mutants of the project; ListError when an entry is incomplete or a name is used twice."""
    found: dict[str, Mutant] = {}
    for file in [root / "tests" / "mutants.toml", *sorted((root / "tests" / "mutants.d").glob("*.toml"))]:
        if not file.is_file():
            continue
        try:
            entries = tomllib.loads(file.read_text(encoding="utf-8")).get("mutant", [])
        except tomllib.TOMLDecodeError as error:
            raise ListError(f"{file.name}: {error}") from None
        for number, entry in enumerate(entries, 1):
            mutant = _mutant(entry, f"{file.name}: mutant {number}")
            if mutant.name in found:
                raise ListError(f"{file.name}: the name {mutant.name!r} is used twice")
            found[mutant.name] = mutant
    return list(found.values())


def _mutant(entry: dict[str, object], where: str) -> Mutant:
    where = f"{where} ({entry.get('name', 'no name')})"
    if unknown := set(entry) - _FIELDS:
        raise ListError(f"{where}: unknown {min(unknown)!r}")
    tests = entry.get("test", ())
    tests = (tests,) if isinstance(tests, str) else tuple(tests) if isinstance(tests, list) else ()
    texts = {name: entry.get(name) for name in ("name", "file", "find", "replace", "why")}
    for name, value in texts.items():
        if not isinstance(value, str) or (not value and name != "replace"):
            raise ListError(f"{where}: {name} is text")
    if not tests or not all(isinstance(test, str) and "::" in test for test in tests):
        raise ListError(f"{where}: test is a node id, tests/….py::test_…, or a list of them")
    if texts["find"] == texts["replace"]:
        raise ListError(f"{where}: find and replace are the same")
    timeout_s = entry.get("timeout_s", TIMEOUT_S)
    if not isinstance(timeout_s, (int, float)) or not 0 < timeout_s <= 600:
        raise ListError(f"{where}: timeout_s is between 0 and 600")
    return Mutant(
        **{name: str(value) for name, value in texts.items()},
        tests=tests,
        money=bool(entry.get("money", False)),
        timeout_s=float(timeout_s),
    )


def does_not_apply(mutant: Mutant, root: Path) -> str | None:
    """Why ``mutant`` does not fit the sources, or None when it does."""
    file = root / mutant.file
    if not file.is_file():
        return f"there is no {mutant.file}"
    count = file.read_text(encoding="utf-8").count(mutant.find)
    if count != 1:
        return f"{mutant.file} has the text {count} times, not once"
    for test in mutant.tests:
        path, *names = test.split("::")
        test_file = root / path
        if not test_file.is_file():
            return f"there is no {path}"
        name = names[-1].partition("[")[0]
        if f"def {name}(" not in test_file.read_text(encoding="utf-8"):
            return f"{path} has no {name}"
    return None


# -- copies of the project --------------------------------------------------------------------------------------------


def _project_files(root: Path) -> Iterator[Path]:
    """Everything that is tracked or could be, relative to ``root``."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0 and listing.stdout:
        yield from (Path(os.fsdecode(name)) for name in listing.stdout.split(b"\0") if name)
        return
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if path.is_file() and not {"__pycache__", ".git", *_LINKED} & set(relative.parts):
            yield relative


def copy_project(root: Path, place: Path) -> None:
    """A copy of the project that may be mutated."""
    for relative in _project_files(root):
        if (root / relative).is_file():
            (place / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / relative, place / relative)
    for name in _LINKED:
        if (root / name).is_dir() and not (place / name).exists():
            (place / name).symlink_to(root / name, target_is_directory=True)


@contextmanager
def mutated(mutant: Mutant, copy: Path) -> Iterator[None]:
    """The copy with ``mutant`` applied, restored afterwards; compiled files of the module are dropped both times."""
    file = copy / mutant.file
    original = file.read_text(encoding="utf-8")
    changed = mutant.applied(original)
    if changed is None:
        raise ListError(f"{mutant.name} does not apply")
    try:
        _write(file, changed)
        yield
    finally:
        _write(file, original)


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()  # it is trusted by size and whole seconds, which two mutants may share


def run_tests(copy: Path, tests: Iterable[str], timeout_s: float) -> tuple[int | None, str]:
    """Exit status of pytest in ``copy`` (None: it took too long) and what it printed."""
    environment = {
        **os.environ,
        # Before an editable install of the working tree.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(copy / "src"), os.environ.get("PYTHONPATH", "")])),
        "MICROPAYWALL_REQUIRE_ALL": "1",  # a skipped test notices nothing
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-m", "", *tests]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        process = subprocess.Popen(
            command, cwd=copy, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        printed.seek(0)
        return status, printed.read()[-6_000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the test and every program that it has started."""
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, 9)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


# -- the run ----------------------------------------------------------------------------------------------------------


def run(mutants: Sequence[Mutant], root: Path, *, jobs: int, report: bool = True) -> list[Result]:
    """Try each mutant; results in the order given."""
    results: dict[str, Result] = {}
    ready: list[Mutant] = []
    for mutant in mutants:
        why = does_not_apply(mutant, root)
        if why is None:
            ready.append(mutant)
        else:
            results[mutant.name] = Result(mutant.name, "does not apply", output=why)
    with tempfile.TemporaryDirectory(prefix="micropaywall-mutants-") as temporary:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            place = Path(temporary, str(number))
            copy_project(root, place)
            copies.put(place)
        bad = _failing_unmutated(ready, copies, jobs)
        for mutant in ready:
            if output := "".join(bad[test] for test in mutant.tests if test in bad):
                results[mutant.name] = Result(mutant.name, "test fails unmutated", output=output)

        def attempt(mutant: Mutant) -> Result:
            copy = copies.get()
            try:
                return _attempt(mutant, copy)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            for result in pool.map(attempt, [mutant for mutant in ready if mutant.name not in results]):
                results[result.name] = result
                if report:
                    print(f"  {result.verdict:<14} {result.seconds:5.1f} s  {result.name}", flush=True)
    return [results[mutant.name] for mutant in mutants]


def _failing_unmutated(mutants: Sequence[Mutant], copies: queue.Queue[Path], jobs: int) -> dict[str, str]:
    """What each test printed that does not pass as it is. All at once first; one by one only when something fails."""
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)

    def check(some: list[str]) -> tuple[list[str], int | None, str]:
        copy = copies.get()
        try:
            status, output = run_tests(copy, some, TIMEOUT_S * len(some))
        finally:
            copies.put(copy)
        return some, status, output

    failing: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        shares = [share for number in range(jobs) if (share := list(tests)[number::jobs])]
        suspects = [[test] for some, status, _ in pool.map(check, shares) if status != 0 for test in some]
        for some, status, output in pool.map(check, suspects):
            if status != 0:
                failing[some[0]] = output or f"exit status {status}"
    return failing


def _attempt(mutant: Mutant, copy: Path) -> Result:
    started = time.monotonic()
    with mutated(mutant, copy):
        status, output = run_tests(copy, mutant.tests, mutant.timeout_s)
    verdict: Verdict
    if status is None:
        verdict, output = "timed out", ""
    elif status == _PYTEST_FAILED:
        verdict, output = "noticed", ""
    elif status == 0:
        verdict = "survived"
    else:
        verdict = "does not run"  # it broke the import, not the guard: nothing is shown
    return Result(mutant.name, verdict, round(time.monotonic() - started, 2), output)


def select(mutants: Sequence[Mutant], *, money: bool, only: Sequence[str]) -> list[Mutant]:
    """The mutants asked for: money paths, and names or patterns (``reserve-*``)."""
    return [
        mutant
        for mutant in mutants
        if (mutant.money or not money) and (not only or any(fnmatch(mutant.name, pattern) for pattern in only))
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Take out each guard and see that its test fails.")
    parser.add_argument("--money", action="store_true", help="only the guards of the money paths")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only these (name or pattern)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--list", action="store_true", help="print the names and reasons, run nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        mutants = select(read_lists(options.root), money=options.money, only=options.only)
    except ListError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    if not mutants:
        print("mutants: none selected", file=sys.stderr)
        return 2
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.why}")
        return 0
    started = time.monotonic()
    if not options.json:
        print(f"{len(mutants)} mutants, {options.jobs} at a time")
    results = run(mutants, options.root, jobs=max(1, options.jobs), report=not options.json)
    if options.json:
        print(
            json.dumps([{**asdict(result), "why": m.why} for result, m in zip(results, mutants, strict=True)], indent=2)
        )
    else:
        _print_summary(mutants, results, time.monotonic() - started)
    if any(result.verdict not in (*GOOD, "survived") for result in results):
        return 2
    return 0 if all(result.verdict in GOOD for result in results) else 1


def _print_summary(mutants: Sequence[Mutant], results: Sequence[Result], seconds: float) -> None:
    for mutant, result in zip(mutants, results, strict=True):
        if result.verdict not in GOOD:
            print(
                f"\n{result.verdict.upper()}: {mutant.name} ({mutant.file})\n  {mutant.why}\n  {' '.join(mutant.tests)}"
            )
            print("".join(f"    | {line}\n" for line in result.output.splitlines()[-30:]), end="")
    noticed = sum(result.verdict in GOOD for result in results)
    print(f"\nmutants: {noticed} noticed, {len(results) - noticed} not, in {seconds:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
