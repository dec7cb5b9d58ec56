"""Buyers, a seller, a network and faults: whatever happens, at rest the books, the network and the budgets agree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.sim.market import Market, seed_from

pytestmark = pytest.mark.anyio
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
STEPS = int(os.environ.get("MARKET_SIM_STEPS") or (3_000 if LONG else 400))


async def test_a_market_with_faults_comes_to_rest_with_every_book_in_agreement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = seed_from(os.environ.get("MARKET_SIM_SEED"))
    market = Market(tmp_path, seed)
    await market.paywall.start()
    try:
        for _ in range(STEPS):
            await market.step()
        await market.come_to_rest()
        market.check()
    except BaseException:
        print(f"to see it again: MARKET_SIM_SEED={seed} MARKET_SIM_STEPS={STEPS}")
        raise
    finally:
        await market.paywall.stop()
    assert market.seen["200"] > STEPS / 8, market.seen
