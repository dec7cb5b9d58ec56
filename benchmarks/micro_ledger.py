"""Reserve and capture per second, straight at the book: what a paid request asks of it, without HTTP and signatures.

    python -m benchmarks.micro_ledger [--json] [--requests N] [--grown 1000000]

Concurrency 64 and 256, each in a small book; then 64 in a book of 1,000 and of ``--grown`` charges, in turn: a paid request
may take at most 1.2 times as long in the grown one. CPU is that of the whole process (event loop and writer thread).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from micropaywall.core import book
from micropaywall.core.model import StoredResponse
from micropaywall.ids import Fingerprint, ReplayKey, row_id
from micropaywall.ledger.sqlite import SqliteLedger
from micropaywall.ledger.sqlite.replay import MOVED_UP_TO, prefix_of

ASSET = "eip155:4020402/erc20:0x5c00000000000000000000000000000000000001"
PAYEE = "0x" + "b2" * 20
RESPONSE = StoredResponse(200, ((b"content-type", b"application/json"), (b"content-length", b"120")), b"x" * 120)
INSTRUCTION_BYTES = 330
"""About what an exact payment needs to be settled later."""


@dataclass(frozen=True)
class Result:
    """One measurement: paid requests (a Reserve and a Capture each)."""

    case: str
    charges: int
    concurrency: int
    per_s: float
    cpu_us: float
    wall_us: float


def commands(count: int) -> list[tuple[book.Reserve, book.Capture]]:
    """Distinct payments, made before the clock runs."""
    made = []
    now_ms = time.time_ns() // 1_000_000
    for n in range(count):
        noise = os.urandom(100)
        at = now_ms + n // 10
        payment_id, charge_id = row_id(at, noise[:10]), row_id(at, noise[10:20])
        reserve = book.Reserve(
            payment_id=payment_id,
            charge_id=charge_id,
            key=ReplayKey(noise[20:52]),
            rail="exact",
            network="eip155:4020402",
            asset=ASSET,
            payer="0x" + noise[52:72].hex(),
            payee=PAYEE,
            amount=1000,
            charge_amount=1000,
            mode="after",
            dialect="x402/2",
            binding=noise[20:52],
            fingerprint=Fingerprint(noise[20:52]),
            instruction=noise + bytes(INSTRUCTION_BYTES - len(noise)),
            valid_before_ms=at + 300_000,
            endpoint="GET /api/resource",
            url="http://127.0.0.1:3000/api/resource",
            owner="worker-1",
            now_ms=at,
            lease_until_ms=at + 150_000,
            settle_lease_ms=at + 60_000,
        )
        capture = book.Capture(
            charge_id=charge_id,
            payment_id=payment_id,
            amount=1000,
            owner="worker-1",
            now_ms=at + 2,
            response=RESPONSE,
            latency_ms=2,
            begin_settle=True,
            settle_lease_ms=at + 60_000,
        )
        made.append((reserve, capture))
    return made


async def measure(path: Path, case: str, *, charges: int, requests: int, concurrency: int) -> Result:
    """Buy ``requests`` times with ``concurrency`` at once from the book at ``path``."""
    ledger = await SqliteLedger.open(path)
    todo = commands(requests + concurrency * 4)
    warm, timed = todo[: concurrency * 4], todo[concurrency * 4 :]

    async def buyer(share: list[tuple[book.Reserve, book.Capture]]) -> None:
        for reserve, capture in share:
            if not isinstance(await ledger.apply(reserve), book.Applied):
                raise RuntimeError("a distinct payment was refused")  # noqa: TRY004
            await ledger.apply(capture)

    await asyncio.gather(*(buyer(warm[n::concurrency]) for n in range(concurrency)))
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(buyer(timed[n::concurrency]) for n in range(concurrency)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await ledger.close()
    return Result(case, charges, concurrency, requests / wall, cpu / requests * 1e6, wall / requests * 1e6)


def fill(path: Path, charges: int) -> None:
    """Put ``charges`` old, settled purchases into the book, in the database itself: quicker than buying them."""
    asyncio.run(_begin(path))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    writer = 900_000 << 40
    connection.create_function("prefix_of", 1, prefix_of, deterministic=True)
    connection.create_function("old_id", 1, lambda i: row_id(1_700_000_000_000 + i // 10, os.urandom(10)))
    for first in range(1, charges + 1, 100_000):
        last = min(charges, first + 99_999)
        numbers = f"WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
        connection.execute("BEGIN")
        connection.execute(
            f"""INSERT INTO payments (no, id, key, state, rail, network, asset, payer, payee, amount, drawn, captured,
                refunded, mode, dialect, binding, instruction, valid_before_ms, created_ms, settled_ms, transaction_id,
                reason, attempts, owner)
            {numbers} SELECT {writer} + i * 4, old_id(i), randomblob(32), 'final', 'exact', 'eip155:4020402', '{ASSET}',
                '0x' || lower(hex(randomblob(20))), '{PAYEE}', 1000, 1000, 1000, 0, 'after', 'x402/2', randomblob(32),
                randomblob({INSTRUCTION_BYTES}), 1700000300000, 1700000000000 + i / 10, 1700000000000 + i / 10,
                '0x' || lower(hex(randomblob(32))), '', 0, '' FROM n"""
        )
        connection.execute(
            f"""INSERT INTO charges (no, id, payment_no, state, fingerprint, reserved, amount, endpoint, url, created_ms,
                owner, idempotency_key, agent, captured_ms, delivered, response_status, response_bytes, latency_ms)
            {numbers} SELECT {writer} + i * 4 + 1, old_id(i), {writer} + i * 4, 'captured', randomblob(32), 1000, 1000,
                'GET /api/resource', 'http://127.0.0.1:3000/api/resource', 1700000000000 + i / 10, 'old', '', '',
                1700000000000 + i / 10, 0, 200, 120, 2 FROM n"""
        )
        connection.execute(
            f"""INSERT INTO journal (no, at_ms, kind, payment_no, charge_no, amount, payment_state, charge_state, detail)
            {numbers} SELECT {writer} + i * 4 + 2, 1700000000000 + i / 10, 'captured', {writer} + i * 4,
                {writer} + i * 4 + 1, 1000, 'settling', 'captured', '200 120 2' FROM n"""
        )
        connection.execute("COMMIT")
    connection.execute("INSERT INTO replay_keys SELECT prefix_of(key), 0, no FROM payments ORDER BY 1")
    connection.execute("INSERT INTO meta VALUES (?, ?)", (MOVED_UP_TO, str(charges).encode()))
    connection.execute("INSERT INTO writers VALUES (900000, '{}', 0, NULL, ?)", (writer + charges * 4 + 2,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


async def _begin(path: Path) -> None:
    await (await SqliteLedger.open(path)).close()


def run(*, requests: int, grown: int, rounds: int, place: Path) -> list[Result]:
    """All cases; the two sizes take turns, so that the machine's moods fall on both."""
    results: list[Result] = []
    for concurrency in (64, 256):
        path = place / f"plain-{concurrency}.db"
        results += [
            asyncio.run(measure(path, "small book", charges=0, requests=requests, concurrency=concurrency))
            for _ in range(rounds)
        ]
    sizes = {1_000: place / "small.db", grown: place / "grown.db"}
    for charges, path in sizes.items():
        fill(path, charges)
    for _ in range(rounds):
        for charges, path in sizes.items():
            asyncio.run(measure(path, "warm-up", charges=charges, requests=requests // 4, concurrency=64))
            results.append(
                asyncio.run(measure(path, f"{charges:,} charges", charges=charges, requests=requests, concurrency=64))
            )
    return results


def summary(results: list[Result]) -> list[Result]:
    """The median of each case."""
    cases: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        cases.setdefault((result.case, result.concurrency), []).append(result)
    return [
        Result(
            case,
            several[0].charges,
            concurrency,
            statistics.median(r.per_s for r in several),
            statistics.median(r.cpu_us for r in several),
            statistics.median(r.wall_us for r in several),
        )
        for (case, concurrency), several in cases.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--grown", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    # Beside the sources, not in /tmp, which may be memory: what is measured is a disk's commits.
    place = Path(tempfile.mkdtemp(prefix="micro-ledger-", dir=Path(__file__).parent))
    try:
        medians = summary(run(requests=arguments.requests, grown=arguments.grown, rounds=arguments.rounds, place=place))
    finally:
        shutil.rmtree(place)
    small, grown = medians[-2], medians[-1]
    ratios = {"wall": grown.wall_us / small.wall_us, "cpu": grown.cpu_us / small.cpu_us}
    if arguments.json:
        print(json.dumps({"results": [asdict(r) for r in medians], "grown_to_small": ratios}, indent=2))
    else:
        for r in medians:
            print(
                f"{r.case:>20} x{r.concurrency:<4} {r.per_s:>9,.0f}/s  CPU {r.cpu_us:6.1f} us  wall {r.wall_us:6.1f} us"
            )
        print(f"grown to small: wall {ratios['wall']:.2f}, CPU {ratios['cpu']:.2f} (at most 1.2)")
    return 0 if max(ratios.values()) <= 1.2 else 1


if __name__ == "__main__":
    sys.exit(main())
