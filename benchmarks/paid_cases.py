"""Paid requests with a durable book: distinct presigned payments, each verified, reserved, served and captured.

Beside the bare app stand two controls. *Same bytes*: the bare app with the same request headers, which it ignores. *Burn*:
the bare app that first spins for as long as our work should take; it shows what HTTP itself costs once the load generator
waits for the server (more than on a saturated machine), and so how much of the gap is not ours.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.drain import drain
from benchmarks.load import Sample, Series, Server, Tools, Unmeasurable, drive, drive_saturated, say, serve
from benchmarks.presign import presign
from benchmarks.report import Row, Section, at_least
from micropaywall.sandbox.token import SANDBOX_NETWORK, SANDBOX_TOKEN

PATH = "/api/resource"
OFFICIAL_RATE = 6_000
"""Payments per second to sign for the official SDK; it serves less than half of that."""


def run(tools: Tools, work: Path, *, rounds: int, seconds: int, connections: int, target: float) -> Section:
    """The table of paid requests at one number of connections."""
    series = {name: Series(name) for name in ("bare", "bytes", "burn", "deferred", "after", "official")}
    drains: list[float] = []
    with ExitStack() as stack:
        bare = stack.enter_context(serve("bare", "bare.py"))
        sandbox = {"BENCH_NETWORK": SANDBOX_NETWORK, "BENCH_ASSET": SANDBOX_TOKEN.address_text}
        official = stack.enter_context(
            serve("official", "official.py", python=tools.official_python, environment=sandbox)
        )
        official_payments = work / "official.txt"
        presign(official.url(PATH), int(OFFICIAL_RATE * seconds), official_payments)
        plain(tools, bare, connections, 1)
        for number in range(rounds):
            series["bare"].samples.append(plain(tools, bare, connections, seconds))
            payments = work / "payments.txt"
            count = int(series["bare"].rps * 0.6 * seconds)
            for mode in ("deferred", "after"):
                sample, drained = paid(tools, work, payments, mode, count, connections, seconds)
                series[mode].samples.append(sample)
                drains += drained
            series["bytes"].samples.append(
                drive_saturated(
                    tools, bare, PATH, seconds=seconds, connections=connections, expect=200, presigned=payments
                )
            )
            spin_us = max(0.0, 1e6 / series["deferred"].samples[-1].rps - 1e6 / series["bytes"].samples[-1].rps)
            with serve("burn", "bare.py:burn", environment={"BENCH_SPIN_US": f"{spin_us:.1f}"}) as burn:
                series["burn"].samples.append(
                    drive(tools, burn, PATH, seconds=seconds, connections=connections, expect=200, presigned=payments)
                )
            series["official"].samples.append(
                drive(
                    tools,
                    official,
                    PATH,
                    seconds=seconds,
                    connections=connections,
                    expect=200,
                    presigned=official_payments,
                )
            )
            say(
                f"round {number + 1} of {rounds}: "
                + ", ".join(f"{n} {s.samples[-1].rps:,.0f}/s" for n, s in series.items())
            )
    return table(series, drains, connections, target)


def table(series: dict[str, Series], drains: list[float], connections: int, target: float) -> Section:
    """Rows and targets from what was measured."""
    bare, deferred, burn = series["bare"], series["deferred"], series["burn"]
    spun_us = 1e6 / deferred.rps - 1e6 / series["bytes"].rps
    http_us = 1e6 / burn.rps - spun_us
    drained = sorted(drains)[len(drains) // 2]
    return Section(
        f"paid{connections}",
        f"Paid requests, durable book, every payment distinct ({connections} connections)",
        (
            Row.of("bare app", bare),
            Row.of("bare app, same request bytes", series["bytes"], bare),
            Row.of(
                "burn control: bare app and a spin", burn, bare, f"HTTP took {http_us:.0f} µs, not {1e6 / bare.rps:.0f}"
            ),
            Row.of("micropaywall, deferred", deferred, bare),
            Row.of("micropaywall, after: settled on the sandbox first", series["after"], bare),
            Row.of("official SDK on FastAPI: nothing verified, no book", series["official"], bare),
            Row(
                "settling the deferred payments afterwards",
                rps=round(drained, 1),
                note="payments per second, one worker",
            ),
        ),
        (at_least(f"paid, deferred, {connections} connections, against the bare app", deferred.ratio(bare), target),),
    )


def plain(tools: Tools, server: Server, connections: int, seconds: int) -> Sample:
    return drive_saturated(tools, server, PATH, seconds=seconds, connections=connections, expect=200)


def paid(
    tools: Tools, work: Path, payments: Path, mode: str, count: int, connections: int, seconds: int
) -> tuple[Sample, list[float]]:
    """One run on a fresh book; checks that the book has every payment that was answered."""
    home = work / f"home-{mode}-{time.monotonic_ns()}"
    home.mkdir()
    ledger = home / "ledger.db"
    environment = {"MICROPAYWALL_HOME": str(home), "BENCH_LEDGER": str(ledger), "BENCH_SETTLE": mode}
    with serve(mode, "ours.py", environment=environment) as server:
        drive(tools, server, PATH, seconds=1, connections=connections, expect=402)
        presign(server.url(PATH), count, payments)
        sample = drive(tools, server, PATH, seconds=seconds, connections=connections, expect=200, presigned=payments)
    if sample.requests > count:
        raise Unmeasurable(f"{sample.requests} requests, but only {count} payments: sign more")
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as book:
        recorded = book.execute("SELECT count(*) FROM payments").fetchone()[0]
    if recorded < sample.requests:
        raise Unmeasurable(f"{sample.requests} answers, but {recorded} payments in the book")
    drained = [asyncio.run(drain(home, ledger))] if mode == "deferred" else []
    return sample, drained
