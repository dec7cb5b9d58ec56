"""Real commands as processes of their own, each with a data directory that the test chose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "micropaywall"]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MICROPAYWALL_", "MPW_"))}
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        kept.pop(name, None)
    return kept | {"MICROPAYWALL_HOME": str(home), "PYTHONUTF8": "1"} | more


def run(home: Path, *arguments: str, stdin: bytes = b"", cwd: Path | None = None, **env: str) -> Done:
    done = subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, env=environment(home, **env), cwd=cwd, timeout=60
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out_bytes: bytes
    err_bytes: bytes

    @property
    def out(self) -> str:
        return self.out_bytes.decode()

    @property
    def err(self) -> str:
        return self.err_bytes.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out_bytes)

    @property
    def problem(self) -> Any:
        return json.loads(self.err_bytes)


@dataclass
class Seller:
    """A running `micropaywall serve`. ``told`` is what it said of itself at the start."""

    process: subprocess.Popen[bytes]
    told: dict[str, Any]
    home: Path

    @property
    def url(self) -> str:
        return str(self.told["url"])

    def stop(self) -> int:
        """As Ctrl-C does; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def serving(home: Path, *arguments: str, cwd: Path | None = None) -> Iterator[Seller]:
    """A server on a free port, stopped at the end."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--json", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment(home),
            cwd=cwd,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, (home / "server.log").read_text()
            yield Seller(process, json.loads(line), home)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def seller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seller]:
    """One sandbox seller for the tests of a file."""
    with serving(tmp_path_factory.mktemp("seller"), "--sandbox") as running:
        yield running


@pytest.fixture
def cli(seller: Seller) -> Callable[..., Done]:
    """The command line in the seller's data directory."""
    return lambda *arguments, **options: run(seller.home, *arguments, **options)
