"""The demo's seller: ``micropaywall serve --sandbox`` as a process of its own, that can be killed and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from micropaywall.errors import Unavailable

__all__ = ["SellerProcess"]


class SellerProcess:
    """A sandbox seller on a free loopback port, with its book and the sandbox network in ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = 0
        self.url = ""
        self.routes: list[dict[str, str]] = []
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it and wait until it serves; the port stays the same over restarts. Raises Unavailable."""
        command = [sys.executable, "-m", "micropaywall", "serve", "--sandbox", "--json", "--port", str(self.port)]
        self._log = (self.home / "seller.log").open("a", encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603  our own program, with arguments of our own
            command,
            stdout=subprocess.PIPE,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self._environment(),
        )
        if self._process.stdout is None:
            raise RuntimeError("the seller's output is not piped")
        line = self._process.stdout.readline()
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            self.kill()
            log = (self.home / "seller.log").read_text(encoding="utf-8").strip()
            raise Unavailable(f"the seller did not start: {log[-400:] or 'it said nothing'}") from None
        self.port, self.url, self.routes = told["port"], told["url"], told["routes"]

    def kill(self) -> None:
        """Kill -9 (TerminateProcess on Windows): it gets no chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _environment(self) -> dict[str, str]:
        """The machine's, without this user's settings of micropaywall."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MICROPAYWALL_", "MPW_"))}
        source = str(Path(__file__).parents[3])
        path = [source, *(part for part in kept.get("PYTHONPATH", "").split(os.pathsep) if part and part != source)]
        return kept | {
            "MICROPAYWALL_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONUTF8": "1",
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
