"""The demo: every step really checks, and its exit code says whether all of them held."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from micropaywall.cli.demo import play, trouble
from micropaywall.cli.demo.stage import Stage
from micropaywall.cli.output import Output
from micropaywall.cli.screen import width_of
from tests.acceptance.conftest import run

STEPS = ["seller", "challenge", "payment", "books", "replay", "tampered", "budget", "crash", "proof"]


def test_every_step_holds_and_tells_what_it_measured(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(tmp_path, "demo", "--json")
    assert done.code == 0, done.out + done.err
    assert time.monotonic() - begun < 30, "under 10 s on a machine that does nothing else"
    told = done.json
    assert told["held"] is True
    assert [step["name"] for step in told["steps"]] == STEPS
    assert all(step["checks"] and all(check["held"] for check in step["checks"]) for step in told["steps"])
    facts = {step["name"]: step["facts"] for step in told["steps"]}
    assert facts["challenge"]["status"] == 402
    assert facts["payment"]["authorization"]["value"] == "1000"
    assert facts["crash"]["killed"] != facts["crash"]["restarted"]
    assert facts["proof"]["deliveries"] == 2


@pytest.mark.parametrize("columns", [60, 80])
def test_the_demo_fits_the_terminal(tmp_path: Path, columns: int) -> None:
    done = run(tmp_path, "demo", COLUMNS=str(columns))
    assert done.code == 0
    longest = 66 + len("       transaction  ")  # a hash is not broken, so that it can be copied
    assert max(width_of(line) for line in done.out.splitlines()) <= max(columns, longest)


def test_the_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert run(tmp_path, "demo", TMPDIR=str(temporary), TEMP=str(temporary), TMP=str(temporary)).code == 0
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "wallets").exists(), "the user's own data directory is left alone"


def test_a_check_that_fails_fails_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(Output(as_json=False))
    with stage.step("one", "One"):
        stage.check(True, "holds")
    with stage.step("two", "Two"):
        stage.check(False, "does not")
    assert stage.finish() is False
    assert "1 of 2 checks failed" in capsys.readouterr().out


def test_a_step_without_a_check_does_not_hold() -> None:
    stage = Stage(Output(as_json=True))
    with stage.step("one", "One"):
        pass
    assert stage.finish() is False


@pytest.mark.parametrize("broken", ["replay", "tamper", "budget", "crash"])
def test_the_demo_notices_when_a_promise_is_broken(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each act is played with something in it that lies; its own checks must find out."""
    for name in list(os.environ):
        if name.startswith("MICROPAYWALL_"):
            monkeypatch.delenv(name)
    lies = {
        "replay": lambda: monkeypatch.setattr(trouble.Scene, "moved", lambda self, before: (1_000, 1_000)),
        "tamper": lambda: monkeypatch.setattr(trouble, "_flipped", lambda payload: None),
        "budget": lambda: monkeypatch.setattr(
            trouble.Scene, "payer", lambda self, budget, real=trouble.Scene.payer: real(self, "$1 each")
        ),
        "crash": lambda: monkeypatch.setattr(trouble.Scene, "records", lambda self: []),
    }
    acts = [getattr(trouble, broken)]
    monkeypatch.setattr(play, "TROUBLE", acts)
    stage = Stage(Output(as_json=False))
    real_books = play.books

    def books_then_lie(scene: play.Scene) -> None:
        real_books(scene)
        lies[broken]()

    monkeypatch.setattr(play, "books", books_then_lie)
    play.play(stage, tmp_path)
    assert stage.finish() is False
