"""Whatever happens on the sandbox chain: no money appears or vanishes, and no authorization moves twice."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from tests.kit.chain import START_S, instruct, payment, refund_of

from micropaywall.clock import ManualClock
from micropaywall.core.model import Outcome, Rejected, Settled, Unknown
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.errors import RailError
from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.chain import (
    ABSENT,
    AuthorizationState,
    Kind,
    Mined,
    Network,
    Pending,
    Revert,
    Reverted,
    Rules,
)
from micropaywall.sandbox.faults import FaultName, parse_faults
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.settlement import SandboxSettlement
from micropaywall.sandbox.signing import cancel_digest

KEYS = [PrivateKey(hashlib.sha256(b"sandbox property %d" % n).digest()) for n in range(3)]
ADDRESSES = [key.address_bytes for key in KEYS] + [bytes([7]) * 20]
INITIAL = 1_000

keys = st.sampled_from(KEYS)
addresses = st.sampled_from(ADDRESSES)
values = st.integers(0, 700)
nonces = st.integers(0, 8).map(lambda n: n.to_bytes(32, "big"))
fault_names = [name.text for name in FaultName if name.by_header and name is not FaultName.SLOW]


def explained(network: Network) -> dict[bytes, int]:
    """Balances as they follow from the chain's log alone."""
    balances: Counter[bytes] = Counter(dict.fromkeys(ADDRESSES, INITIAL))
    for receipt in network.logs(0, network.head().number):
        if receipt.moved:
            if receipt.kind is not Kind.MINT:
                balances[receipt.sender] -= receipt.value
            balances[receipt.recipient] += receipt.value
    return dict(balances)


class SandboxMachine(RuleBasedStateMachine):
    """Payers, a faucet, time, forks, and a settlement that meets faults, on one chain."""

    signed = Bundle("signed")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="micropaywall-")
        self.clock = ManualClock()
        rules = Rules(initial_balance=INITIAL, finality_depth=4)
        self.network = SandboxNetwork(Path(self.directory.name) / "sandbox.db", clock=self.clock, rules=rules)
        self.network.head()
        self.runner = asyncio.Runner()
        self.minted = 0
        self.final: dict[bytes, tuple[Instruction, int]] = {}

    def teardown(self) -> None:
        self.runner.close()
        self.network.close()
        self.directory.cleanup()

    @initialize(target=signed)
    def first(self) -> Instruction:
        return instruct(KEYS[0], 5, nonce=bytes(32), payee=ADDRESSES[1])

    # -- what may happen ----------------------------------------------------------------------------------------------

    @rule(
        target=signed, key=keys, payee=addresses, value=values, nonce=nonces, v1=st.booleans(), life=st.integers(1, 60)
    )
    def sign(self, key: PrivateKey, payee: bytes, value: int, nonce: bytes, v1: bool, life: int) -> Instruction:
        valid_before = self.clock.now_ms() // 1000 + life
        chain_id = 84_532 if v1 else 4_020_402
        return instruct(key, value, payee=payee, nonce=nonce, valid_before=valid_before, chain_id=chain_id)

    @rule(batch=st.lists(signed, min_size=1, max_size=5), delay=st.sampled_from([0, 0, 0, 1, 3]))
    def submit(self, batch: list[Instruction], delay: int) -> None:
        verdicts = self.network.verify(batch)
        a = batch[0].authorization
        free = self.network.authorization_state(a.payer, a.nonce) is AuthorizationState.UNUSED
        results = self.network.submit(batch, delay_blocks=delay)
        if len(batch) == 1 and verdicts[0] is None and free:
            assert not isinstance(results[0], Reverted)
        for transfer, result in zip(batch, results, strict=True):
            if isinstance(result, Mined):
                receipt = self.network.receipt(result.hash)
                assert receipt is not None
                a = transfer.authorization
                assert (receipt.sender, receipt.recipient, receipt.value) == (a.payer, a.payee, a.value)

    @rule(transfer=signed, faults=st.lists(st.sampled_from(fault_names), max_size=3, unique=True))
    def settle_with_faults(self, transfer: Instruction, faults: list[str]) -> None:
        row = payment(transfer)
        (before,) = self.network.lookup([transfer])

        async def conversation() -> list[Outcome]:
            async def no_time(_: float) -> None:
                return

            settlement = SandboxSettlement(self.network, faults=parse_faults(faults), sleep=no_time)
            outcomes = []
            for _ in range(4):
                outcomes += await settlement.settle([row])
                outcomes += await settlement.status([row])
            if isinstance(outcomes[-1], Settled) and row.amount:
                refund = refund_of(row, row.amount)
                outcomes += [await settlement.refund(refund) for _ in range(2)]
            return outcomes

        outcomes = self.runner.run(conversation())
        (after,) = self.network.lookup([transfer])
        if not faults:
            assert isinstance(before, Mined) <= isinstance(after, Mined)
            assert isinstance(outcomes[7], Settled) == isinstance(after, Mined)
        if isinstance(after, Mined):
            assert not any(isinstance(o, Rejected) for o in outcomes[1:8:2])
        if isinstance(outcomes[7], Settled):
            assert isinstance(after, Mined)
        if isinstance(outcomes[7], Unknown):
            assert after == ABSENT or isinstance(after, Pending) or outcomes[7].doubt == "unanswered"

    @rule(key=keys, nonce=nonces)
    def cancel(self, key: PrivateKey, nonce: bytes) -> None:
        self.network.cancel(key.address_bytes, nonce, key.sign_digest(cancel_digest(key.address_bytes, nonce)))

    @rule(address=addresses, value=st.integers(0, 50), key=st.binary(min_size=32, max_size=32))
    def fund(self, address: bytes, value: int, key: bytes) -> None:
        self.network.fund(address, value, key=key)

    @rule(blocks=st.integers(1, 4))
    def mine(self, blocks: int) -> None:
        self.network.mine(blocks)

    @rule(seconds=st.integers(-5, 20))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(
        depth=st.integers(1, 5),
        chosen=st.lists(signed, max_size=4),
        everything=st.booleans(),
        at_once=st.booleans(),
    )
    def reorganise(self, depth: int, chosen: list[Instruction], everything: bool, at_once: bool) -> None:
        hashes = [result.hash for result in self.network.lookup(chosen) if isinstance(result, Mined)]
        try:
            self.network.reorganise(
                depth, drop="all" if everything else hashes, again="at_once" if at_once else "later"
            )
        except RailError:
            assert depth >= 4

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def balances_are_what_the_log_explains(self) -> None:
        balances = explained(self.network)
        assert self.network.balances(ADDRESSES) == [balances[address] for address in ADDRESSES]
        assert min(balances.values()) >= 0

    @invariant()
    def money_is_conserved(self) -> None:
        logs = self.network.logs(0, self.network.head().number)
        minted = sum(receipt.value for receipt in logs if receipt.kind is Kind.MINT and receipt.moved)
        assert sum(self.network.balances(ADDRESSES)) == INITIAL * len(ADDRESSES) + minted

    @invariant()
    def no_authorization_takes_effect_twice(self) -> None:
        logs = self.network.logs(0, self.network.head().number)
        effects = Counter((receipt.sender, receipt.nonce) for receipt in logs if receipt.reverted is None)
        assert all(count == 1 for count in effects.values())

    @rule(transfer=signed)
    def final_stays_final(self, transfer: Instruction) -> None:
        (result,) = self.network.lookup([transfer])
        if isinstance(result, Mined) and result.final:
            self.final[result.hash] = (transfer, result.block)
        for digest, (seen, block) in self.final.items():
            (now,) = self.network.lookup([seen])
            assert isinstance(now, Mined)
            assert (now.hash, now.block, now.final) == (digest, block, True)

    @rule(transfer=signed)
    def time_does_not_go_back(self, transfer: Instruction) -> None:
        (result,) = self.network.lookup([transfer])
        if result == Reverted(Revert.EXPIRED):
            self.clock.advance(-100)
            assert self.network.lookup([transfer]) == [result]
            assert self.network.submit([transfer]) == [result]
            self.clock.advance(100)
        assert self.network.head().time_s >= START_S


SandboxMachine.TestCase.settings = settings(stateful_step_count=25, max_examples=settings().max_examples // 2)
test_the_chain_keeps_its_promises_whatever_happens = SandboxMachine.TestCase
