"""Peers, sellers and proxies as separate processes, and the sandbox network that all of them share."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from micropaywall.crypto.address import parse_address
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.token import SANDBOX_NETWORK, SANDBOX_TOKEN

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
START_WITHIN_S = 30.0
PEER_WITHIN_S = 90.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).resolve().parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)


# -- environment ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peers:
    """Where the official SDKs and nginx are; see tools/interop_env.py."""

    python_v2: str
    python_v1: str
    node: str
    node_dir: str
    nginx: str
    wrk: str
    library_path: str

    def command(self, client: str) -> list[str]:
        """How to run the client called ``client``."""
        if client.endswith("_fetch"):
            return [self.node, str(Path(self.node_dir) / f"{client}.mjs")]
        python = self.python_v2 if client.startswith("v2") else self.python_v1
        return [python, str(PEERS / f"{client}.py")]


@pytest.fixture(scope="session")
def peers() -> Peers:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "interop_env.py"), "--check", "--json"], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"run `make interop-env` first: {done.stderr.strip()}")
    return Peers(**json.loads(done.stdout))


# -- processes --------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    until = time.monotonic() + START_WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on {port}")


@dataclass
class Program:
    """A server that runs for the tests of a module."""

    port: int
    log: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return self.origin + path


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Program]]:
    """Start programs that listen on a port; all of them are stopped at the end."""
    running: list[subprocess.Popen[bytes]] = []
    logs = tmp_path_factory.mktemp("logs")

    def starting(
        name: str, command: Sequence[str], port: int, *, environment: Mapping[str, str], cwd: Path | None = None
    ) -> Program:
        log = logs / f"{name}-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}, cwd=cwd
            )
        running.append(process)
        try:
            wait_for_port(port, process)
        except RuntimeError as failure:
            raise RuntimeError(f"{failure}\n{log.read_text()[-2000:]}") from None
        return Program(port, log)

    yield starting
    for process in reversed(running):
        process.send_signal(signal.SIGTERM)
    for process in reversed(running):
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -- the shared sandbox -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One user's data directory: sandbox network, book, wallets. Sellers, buyers and this test share it."""
    return tmp_path_factory.mktemp("home")


@dataclass(frozen=True)
class Payer:
    """An account that no test has used before; the sandbox gives every address its first money."""

    key: str
    address: str
    address_bytes: bytes


@pytest.fixture
def payer() -> Payer:
    secret = secrets.token_bytes(32)
    key = PrivateKey(secret)
    return Payer("0x" + secret.hex(), key.address, key.address_bytes)


@pytest.fixture
def pay(peers: Peers) -> Callable[[str, str, Payer], dict[str, Any]]:
    """Run an official client; the JSON line that it prints."""

    def paying(client: str, url: str, payer: Payer) -> dict[str, Any]:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PAY_URL": url,
            "EVM_PRIVATE_KEY": payer.key,
            "PAY_NETWORK": SANDBOX_NETWORK,
            "PAY_ASSET": SANDBOX_TOKEN.address_text,
        }
        done = subprocess.run(
            peers.command(client), capture_output=True, text=True, env=environment, timeout=PEER_WITHIN_S
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        assert len(lines) == 1, f"{client} printed {done.stdout!r}\n{done.stderr[-2000:]}"
        answer: dict[str, Any] = json.loads(lines[0])
        return answer | {"stderr": done.stderr[-2000:]}

    return paying


def fetch(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, list[tuple[str, str]], bytes]:
    """A plain GET: status, header lines, body; refusals do not raise."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers.items(), response.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers.items(), refusal.read()


def challenge_of(url: str) -> dict[str, Any]:
    """The decoded PAYMENT-REQUIRED of ``url``."""
    status, headers, _ = fetch(url)
    assert status == 402
    return json.loads(base64.b64decode({name.lower(): value for name, value in headers}["payment-required"]))


@dataclass(frozen=True)
class Accounts:
    """Balances on the sandbox network, in atomic units."""

    network: SandboxNetwork

    def balance(self, address: str) -> int:
        return self.network.balances([parse_address(address)])[0]


@pytest.fixture
def accounts(home: Path) -> Iterator[Accounts]:
    network = SandboxNetwork(home / "sandbox.db")
    yield Accounts(network)
    network.close()


# -- sellers and proxies ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def seller(start: Callable[..., Program], home: Path) -> Program:
    """Our sandbox seller, as `micropaywall serve --sandbox` starts it."""
    port = free_port()
    command = [sys.executable, "-m", "micropaywall", "serve", "--sandbox", "--port", str(port)]
    return start("seller", command, port, environment={"MICROPAYWALL_HOME": str(home)})


@pytest.fixture(scope="session")
def nginx(start: Callable[..., Program], peers: Peers, tmp_path_factory: pytest.TempPathFactory, home: Path) -> Program:
    """A real nginx with its default buffers, in front of a seller that knows its public address."""
    front, back = free_port(), free_port()
    files = tmp_path_factory.mktemp("nginx")
    config = files / "micropaywall.toml"
    config.write_text(f'[seller]\npublic_url = "http://127.0.0.1:{front}"\n')
    command = [sys.executable, "-m", "micropaywall", "serve", "--sandbox", "--port", str(back), "--config", str(config)]
    start("seller-behind-nginx", command, back, environment={"MICROPAYWALL_HOME": str(home)})
    (files / "nginx.conf").write_text(
        f"""
        daemon off;
        worker_processes 1;
        pid {files}/nginx.pid;
        error_log stderr warn;
        events {{ worker_connections 256; }}
        http {{
            access_log off;
            client_body_temp_path {files}/body;
            proxy_temp_path {files}/proxy;
            fastcgi_temp_path {files}/fastcgi;
            uwsgi_temp_path {files}/uwsgi;
            scgi_temp_path {files}/scgi;
            server {{
                listen 127.0.0.1:{front};
                location / {{
                    proxy_pass http://127.0.0.1:{back};
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_set_header X-Forwarded-Proto $scheme;
                    proxy_set_header X-Forwarded-Host $http_host;
                }}
            }}
        }}
        """
    )
    environment = {"LD_LIBRARY_PATH": peers.library_path} if peers.library_path else {}
    return start(
        "nginx", [peers.nginx, "-p", str(files), "-c", str(files / "nginx.conf")], front, environment=environment
    )
