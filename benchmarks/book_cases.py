"""The book by itself: reserve and capture, in a small book and in one that has grown."""

from __future__ import annotations

from pathlib import Path

from benchmarks import micro_ledger
from benchmarks.load import say
from benchmarks.report import Row, Section, at_most

GROWTH_MAX = 1.2


def run(work: Path, *, charges: int, requests: int, rounds: int) -> Section:
    """The table of `benchmarks.micro_ledger`."""
    medians = micro_ledger.summary(micro_ledger.run(requests=requests, grown=charges, rounds=rounds, place=work))
    small, grown = medians[-2], medians[-1]
    say(f"book: {grown.wall_us:.0f} µs a request with {charges:,} charges, {small.wall_us:.0f} µs with 1,000")
    return Section(
        "book",
        "Reserve and capture in the book (SQLite, WAL, synchronous=FULL)",
        [
            Row(
                f"{result.case}, {result.concurrency} at once",
                rps=round(result.per_s, 1),
                cpu_us=round(result.cpu_us, 2),
            )
            for result in medians
        ],
        (
            at_most(
                f"time with {charges:,} charges against 1,000", grown.wall_us / small.wall_us, GROWTH_MAX, " times"
            ),
            at_most(f"CPU with {charges:,} charges against 1,000", grown.cpu_us / small.cpu_us, GROWTH_MAX, " times"),
        ),
    )
