"""Thousands of seeded steps: the engine and the reference ledger never differ, and no step breaks an invariant."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from tests.sim.ledger_sim import Simulation

from micropaywall.core.lives import PaymentState
from micropaywall.ledger.accounts import ENTRY_KINDS

REPLAY = os.environ.get("LEDGER_SIM_SEED")
"""Set it to the seed that a failure printed."""


def live(seed: int, steps: int) -> Counter[str]:
    simulation = Simulation(seed)
    try:
        simulation.run(steps)
    except BaseException:
        print(f"\nLEDGER_SIM_SEED={seed} repeats this")
        raise
    return simulation.seen


def test_seeded_lives_agree_with_the_reference_and_reach_every_state() -> None:
    seen: Counter[str] = Counter()
    for seed in [int(REPLAY)] if REPLAY else range(8):
        seen += live(seed, 1_000)
    for state in PaymentState:
        assert seen[f"state {state.value}"], f"no payment ended {state.value}"
    for kind in ENTRY_KINDS:
        assert seen[f"entry {kind}"], f"nothing was {kind}"
    for answer in ("Applied", "Replayed", "Busy", "Open", "Foreign", "Spent", "Denied"):
        assert seen[f"Reserve {answer}"], f"Reserve was never answered {answer}"
    for command in (
        "Capture",
        "Release",
        "Delivered",
        "Extend",
        "BeginSettle",
        "EndSettle",
        "Reorganise",
        "EndRefund",
        "CancelRefund",
    ):
        assert seen[f"{command} Applied"], f"{command} never took effect"
        assert seen[f"{command} Lost"], f"{command} was never too late"
    assert seen["BeginRefund Denied"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_seeded_lives_agree_with_the_reference() -> None:
    for seed in range(1_000, 1_200):
        live(seed, 3_000)
