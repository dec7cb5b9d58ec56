"""`make bench`: every measurement, side by side, in one run; tables for people, JSON for machines.

    python -m benchmarks                 about ten minutes
    python -m benchmarks --quick         under three minutes: fewer and shorter rounds
    python -m benchmarks --long          also a million requests for the memory figures
    python -m benchmarks --only http,paid

Exit code 1 when a target is missed. Run it on a quiet machine: everything else that runs takes from somebody's figures.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import book_cases, http_cases, machine, memory_cases, micro_cases, paid_cases
from benchmarks.load import Tools, find_tools, say
from benchmarks.report import Section, render, save, write_page

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "bench"


@dataclass(frozen=True)
class Plan:
    """How much of everything: rounds of ``seconds`` each."""

    name: str
    rounds: int
    seconds: int
    paid_rounds: int
    paid_seconds: int
    micro_rounds: int
    memory_requests: int
    book_charges: int
    book_requests: int
    book_rounds: int


QUICK = Plan("quick", 2, 1, 1, 2, 3, 40_000, 100_000, 4_000, 2)
DEFAULT = Plan("default", 5, 4, 3, 5, 7, 200_000, 1_000_000, 10_000, 3)
LONG = Plan("long", 7, 5, 5, 8, 11, 1_000_000, 1_000_000, 20_000, 5)


def sections(plan: Plan, tools: Tools, work: Path) -> dict[str, Callable[[], Section]]:
    """What can be run, in the order in which it is run."""
    return {
        "micro": lambda: micro_cases.run(tools, work, rounds=plan.micro_rounds),
        "http": lambda: http_cases.run(tools, work, rounds=plan.rounds, seconds=plan.seconds),
        "paid64": lambda: paid_cases.run(
            tools, work, rounds=plan.paid_rounds, seconds=plan.paid_seconds, connections=64, target=0.30
        ),
        "paid256": lambda: paid_cases.run(
            tools, work, rounds=plan.paid_rounds, seconds=plan.paid_seconds, connections=256, target=0.40
        ),
        "book": lambda: book_cases.run(
            work, charges=plan.book_charges, requests=plan.book_requests, rounds=plan.book_rounds
        ),
        "memory": lambda: memory_cases.run(tools, work, requests=plan.memory_requests),
    }


def main() -> int:
    """Measure what was asked for; print and save it."""
    parser = argparse.ArgumentParser(description="Speed of micropaywall beside the bare app and the official SDK.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", const=QUICK, dest="plan", help="under three minutes")
    size.add_argument("--long", action="store_const", const=LONG, dest="plan", help="more rounds, a million requests")
    parser.add_argument("--only", default="", help="comma-separated: micro, http, paid64, paid256, book, memory")
    parser.add_argument("--no-save", action="store_true", help="do not write benchmarks/results")
    arguments = parser.parse_args()
    plan: Plan = arguments.plan or DEFAULT
    machine.require_linux()
    tools = find_tools()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    available = sections(plan, tools, WORK)
    wanted = [name for name in arguments.only.split(",") if name] or list(available)
    for name in wanted:
        if not any(key.startswith(name) for key in available):
            parser.error(f"there is no section {name!r}; there are {', '.join(available)}")
    started = time.monotonic()
    found: list[Section] = []
    for key, measure in available.items():
        if any(key.startswith(name) for name in wanted):
            say(f"{key} …")
            found.append(measure())
    shutil.rmtree(WORK, ignore_errors=True)
    print(render(found))
    about: dict[str, object] = {
        "plan": plan.name,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "seconds": round(time.monotonic() - started),
        "machine": machine.describe(),
    }
    if not arguments.no_save:
        target = ROOT / "benchmarks" / "results" / f"{plan.name}.json"
        save(target, found, about)
        say(f"saved {target.relative_to(ROOT)}")
        if plan is DEFAULT and len(found) == len(available):
            write_page(ROOT / "docs" / "performance.md", found, about)
            say("saved docs/performance.md")
    missed = [target.name for section in found for target in section.targets if not target.held]
    for name in missed:
        say(f"missed: {name}")
    return 1 if missed else 0
