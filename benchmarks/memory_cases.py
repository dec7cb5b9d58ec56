"""Memory of the seller over many requests: unpaid ones, unpaid ones that all differ, and paid ones that settle as it goes."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.load import Sample, Tools, Unmeasurable, drive, say, serve
from benchmarks.machine import usage
from benchmarks.presign import presign
from benchmarks.report import Row, Section, at_most

PATH = "/api/resource"
CYCLES = 6
WARM_CYCLES = 2
"""Cycles before the first reading that counts: caches fill, allocators find their size."""
GROWTH_MAX = 1.03
SHARES = {"unpaid": 0.45, "unique": 0.45, "paid": 0.10}
RATES = {"unpaid": 20_000, "unique": 12_000, "paid": 6_000}
"""Requests per second expected of each kind, to divide the requests into runs by time."""


def run(tools: Tools, work: Path, *, requests: int) -> Section:
    """Resident memory after each of several equal cycles of load."""
    home = work / f"home-memory-{time.monotonic_ns()}"
    home.mkdir()
    payments = work / "memory.txt"
    environment = {
        "MICROPAYWALL_HOME": str(home),
        "BENCH_LEDGER": str(home / "ledger.db"),
        "BENCH_SETTLE": "deferred",
        "BENCH_BACKGROUND": "1",
    }
    readings: list[int] = []
    served = 0
    with serve("memory", "ours.py", environment=environment) as server:
        cycle = 0
        while cycle < CYCLES or served < requests:
            per_cycle = requests / CYCLES
            for kind, share in SHARES.items():
                seconds = max(1, round(per_cycle * share / RATES[kind]))
                sample: Sample
                if kind == "paid":
                    count = int(RATES[kind] * seconds * 3)
                    presign(server.url(PATH), count, payments)
                    sample = drive(tools, server, PATH, seconds=seconds, connections=64, expect=200, presigned=payments)
                    if sample.requests > count:
                        raise Unmeasurable(f"{sample.requests} requests, but only {count} payments: sign more")
                else:
                    unique = f"c{cycle}" if kind == "unique" else ""
                    sample = drive(tools, server, PATH, seconds=seconds, connections=64, expect=402, unique=unique)
                served += sample.requests
            readings.append(usage(server.pid).rss_bytes)
            cycle += 1
            say(f"memory: {served:,} requests, {readings[-1] / 1e6:.1f} MB")
    growth = readings[-1] / readings[WARM_CYCLES - 1]
    rows = [
        Row(f"after cycle {number}", note=f"{reading / 1e6:.1f} MB") for number, reading in enumerate(readings, start=1)
    ]
    rows.append(Row("requests in all", note=f"{served:,} (a tenth of them paid and settled)"))
    return Section(
        "memory",
        "Resident memory of the seller",
        rows,
        (at_most(f"memory at the end against cycle {WARM_CYCLES}", growth, GROWTH_MAX, " times"),),
    )
