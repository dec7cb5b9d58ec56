"""The machine that measures: what it is (without its name), which cores there are, what a process has used of them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1


@dataclass(frozen=True)
class Usage:
    """CPU seconds and resident bytes of a process, threads included."""

    cpu_s: float
    rss_bytes: int


def usage(pid: int) -> Usage:
    """From /proc; the clock ticks are 10 ms, so measure for seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


def busy_elsewhere() -> float:
    """CPU seconds since boot that any process of this machine used; to see what others took during a run."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")


def require_linux() -> None:
    """The benchmarks pin processes and read /proc."""
    if not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("the benchmarks need Linux and two cores")


def describe() -> dict[str, object]:
    """What a reader needs to judge the figures; nothing that identifies the machine."""
    model = platform.processor() or platform.machine()
    memory_kib = 0
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
        memory_kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    names = ("uvicorn", "uvloop", "httptools", "starlette", "msgspec", "coincurve", "safe-pysha3", "cryptography")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 1024 / 1024, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: importlib.metadata.version(name) for name in names},
    }
