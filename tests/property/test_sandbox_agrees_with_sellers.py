"""What a seller verifies is what the token lets pass: never valid locally where the chain would revert."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.kit.chain import PAYEE, START_S, new_key

from micropaywall.clock import ManualClock
from micropaywall.crypto.secp256k1 import ORDER
from micropaywall.errors import MicropaywallError
from micropaywall.limits import AUTHORIZATION_LIFETIME_S_MAX, AUTHORIZATION_MARGIN_S
from micropaywall.rails.exact import facilitator
from micropaywall.rails.exact.types import Authorization, Instruction
from micropaywall.sandbox.chain import Mined, Revert, Rules
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.token import SANDBOX_TOKEN

KEY, OTHER = new_key(), new_key()
CLOCK = ManualClock()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNetwork]:
    # Without ticks: looking at a later time must not make the chain's own time go on.
    path = tmp_path_factory.mktemp("chain") / "sandbox.db"
    chain = SandboxNetwork(path, clock=CLOCK, rules=Rules(block_interval_ms=0))
    yield chain
    chain.close()


near_now = st.integers(-10, 10).map(lambda d: START_S + d)
edges = st.sampled_from([0, 1, START_S + AUTHORIZATION_LIFETIME_S_MAX, 2**63 - 1, 2**63, 2**255, 2**256 - 1])
times = near_now | edges | st.integers(0, 2**256 - 1)
values = st.integers(0, 1_000) | st.sampled_from([10**9, 10**9 + 1, 2**63, 2**256 - 1])
chains = st.sampled_from([4_020_402, 84_532])


def low_s(signature: bytes) -> bytes:
    return signature


def high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])


def zero_based_v(signature: bytes) -> bytes:
    return signature[:64] + bytes([signature[64] - 27])


def flipped_v(signature: bytes) -> bytes:
    return signature[:64] + bytes([27 + 28 - signature[64]])


def compact(signature: bytes) -> bytes:
    """EIP-2098, 64 bytes, which the token does not take."""
    raw = bytearray(signature[:64])
    raw[32] |= (signature[64] - 27) << 7
    return bytes(raw)


def longer(signature: bytes) -> bytes:
    return signature + b"\x00"


edits = st.sampled_from([low_s, low_s, low_s, high_s, zero_based_v, flipped_v, compact, longer])


MEMBERS: dict[str, st.SearchStrategy[object]] = {
    "payer": st.just(OTHER.address_bytes),
    "payee": st.just(OTHER.address_bytes),
    "value": values,
    "valid_after": times,
    "valid_before": times,
    "nonce": st.binary(min_size=32, max_size=32),
    "edit": edits,
    "signed_for": chains,
    "presented_for": chains,
}


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    """A good payment with up to three members drawn from their edges."""
    m: dict[str, object] = {
        "payer": KEY.address_bytes,
        "payee": PAYEE,
        "value": 1_000,
        "valid_after": 0,
        "valid_before": START_S + 300,
        "nonce": bytes(32),
        "edit": low_s,
        "signed_for": 4_020_402,
    }
    for name in draw(st.lists(st.sampled_from(sorted(MEMBERS)), max_size=3, unique=True)):
        m[name] = draw(MEMBERS[name])
    edit, signed_for = m.pop("edit"), m.pop("signed_for")
    presented = m.pop("presented_for", signed_for)
    authorization = Authorization(**m)  # type: ignore[arg-type]
    signature = edit(KEY.sign_digest(SANDBOX_TOKEN.digest(authorization, signed_for)))  # type: ignore[operator, arg-type]
    return Instruction(SANDBOX_TOKEN.address, presented, authorization, signature)  # type: ignore[arg-type]


def accepts(transfer: Instruction, now_s: int) -> bool:
    try:
        facilitator.verify(
            SANDBOX_TOKEN,
            transfer.authorization,
            transfer.signature,
            chain_id=transfer.chain_id,
            payee=PAYEE,
            value=transfer.authorization.value,
            now_s=now_s,
        )
    except MicropaywallError:
        return False
    return True


@given(transfer=instructions())
def test_what_a_seller_accepts_the_token_lets_pass_now_and_within_the_margin(
    chain: SandboxNetwork, transfer: Instruction
) -> None:
    assume(accepts(transfer, START_S))
    for seconds in (0, AUTHORIZATION_MARGIN_S - 1):
        CLOCK.advance(seconds)
        try:
            # Only what no signature tells can still stand in the way.
            assert chain.verify([transfer]) in ([None], [Revert.BALANCE])
        finally:
            CLOCK.advance(-seconds)


@given(transfer=instructions())
def test_what_the_token_lets_pass_a_seller_refuses_only_for_payee_margin_or_length_of_life(
    chain: SandboxNetwork, transfer: Instruction
) -> None:
    (why,) = chain.verify([transfer])
    assume(why is None)
    a = transfer.authorization
    margin = a.valid_before >= START_S + AUTHORIZATION_MARGIN_S
    short = a.valid_before <= START_S + AUTHORIZATION_LIFETIME_S_MAX
    assert accepts(transfer, START_S) == (a.payee == PAYEE and margin and short)


@given(instructions())
def test_simulation_and_execution_agree(transfer: Instruction) -> None:
    assume(transfer.authorization.value <= 1_000)
    with tempfile.TemporaryDirectory(prefix="micropaywall-") as place:
        chain = SandboxNetwork(Path(place) / "sandbox.db", clock=ManualClock())
        (why,) = chain.verify([transfer])
        (result,) = chain.submit([transfer])
        assert isinstance(result, Mined) == (why is None)
        chain.close()
