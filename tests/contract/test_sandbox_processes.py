"""Several processes, one chain: nothing moves twice, nothing is lost, nobody fails for want of a lock."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.kit.chain import PAYEE, instruct, new_key

from micropaywall.sandbox.chain import Mined, Rules
from micropaywall.sandbox.network import SandboxNetwork

PROCESSES = 4
SUBMITTER = """
import json, sys, time
from micropaywall.rails.exact.types import read_instruction
from micropaywall.sandbox.network import SandboxNetwork

path, orders, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
batches = json.load(open(orders))
network = SandboxNetwork(path)
time.sleep(max(0, start - time.time()))
said = []
for batch in batches:
    results = network.submit([read_instruction(text.encode()) for text in batch])
    said.append([[type(r).__name__, getattr(r, "hash", b"").hex()] for r in results])
print(json.dumps(said))
"""


def run(path: Path, orders: list[list[list[str]]], place: Path) -> list[list[list[list[str]]]]:
    """Let each process submit its batches at the same time; what each was told."""
    start = str(time.time() + 1.0)
    processes = []
    for number, batches in enumerate(orders):
        file = place / f"orders-{number}.json"
        file.write_text(json.dumps(batches))
        command = [sys.executable, "-c", SUBMITTER, str(path), str(file), start]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said = []
    for process in processes:
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        said.append(json.loads(out))
    return said


def text(*transfers: object) -> list[str]:
    return [transfer.encode().decode() for transfer in transfers]  # type: ignore[attr-defined]


def test_one_authorization_submitted_fifty_times_by_four_processes_moves_once(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"  # made by whoever comes first
    transfer = instruct(new_key(), 1_000, valid_before=int(time.time()) + 600)
    said = run(path, [[text(transfer)] * 50] * PROCESSES, tmp_path)
    flat = [tuple(result) for one in said for batch in one for result in batch]
    assert len(flat) == 50 * PROCESSES
    assert len(set(flat)) == 1
    assert flat[0][0] == "Mined"
    network = SandboxNetwork(path)
    assert network.balances([PAYEE]) == [1_000_000_000 + 1_000]
    network.close()


def test_a_balance_that_covers_one_payment_covers_one_in_four_processes(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    key = new_key()
    until = int(time.time()) + 600
    poor = SandboxNetwork(path, rules=Rules(initial_balance=1_500))
    poor.head()
    poor.close()
    orders = [[text(instruct(key, 1_000, valid_before=until))] for _ in range(PROCESSES)]
    said = run(path, orders, tmp_path)
    kinds = sorted(batch[0][0] for one in said for batch in one)
    assert kinds == ["Mined", "Reverted", "Reverted", "Reverted"]


def test_batches_of_four_processes_all_arrive(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    keys = [new_key() for _ in range(8)]
    until = int(time.time()) + 600
    orders = [
        [text(*(instruct(keys[(n + i) % 8], 10, valid_before=until) for i in range(20))) for n in range(10)]
        for _ in range(PROCESSES)
    ]
    said = run(path, orders, tmp_path)
    hashes = [digest for one in said for batch in one for kind, digest in batch if kind == "Mined"]
    assert len(set(hashes)) == PROCESSES * 200
    network = SandboxNetwork(path)
    assert network.balances([PAYEE]) == [1_000_000_000 + PROCESSES * 200 * 10]
    assert len(network.logs(0, network.head().number)) == PROCESSES * 200
    network.close()


def test_a_process_that_is_killed_leaves_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    key = new_key()
    until = int(time.time()) + 600
    batches = [text(*(instruct(key, 1, valid_before=until) for _ in range(10))) for _ in range(60)]
    file = tmp_path / "orders.json"
    file.write_text(json.dumps(batches))
    network = SandboxNetwork(path)
    network.head()
    process = subprocess.Popen([sys.executable, "-c", SUBMITTER, str(path), str(file), "0"], stdout=subprocess.DEVNULL)
    while network.balances([PAYEE])[0] < 1_000_000_000 + 50:
        assert process.poll() is None
    process.kill()
    process.wait()
    moved = network.balances([PAYEE])[0] - 1_000_000_000
    assert moved % 10 == 0
    assert network.balances([key.address_bytes]) == [1_000_000_000 - moved]
    assert len(network.logs(0, network.head().number)) == moved
    assert isinstance(network.submit([instruct(key, 1, valid_before=until)])[0], Mined)
    network.close()
