"""How fast deferred payments settle: one worker on the sandbox network, with nothing else running."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.load import Unmeasurable
from micropaywall.clock import SystemClock
from micropaywall.ledger import open_ledger
from micropaywall.rails.registry import open_rail
from micropaywall.settlement.worker import SettlementWorker

AT_MOST_S = 3.0


async def drain(home: Path, ledger: Path) -> float:
    """Settle what the book at ``ledger`` has due, for a few seconds; payments per second."""
    clock = SystemClock()
    rail = open_rail("sandbox", pay_to=None, options={"store": str(home / "sandbox.db")}, clock=clock)
    book = await open_ledger(f"sqlite:///{ledger}")
    worker = SettlementWorker(
        book, {(rail.seller.name, rail.seller.network): rail.settlement}, clock=clock, owner="benchmark"
    )
    settled = 0
    started = time.monotonic()
    try:
        while (elapsed := time.monotonic() - started) < AT_MOST_S:
            tick = await worker.tick()
            if tick.rejected or tick.unknown:
                raise Unmeasurable(f"{tick.rejected} payments were rejected, {tick.unknown} have no verdict")
            settled += tick.settled
            if not tick.leased:
                break
    finally:
        await rail.settlement.close()
        await book.close()
    if not settled:
        raise Unmeasurable("no deferred payment was due")
    return settled / elapsed
