"""The 402 path and unpriced routes: ours, the bare app, a constant 402 of the same size, and the official SDK on FastAPI."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Sample, Series, Server, Tools, drive, drive_saturated, say, serve
from benchmarks.report import Row, Section, at_least

WARM_UP_S = 1


@dataclass(frozen=True)
class Case:
    """One line of the table: a server, a path on it, and the status that every answer must have."""

    name: str
    server: Server
    path: str
    expect: int


def interleave(
    tools: Tools, cases: Sequence[Case], *, rounds: int, seconds: int, connections: int
) -> dict[str, Series]:
    """Measure each case once per round, so that neighbours in time share what the machine is doing."""
    for case in cases:
        drive(tools, case.server, case.path, seconds=WARM_UP_S, connections=connections, expect=case.expect)
    found = {case.name: Series(case.name) for case in cases}
    for number in range(rounds):
        for case in cases:
            sample: Sample = drive_saturated(
                tools, case.server, case.path, seconds=seconds, connections=connections, expect=case.expect
            )
            found[case.name].samples.append(sample)
        say(
            f"round {number + 1} of {rounds}: " + ", ".join(f"{n} {s.samples[-1].rps:,.0f}/s" for n, s in found.items())
        )
    return found


def fetch_402(server: Server, path: str) -> tuple[str, str]:
    """Header lines and body of our 402, for the constant one. The server adds date and its own name to both."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    if response.status != 402:
        raise SystemExit(f"{path} answered {response.status}, expected 402")
    lines = [
        f"{name.lower()}: {value}" for name, value in response.getheaders() if name.lower() not in ("date", "server")
    ]
    return "\n".join(lines), body


def run(tools: Tools, work: Path, *, rounds: int, seconds: int, connections: int = 64) -> Section:
    """The table of the 402 path."""
    with ExitStack() as stack:
        start = stack.enter_context
        ours = start(serve("ours", "ours.py", environment={"BENCH_LEDGER": str(work / "http.db")}))
        headers, body = fetch_402(ours, "/api/resource")
        same_size = {"BENCH_402_HEADERS": headers, "BENCH_402_BODY": body}
        bare = start(serve("bare", "bare.py"))
        constant = start(serve("constant", "bare.py:constant", environment=same_size))
        official = start(serve("official", "official.py", python=tools.official_python))
        official_bare = start(serve("FastAPI", "official.py:bare", python=tools.official_python))
        cases = [
            Case("bare", bare, "/api/resource", 200),
            Case("constant", constant, "/api/resource", 402),
            Case("ours, 402", ours, "/api/resource", 402),
            Case("ours, unpriced", ours, "/free", 200),
            Case("FastAPI", official_bare, "/api/resource", 200),
            Case("official, 402", official, "/api/resource", 402),
            Case("official, unpriced", official, "/free", 200),
        ]
        found = interleave(tools, cases, rounds=rounds, seconds=seconds, connections=connections)
    app, fastapi = found["bare"], found["FastAPI"]
    refused, unpriced, constant = found["ours, 402"], found["ours, unpriced"], found["constant"]
    return Section(
        "http",
        f"402 answers and unpriced routes ({connections} connections)",
        (
            Row.of("bare app: Starlette, one JSON route", app),
            Row.of("raw ASGI, constant 402 of our size", constant, app),
            Row.of("micropaywall, 402", refused, app),
            Row.of("micropaywall, unpriced route", unpriced, app),
            Row.of("bare FastAPI", fastapi),
            Row.of("official SDK on FastAPI, 402", found["official, 402"], fastapi),
            Row.of("official SDK on FastAPI, unpriced route", found["official, unpriced"], fastapi),
        ),
        (
            at_least("402 path against the bare app", refused.ratio(app), 1.0),
            at_least("402 path against a constant 402", refused.ratio(constant), 0.70),
            at_least("unpriced route against the bare app", unpriced.ratio(app), 0.95),
        ),
    )
