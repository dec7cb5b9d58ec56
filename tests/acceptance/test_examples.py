"""Every example runs with one command, and prints what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import environment

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTS = {
    "parallel_buyers": ["served 3, refused 17", "the buyer has 999.97 USDC", "the seller's book has 3 deliveries"],
    "priced_stream": ["tick 1", "tick 2", "tick 3", "paid 0.002 USDC"],
    "priced_by_length": ["A FEW WORDS cost 0.001 USDC", "MANY WORDS  cost 0.003 USDC"],
}


@pytest.mark.parametrize("name", PRINTS)
def test_the_example_does_what_it_says(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name / "run.py")],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTS[name]


def test_every_example_is_listed_and_run() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == set(PRINTS)
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"examples/{name}/run.py" in listed for name in folders)
