"""Memory of the seller over many requests: unpaid ones, unpaid ones that all differ, and paid ones that settle as it goes.

First its caches fill (402 answers, pages of the book, signers), which is bounded and is waited for; then it has to stay flat.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.load import Server, Tools, Unmeasurable, drive, say, serve
from benchmarks.machine import usage
from benchmarks.presign import presign
from benchmarks.report import Row, Section, at_most

PATH = "/api/resource"
CONNECTIONS = 64
FILL_CYCLES_MAX = 20
FULL_MB = 1.0
"""A cycle that adds less than this says that the caches are full."""
GROWTH_MAX = 1.03


def cycle(tools: Tools, server: Server, payments: Path, mark: str, rates: dict[str, float], seconds: int) -> int:
    """A round of each kind of request; how many were served."""
    served = 0
    for kind in ("unpaid", "unique"):
        unique = mark if kind == "unique" else ""
        sample = drive(tools, server, PATH, seconds=seconds, connections=CONNECTIONS, expect=402, unique=unique)
        served += sample.requests
    count = int(rates.get("paid", 10_000) * 1.5 * seconds)
    presign(server.url(PATH), count, payments)
    sample = drive(tools, server, PATH, seconds=seconds, connections=CONNECTIONS, expect=200, presigned=payments)
    if sample.requests > count:
        raise Unmeasurable(f"{sample.requests} requests, but only {count} payments: sign more")
    rates["paid"] = sample.rps
    return served + sample.requests


def run(tools: Tools, work: Path, *, requests: int) -> Section:
    """Resident memory once the caches are full, and after so many ``requests`` more."""
    home = work / f"home-memory-{time.monotonic_ns()}"
    home.mkdir()
    payments = work / "memory.txt"
    environment = {
        "MICROPAYWALL_HOME": str(home),
        "BENCH_LEDGER": str(home / "ledger.db"),
        "BENCH_SETTLE": "deferred",
        "BENCH_BACKGROUND": "1",
    }
    rates: dict[str, float] = {}
    with serve("memory", "ours.py", environment=environment) as server:
        start = usage(server.pid).rss_bytes / 1e6
        full, filling = start, 0
        for number in range(FILL_CYCLES_MAX):
            filling += cycle(tools, server, payments, f"f{number}", rates, 2)
            before, full = full, usage(server.pid).rss_bytes / 1e6
            say(f"memory: {full:.1f} MB after {filling:,} requests")
            if full - before < FULL_MB:
                break
        served, number, end = 0, 0, full
        while served < requests:
            served += cycle(tools, server, payments, f"m{number}", rates, 4)
            number += 1
            end = usage(server.pid).rss_bytes / 1e6
            say(f"memory: {end:.1f} MB after {served:,} requests more")
    return Section(
        "memory",
        "Resident memory of the seller",
        (
            Row("at the start", note=f"{start:.1f} MB"),
            Row("with full caches", note=f"{full:.1f} MB, after {filling:,} requests"),
            Row("at the end", note=f"{end:.1f} MB, after {served:,} requests more"),
        ),
        (at_most("memory at the end against full caches", end / full, GROWTH_MAX, " times"),),
    )
