"""Runs a document: its files are written, its programs run, its commands typed, its output compared, in order, in one directory.

    ```python starting with "# name.py"     written to that file (likewise toml and yaml)
    ```python                               run as a program; must succeed
    ```console                              each line after "$ " is typed; the lines under it are what must come out
    ```powershell                           every command in it must exist
    <!-- not run: reason -->                before a block: it is left alone

Servers (`micropaywall serve`, `uvicorn`) run until the document ends or another one takes their port. Port 3000 and 8000 of the
documents are free ports here. Output is compared with what changes from run to run taken out (`normal`); "…" stands for any
number of lines, or for any text in a line.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from tests.acceptance.conftest import environment

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:<!-- *(?P<note>[^\n]*?) *-->\n)?^(?P<fence>```+)(?P<kind>[a-z]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"#\s*(?P<name>[\w./-]+\.(?:py|toml|txt|conf))\n")
_TIMEOUT_S = 60
_VARIABLE = (
    (re.compile(r"\bpay_[0-9a-f]{12,40}\b"), "pay_ID"),
    (re.compile(r"0x[0-9a-fA-F]{6,}…?(?:[0-9a-fA-F]{4,})?"), "0xHEX"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"(localhost|127\.0\.0\.1|\[::1\]):\d+"), r"\1:PORT"),
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"\b[A-Za-z0-9_-]{27}\b"), "QUOTE"),
    (re.compile(r"\b\d+(?:\.\d+)? s\b"), "N s"),
    (re.compile(r"\b\d+ ms\b"), "N ms"),
    (re.compile(r"\bafter \d+ attempts\b"), "after N attempts"),
    (re.compile(r"\bblock \d+"), "block N"),
    (re.compile(r"\b\d{1,3}(?:,\d{3})* bytes\b"), "N bytes"),
    (re.compile(r"(?:/[\w.-]+)*/(?:home|micropaywall)/"), "HOME/"),
    (re.compile(r"[ \t]+"), " "),
)


def normal(line: str) -> str:
    """A line without what changes from run to run."""
    for pattern, instead in _VARIABLE:
        line = pattern.sub(instead, line)
    return line.strip()


def missing(expected: list[str], received: list[str]) -> str | None:
    """The first expected line that did not come, in order; None when all came.

    "…" alone stands for any number of lines, in a line for any text.
    """
    position, skipping = 0, False
    lines = [line for line in (normal(line) for line in received) if line]
    for line in (normal(line) for line in expected):
        if not line:
            continue
        if line == "…":
            skipping = True
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")))
        if skipping:
            while position < len(lines) and not pattern.fullmatch(lines[position]):
                position += 1
        if position >= len(lines) or not pattern.fullmatch(lines[position]):
            return line
        position, skipping = position + 1, False
    return None


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    note: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("kind")) + 1
        yield Block(found["kind"], found["text"], found["note"] or "", line)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Runner:
    """One document being run in ``directory``."""

    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.directory / "home"
        self.work = self.directory / "work"
        self.work.mkdir(parents=True)

    @property
    def env(self) -> dict[str, str]:
        return environment(self.home, PYTHONWARNINGS="error", COLUMNS="100")

    def run(self, block: Block) -> None:
        if block.note.startswith("not run"):
            return
        named = _FILE.match(block.text)
        if block.kind in ("python", "toml", "nginx") and named:
            (self.work / named["name"]).write_text(self._with_ports(block.text), encoding="utf-8")
            if block.kind == "toml":
                tomllib.loads(block.text)
            if block.kind == "python":
                compile(block.text, named["name"], "exec")
        elif block.kind == "python":
            done = self._run([sys.executable, "-c", self._with_ports(block.text)])
            assert done.returncode == 0, done.stderr
        elif block.kind == "toml":
            tomllib.loads(block.text)
        elif block.kind == "console":
            self._console(block.text)
        elif block.kind == "powershell":
            self._powershell(block.text)
        else:
            assert block.kind in ("text", "mermaid", "nginx", "json", ""), f"a block of kind {block.kind!r}"

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", env=self.env, cwd=self.work, timeout=_TIMEOUT_S
        )

    def _with_ports(self, text: str) -> str:
        def port(found: re.Match[str]) -> str:
            return f"{found[1]}:{self.ports.get(found[2], found[2])}"

        return re.sub(r"(localhost|127\.0\.0\.1):(\d+)", port, text)

    # -- commands -----------------------------------------------------------------------------------------------------

    def _console(self, text: str) -> None:
        command, expected = "", []
        for line in [*text.splitlines(), "$ "]:
            if line.startswith("$ "):
                if command:
                    self._type(command, expected)
                command, expected = line[2:], []
            elif command.endswith("\\"):
                command = command[:-1] + line.strip()
            else:
                expected.append(line)

    def _type(self, command: str, expected: list[str]) -> None:
        assert not re.search(r'"[^"]*\$[^"]*"', command), f"a shell would expand the dollar in: {command}"
        words = shlex.split(command, comments=True)
        if words[0] == "pip":
            self._check_install(words)
        elif words[:2] == ["micropaywall", "serve"] or words[0] == "uvicorn":
            self._serve(words)
        elif words[0] in ("micropaywall", "mpw", "curl", "pytest"):
            self._run_program(command, words, expected)
        else:
            raise AssertionError(f"the documents' tests do not know the command {words[0]!r}")

    def _check_install(self, words: list[str]) -> None:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        for word in words[2:]:
            name, _, rest = word.partition("[")
            assert name == "micropaywall" or not rest, word
            assert set(filter(None, rest.rstrip("]").split(","))) <= set(extras), word

    def _run_program(self, command: str, words: list[str], expected: list[str]) -> None:
        allowed = (0,)
        if match := re.search(r"# exit (\d)", command):
            allowed = (int(match[1]),)
        words = [self._with_ports(word) for word in words]
        pipe = words.index("|") if "|" in words else len(words)
        redirect = words.index(">") if ">" in words else pipe
        program, end = words[: min(pipe, redirect)], ""
        if program[0] in ("micropaywall", "mpw"):
            program = [sys.executable, "-m", "micropaywall", *program[1:]]
        elif program[0] == "pytest":
            program = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *_plugin(), *program[1:]]
        done = self._run(program)
        if redirect < pipe:
            (self.work / words[redirect + 1]).write_text(done.stdout, encoding="utf-8")
            end = done.stderr
        else:
            end = done.stdout + ("" if done.stdout.endswith("\n") or not done.stdout else "\n") + done.stderr
        assert done.returncode in allowed, f"$ {command}\nexit {done.returncode}\n{end}"
        gone = missing(expected, end.splitlines())
        assert gone is None, f"$ {command}\nwithout the line {gone!r} in:\n{end}"

    def _serve(self, words: list[str]) -> None:
        documented = (
            words[words.index("--port") + 1] if "--port" in words else "8000" if words[0] == "uvicorn" else "3000"
        )
        if "--config" in words:
            configured = tomllib.loads((self.work / words[words.index("--config") + 1]).read_text(encoding="utf-8"))
            documented = str(configured.get("server", {}).get("port", documented))
        self._stop(documented)
        port = free_port()
        self.ports[documented] = port
        rest = [word for index, word in enumerate(words[1:], 1) if "--port" not in (word, words[index - 1])]
        module = ["micropaywall", "serve"] if words[0] == "micropaywall" else ["uvicorn"]
        rest = rest[1:] if words[0] == "micropaywall" else rest
        log = (self.directory / f"server-{documented}.log").open("wb")
        self.servers[documented] = subprocess.Popen(
            [sys.executable, "-m", *module, *rest, "--port", str(port)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=self.env,
            cwd=self.work,
        )
        log.close()
        self._await(port, documented)

    def _await(self, port: int, documented: str) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert self.servers[documented].poll() is None, (self.directory / f"server-{documented}.log").read_text()
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    def _powershell(self, text: str) -> None:
        from micropaywall.cli.frame import root

        for line in filter(None, (line.strip() for line in text.splitlines())):
            words = shlex.split(line.replace("`", ""), comments=True)
            assert words[0] in ("micropaywall", "py", "curl.exe") or words[0].startswith("$env:"), line
            if words[0] == "micropaywall":
                assert words[1] in root.members, line  # type: ignore[attr-defined]

    def _stop(self, documented: str) -> None:
        if documented in self.servers:
            process = self.servers.pop(documented)
            process.kill() if os.name == "nt" else process.terminate()
            process.wait(20)

    def close(self) -> None:
        for documented in list(self.servers):
            self._stop(documented)


def _plugin() -> list[str]:
    """How pytest finds our plugin when the package is on the path but not installed."""
    found = any(entry.value == "micropaywall.testing" for entry in entry_points(group="pytest11"))
    return [] if found else ["-p", "micropaywall.testing"]


def demo_lines(home: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "micropaywall", "demo"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(home, COLUMNS="80"),
        timeout=_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


__all__ = ["ROOT", "Block", "Runner", "blocks", "demo_lines", "missing", "normal"]
