"""What every test gets: an environment of its own, the event loop, Hypothesis profiles, and no silent skips."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import micropaywall

REQUIRE_ALL = os.environ.get("MICROPAYWALL_REQUIRE_ALL") == "1"
"""Set by .ci/run: there, a test that did not run has failed."""

# Programs that tests start must import the same package as the tests (a checkout, a mutated copy), wherever they run.
_SOURCE = str(Path(micropaywall.__file__).parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(
    [_SOURCE, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != _SOURCE)]
)

SEED = int(os.environ.get("MICROPAYWALL_TEST_SEED", "20270115"))
"""Where seeded tests begin; `make test-long` takes another each time and records it."""

_shared = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("dev", max_examples=50, **_shared)
settings.register_profile("ci", max_examples=200, **_shared)
settings.register_profile("long", max_examples=5_000, **_shared)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if REQUIRE_ALL else "dev"))

_ABOUT_TESTS = ("MICROPAYWALL_REQUIRE_ALL", "MICROPAYWALL_TEST_")
_FOREIGN_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "netrc")
"""Variables of the machine that would change what an HTTP client does."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def micropaywall_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own data directory, in an environment without settings or proxies of the machine."""
    for name in list(os.environ):
        ours = name.startswith(("MICROPAYWALL_", "MPW_")) and not name.startswith(_ABOUT_TESTS)
        if ours or name.lower() in _FOREIGN_VARIABLES:
            monkeypatch.delenv(name)
    home = tmp_path / "micropaywall-home"
    monkeypatch.setenv("MICROPAYWALL_HOME", str(home))
    return home


@pytest.fixture
def seed() -> int:
    """The seed of this run, for tests that draw their own randomness; a failure must print it."""
    return SEED


# -- with MICROPAYWALL_REQUIRE_ALL=1, what is skipped has failed ------------------------------------------------------


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRE_ALL and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and MICROPAYWALL_REQUIRE_ALL=1 allows none: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE_ALL and report.outcome == "skipped" and hasattr(report, "wasxfail"):
        del report.wasxfail  # or pytest would count it as expected
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report
