"""Small things: verifying and signing one payment, the HTML page, import time, how many packages an installation brings."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks import micro_exact
from benchmarks.load import Server, Tools, say, serve
from benchmarks.report import Row, Section, at_most
from micropaywall import limits

ROOT = Path(__file__).resolve().parent.parent
BROWSER = {"Accept": "text/html,application/xhtml+xml", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
IMPORT_LIMIT_MS = 100.0
PACKAGES_LIMIT = 15

OUR_SELLER = "from micropaywall import Paywall; Paywall({'GET /': '$0.001'}).asgi(None)"
OFFICIAL_SELLER = (
    "from x402.http.middleware.fastapi import PaymentMiddlewareASGI; "
    "from x402.mechanisms.evm.exact.server import ExactEvmScheme"
)


def import_ms(python: str, statement: str) -> float:
    """Milliseconds that ``statement`` takes in a fresh interpreter, its own start not counted."""
    code = f"import time; t = time.perf_counter(); {statement}; print((time.perf_counter() - t) * 1000)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def needed_by(requirements: Iterable[str], path: list[str]) -> set[str]:
    """The distributions that installing ``requirements`` brings, read from an environment that has them."""
    found = {canonicalize_name(d.metadata["Name"]): d for d in importlib.metadata.distributions(path=path)}
    seen: set[tuple[str, str]] = set()
    asked = [Requirement(text) for text in requirements]
    todo = [(canonicalize_name(each.name), extra) for each in asked for extra in ("", *each.extras)]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        distribution, extra = here
        for text in found[distribution].requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(needed.name), wanted) for wanted in ("", *needed.extras)]
    return {distribution for distribution, _ in seen}


def site_packages(python: str) -> list[str]:
    code = "import json, sysconfig; print(json.dumps([sysconfig.get_path('purelib'), sysconfig.get_path('platlib')]))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return list(dict.fromkeys(json.loads(done.stdout)))


def page_bytes(server: Server) -> int:
    """Size of the 402 that a browser gets."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/api/resource", headers=BROWSER)
    response = connection.getresponse()
    size = len(response.read())
    connection.close()
    if response.status != 402 or "text/html" not in (response.getheader("content-type") or ""):
        raise SystemExit("the browser's 402 is not an HTML page")
    return size


def run(tools: Tools, work: Path, *, rounds: int) -> Section:
    """The table of small things."""
    exact = micro_exact.measure()
    times: dict[str, list[float]] = {
        "import micropaywall": [],
        "our seller": [],
        "import x402": [],
        "official seller": [],
    }
    for _ in range(rounds):
        times["import micropaywall"].append(import_ms(sys.executable, "import micropaywall"))
        times["our seller"].append(import_ms(sys.executable, OUR_SELLER))
        times["import x402"].append(import_ms(tools.official_python, "import x402"))
        times["official seller"].append(import_ms(tools.official_python, OFFICIAL_SELLER))
    took = {name: median(values) for name, values in times.items()}
    say(", ".join(f"{name} {value:.0f} ms" for name, value in took.items()))
    with serve("ours", "ours.py", environment={"BENCH_LEDGER": str(work / "page.db")}) as ours:
        our_page = page_bytes(ours)
    with serve("official", "official.py", python=tools.official_python) as official:
        official_page = page_bytes(official)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours_brings = {project["name"]} | needed_by(project["dependencies"], site_packages(sys.executable))
    official_brings = needed_by(["x402[evm,fastapi]"], site_packages(tools.official_python))
    return Section(
        "micro",
        "Small things",
        (
            Row("verify an exact payment (header to verdict)", note=f"{exact.verify_us:.1f} µs CPU"),
            Row("sign an exact payment (offer to header)", note=f"{exact.sign_us:.1f} µs CPU"),
            Row("HTML page of a 402", note=f"{our_page:,} bytes (official SDK: {official_page:,})"),
            Row(
                "import micropaywall",
                note=f"{took['import micropaywall']:.0f} ms (import x402: {took['import x402']:.0f})",
            ),
            Row(
                "import and make a seller",
                note=f"{took['our seller']:.0f} ms (official: {took['official seller']:.0f})",
            ),
            Row(
                "packages installed for a seller",
                note=f"{len(ours_brings)} (official with FastAPI and EVM: {len(official_brings)})",
            ),
        ),
        (
            at_most("verify an exact payment", exact.verify_us, 60.0, " µs"),
            at_most("sign an exact payment", exact.sign_us, 60.0, " µs"),
            at_most("HTML page", our_page, limits.HTML_PAGE_BYTES_MAX, " bytes"),
            at_most("import micropaywall", took["import micropaywall"], IMPORT_LIMIT_MS, " ms"),
            at_most("packages of the library", len(ours_brings), PACKAGES_LIMIT),
        ),
    )
