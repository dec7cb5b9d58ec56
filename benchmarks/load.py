"""Load from wrk, one thread on its own core, and servers on theirs: start, measure, stop."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import LOAD_CORE, SERVER_CORE, usage

HERE = Path(__file__).resolve().parent
READY_WITHIN_S = 30.0
SATURATED = 0.9
"""Share of the time that the server must be busy; below it, the run measured how the two processes wake each other."""
REPEATS_MAX = 2


class Unmeasurable(Exception):
    """A server that does not start, or a run whose answers are not what was to be measured."""


@dataclass(frozen=True)
class Sample:
    """One run: ``rps`` requests per second, ``cpu_us`` server CPU per request, latencies in milliseconds."""

    rps: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    requests: int

    @property
    def busy(self) -> float:
        """Share of one core that the server used."""
        return self.rps * self.cpu_us / 1e6


@dataclass
class Series:
    """The samples of one case, in the order of the rounds."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def rps(self) -> float:
        return median(sample.rps for sample in self.samples)

    @property
    def cpu_us(self) -> float:
        return median(sample.cpu_us for sample in self.samples)

    @property
    def p50_ms(self) -> float:
        return median(sample.p50_ms for sample in self.samples)

    @property
    def p99_ms(self) -> float:
        return median(sample.p99_ms for sample in self.samples)

    def ratio(self, other: Series) -> float:
        """Median of the ratios round by round: neighbours in time share what the machine was doing."""
        return median(mine.rps / theirs.rps for mine, theirs in zip(self.samples, other.samples, strict=True))

    def cpu_ratio(self, other: Series) -> float:
        """The same by CPU time per request."""
        return median(theirs.cpu_us / mine.cpu_us for mine, theirs in zip(self.samples, other.samples, strict=True))


@dataclass(frozen=True)
class Tools:
    """Where wrk and the official SDK's interpreter are."""

    wrk: str
    library_path: str
    official_python: str


def find_tools() -> Tools:
    """From `tools/interop_env.py`, which makes what is missing."""
    script = HERE.parent / "tools" / "interop_env.py"
    done = subprocess.run([sys.executable, str(script), "--json"], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    return Tools(found["wrk"], found["library_path"], found["python_v2"])


@dataclass
class Server:
    """A server under test."""

    name: str
    pid: int
    port: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(
    name: str,
    app: str,
    *,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    core: int = SERVER_CORE,
) -> Iterator[Server]:
    """Run ``apps/<app>`` (``file.py:attribute``) on ``core`` while the block runs."""
    port = free_port()
    command = [python, str(HERE / "apps" / "serve.py"), str(port), str(core), str(HERE / "apps" / app)]
    inherited = dict(os.environ)
    if python != sys.executable:
        inherited.pop("PYTHONPATH", None)  # another environment has its own packages
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**inherited, **(environment or {})})
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], READY_WITHIN_S)
        if not ready or b"ready" not in process.stdout.readline():
            raise Unmeasurable(f"{name} did not start")
        yield Server(name, process.pid, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def drive_saturated(tools: Tools, server: Server, path: str, **how: Any) -> Sample:
    """`drive`, repeated (twice at most) while the server was idle for more than a tenth of the time; the busiest run."""
    best = drive(tools, server, path, **how)
    for _ in range(REPEATS_MAX):
        if best.busy >= SATURATED:
            break
        best = max(best, drive(tools, server, path, **how), key=lambda sample: sample.busy)
    return best


def drive(
    tools: Tools,
    server: Server,
    path: str,
    *,
    seconds: int,
    connections: int,
    expect: int,
    presigned: Path | None = None,
    unique: str = "",
) -> Sample:
    """Load ``path`` and measure.

    ``presigned``: a file of payment header values, one per request. ``unique``: give each request a query of its own that
    begins so. Unmeasurable when answers other than 2xx (or, with ``expect`` 402, 2xx) came.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BENCH_")}
    environment["LD_LIBRARY_PATH"] = tools.library_path
    if presigned is not None:
        environment["BENCH_PRESIGNED"] = str(presigned)
    if unique:
        environment["BENCH_UNIQUE"] = unique
    command = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        tools.wrk,
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "20s",
    ]
    command += ["-s", str(HERE / "presigned.lua"), server.url(path)]
    before = usage(server.pid)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 60, check=False)
    after = usage(server.pid)
    if done.returncode != 0:
        raise Unmeasurable(f"wrk failed: {done.stderr or done.stdout}")
    counts = json.loads(done.stdout.strip().splitlines()[-1])
    requests = counts["requests"]
    wrong = counts["not_2xx"] if expect == 200 else requests - counts["not_2xx"]
    if wrong or counts["failed"] or not requests:
        raise Unmeasurable(
            f"{server.name} {path}: {wrong} of {requests} answers are not {expect}, {counts['failed']} failed"
        )
    return Sample(
        rps=requests * 1e6 / counts["duration_us"],
        cpu_us=(after.cpu_s - before.cpu_s) * 1e6 / requests,
        p50_ms=counts["p50_us"] / 1000,
        p99_ms=counts["p99_us"] / 1000,
        requests=requests,
    )


def say(text: str) -> None:
    """Progress, for the person who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
