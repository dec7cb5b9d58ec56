"""The sandbox chain: what the token lets pass and refuses, blocks, finality, reorganisations, and its file."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.chain import PAYEE, START_S, instruct, new_key

from micropaywall import limits
from micropaywall.clock import ManualClock
from micropaywall.crypto.secp256k1 import ORDER
from micropaywall.errors import RailError, Unavailable
from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.chain import (
    ABSENT,
    BALANCE_MAX,
    ZERO_ADDRESS,
    AuthorizationState,
    Kind,
    Mined,
    Pending,
    Revert,
    Reverted,
    Rules,
)
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.signing import cancel_digest
from micropaywall.sandbox.store import Store

DOLLAR = 1_000_000
KEY = new_key()
OTHER = new_key()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def network(tmp_path: Path, clock: ManualClock) -> Iterator[SandboxNetwork]:
    network = SandboxNetwork(tmp_path / "sandbox.db", clock=clock)
    yield network
    network.close()


def opened(tmp_path: Path, clock: ManualClock, **rules: object) -> SandboxNetwork:
    return SandboxNetwork(tmp_path / "ruled.db", clock=clock, rules=Rules(**rules))  # type: ignore[arg-type]


def send(network: SandboxNetwork, transfer: Instruction) -> Mined | Pending | Reverted:
    (result,) = network.submit([transfer])
    return result


# -- the token --------------------------------------------------------------------------------------------------------


def test_every_address_starts_with_the_initial_balance(network: SandboxNetwork) -> None:
    assert network.balances([KEY.address_bytes, PAYEE, ZERO_ADDRESS]) == [1_000 * DOLLAR, 1_000 * DOLLAR, 0]


def test_a_transfer_moves_the_value_and_uses_the_nonce(network: SandboxNetwork) -> None:
    transfer = instruct(KEY, 1_500)
    result = send(network, transfer)
    assert isinstance(result, Mined)
    assert network.balances([KEY.address_bytes, PAYEE]) == [1_000 * DOLLAR - 1_500, 1_000 * DOLLAR + 1_500]
    nonce = transfer.authorization.nonce
    assert network.authorization_state(KEY.address_bytes, nonce) is AuthorizationState.USED
    assert network.verify([transfer]) == [Revert.NONCE_USED]


def test_both_chain_ids_are_one_authorization(network: SandboxNetwork) -> None:
    nonce = secrets.token_bytes(32)
    first = send(network, instruct(KEY, chain_id=84_532, nonce=nonce))
    again = send(network, instruct(KEY, nonce=nonce))
    assert isinstance(first, Mined)
    assert again == first
    assert network.balances([PAYEE]) == [1_000 * DOLLAR + 1_000]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"valid_after": START_S}, Revert.NOT_YET_VALID),
        ({"valid_after": START_S - 1}, None),
        ({"valid_after": 2**256 - 1}, Revert.NOT_YET_VALID),
        ({"valid_before": START_S}, Revert.EXPIRED),
        ({"valid_before": START_S + 1}, None),
        ({"valid_before": 2**256 - 1}, None),
        ({"value": 1_000 * DOLLAR}, None),
        ({"value": 1_000 * DOLLAR + 1}, Revert.BALANCE),
        ({"value": 2**256 - 1}, Revert.BALANCE),
        ({"value": 0}, None),
        ({"payee": ZERO_ADDRESS}, Revert.TO_ZERO),
        ({"payee": KEY.address_bytes, "value": 1_000 * DOLLAR}, None),
        ({"payer": OTHER.address_bytes}, Revert.SIGNATURE),
        ({"payer": ZERO_ADDRESS}, Revert.SIGNATURE),
    ],
)
def test_the_token_refuses_what_fiattoken_refuses(
    network: SandboxNetwork, fields: dict[str, object], why: Revert | None
) -> None:
    transfer = instruct(KEY, **{"value": 1_000, **fields})  # type: ignore[arg-type]
    before = network.balances([KEY.address_bytes, PAYEE])
    assert network.verify([transfer]) == [why]
    result = send(network, transfer)
    if why is None:
        assert isinstance(result, Mined)
    else:
        assert result == Reverted(why)
        assert network.balances([KEY.address_bytes, PAYEE]) == before
        assert network.authorization_state(*_id(transfer)) is AuthorizationState.UNUSED


def _id(transfer: Instruction) -> tuple[bytes, bytes]:
    return transfer.authorization.payer, transfer.authorization.nonce


def _edit(name: str, transfer: Instruction) -> Instruction:
    r, s, v = transfer.signature[:32], transfer.signature[32:64], transfer.signature[64]
    flipped = bytes([27 + 28 - v])
    high = (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")
    signatures = {
        "junk": secrets.token_bytes(64) + b"\x1b",
        "high s": r + high + flipped,
        "other v": r + s + flipped,
        "v of 0": r + s + bytes([v - 27]),
        "64 bytes": r + s,
        "66 bytes": transfer.signature + b"\x00",
        "empty": b"",
        "zero r": bytes(32) + s + bytes([v]),
        "r of n": ORDER.to_bytes(32, "big") + s + bytes([v]),
        "zero s": r + bytes(32) + bytes([v]),
    }
    return transfer._replace(signature=signatures[name])


@pytest.mark.parametrize(
    "name",
    ["junk", "high s", "other v", "v of 0", "64 bytes", "66 bytes", "empty", "zero r", "r of n", "zero s"],
)
def test_only_the_canonical_signature_of_the_payer_is_taken(network: SandboxNetwork, name: str) -> None:
    transfer = instruct(KEY)
    forged = _edit(name, transfer)
    assert network.verify([transfer, forged]) == [None, Revert.SIGNATURE]
    assert send(network, forged) == Reverted(Revert.SIGNATURE)
    assert isinstance(send(network, transfer), Mined)


def test_signatures_for_other_tokens_and_chains_are_refused(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    assert send(network, transfer._replace(chain_id=8453)) == Reverted(Revert.SIGNATURE)
    assert send(network, transfer._replace(token=PAYEE)) == Reverted(Revert.SIGNATURE)
    assert send(network, transfer._replace(chain_id=84_532)) == Reverted(Revert.SIGNATURE)


@pytest.mark.parametrize("field", ["payee", "value", "valid_after", "valid_before", "nonce"])
def test_every_member_of_an_authorization_is_signed(network: SandboxNetwork, field: str) -> None:
    transfer = instruct(KEY, valid_after=5)
    value = getattr(transfer.authorization, field)
    changed = transfer.authorization._replace(**{field: value + 1 if isinstance(value, int) else value[::-1]})
    assert send(network, transfer._replace(authorization=changed)) == Reverted(Revert.SIGNATURE)


def test_a_repeated_transfer_is_answered_with_its_own_transaction(network: SandboxNetwork, clock: ManualClock) -> None:
    transfer = instruct(KEY)
    first = send(network, transfer)
    clock.advance(1_000)  # expired by now: what happened has happened all the same
    again = network.submit([transfer, transfer])
    assert isinstance(first, Mined)
    assert {(r.hash, r.block) for r in again if isinstance(r, Mined)} == {(first.hash, first.block)}
    assert network.balances([PAYEE]) == [1_000 * DOLLAR + 1_000]


@pytest.mark.parametrize("change", [{"value": 999}, {"payee": OTHER.address_bytes}])
def test_a_used_nonce_with_another_transfer_is_refused(network: SandboxNetwork, change: dict[str, object]) -> None:
    nonce = secrets.token_bytes(32)
    assert isinstance(send(network, instruct(KEY, nonce=nonce)), Mined)
    other = instruct(KEY, nonce=nonce, **change)  # type: ignore[arg-type]
    assert send(network, other) == Reverted(Revert.NONCE_USED)
    assert network.lookup([other]) == [Reverted(Revert.NONCE_USED)]


def test_one_batch_moves_the_same_authorization_once(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    results = network.submit([transfer] * 50)
    assert len({r.hash for r in results if isinstance(r, Mined)}) == 1
    assert network.balances([PAYEE]) == [1_000 * DOLLAR + 1_000]


def test_a_batch_sees_its_own_balances(network: SandboxNetwork) -> None:
    first, second = instruct(KEY, 600 * DOLLAR), instruct(KEY, 600 * DOLLAR)
    results = network.submit([first, second])
    assert isinstance(results[0], Mined)
    assert results[1] == Reverted(Revert.BALANCE)


def test_no_balance_grows_beyond_what_a_row_holds(network: SandboxNetwork) -> None:
    assert isinstance(network.fund(PAYEE, BALANCE_MAX - 1_000 * DOLLAR, key=bytes(32)), Mined)
    assert send(network, instruct(KEY, 1)) == Reverted(Revert.OVERFLOW)


def test_a_cancelled_authorization_moves_nothing(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    payer, nonce = _id(transfer)
    stranger = OTHER.sign_digest(cancel_digest(payer, nonce))
    assert network.cancel(payer, nonce, stranger) is Revert.SIGNATURE
    assert network.cancel(payer, nonce, KEY.sign_digest(cancel_digest(payer, nonce))) is None
    assert network.authorization_state(payer, nonce) is AuthorizationState.CANCELLED
    assert send(network, transfer) == Reverted(Revert.NONCE_USED)
    assert network.lookup([transfer]) == [Reverted(Revert.NONCE_USED)]
    assert network.cancel(payer, nonce, KEY.sign_digest(cancel_digest(payer, nonce))) is Revert.NONCE_USED


def test_a_used_authorization_cannot_be_cancelled(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    send(network, transfer)
    payer, nonce = _id(transfer)
    assert network.cancel(payer, nonce, KEY.sign_digest(cancel_digest(payer, nonce))) is Revert.NONCE_USED
    assert isinstance(network.lookup([transfer])[0], Mined)


def test_a_transfer_without_signature_moves_once_per_key(network: SandboxNetwork) -> None:
    key = secrets.token_bytes(32)
    first = network.transfer(PAYEE, KEY.address_bytes, 300, key=key)
    again = network.transfer(PAYEE, KEY.address_bytes, 300, key=key)
    assert isinstance(first, Mined)
    assert again == first
    assert network.transfer(PAYEE, KEY.address_bytes, 301, key=key) == Reverted(Revert.NONCE_USED)
    assert network.balances([PAYEE]) == [1_000 * DOLLAR - 300]
    too_much = network.transfer(PAYEE, KEY.address_bytes, 2_000 * DOLLAR, key=bytes(32))
    assert too_much == Reverted(Revert.BALANCE)


def test_the_faucet_gives_once_per_key(network: SandboxNetwork) -> None:
    first = network.fund(PAYEE, 5, key=b"k" * 32)
    assert network.fund(PAYEE, 5, key=b"k" * 32) == first
    assert network.balances([PAYEE]) == [1_000 * DOLLAR + 5]


# -- receipts ---------------------------------------------------------------------------------------------------------


def test_a_receipt_shows_the_transfer(network: SandboxNetwork) -> None:
    transfer = instruct(KEY, 7)
    mined = send(network, transfer)
    assert isinstance(mined, Mined)
    receipt = network.receipt(mined.hash)
    assert receipt is not None
    assert (receipt.kind, receipt.value, receipt.block) == (Kind.TRANSFER_WITH_AUTHORIZATION, 7, mined.block)
    assert (receipt.sender, receipt.recipient, receipt.nonce) == (KEY.address_bytes, PAYEE, _id(transfer)[1])
    assert receipt.moved
    assert network.receipt(secrets.token_bytes(32)) is None
    assert network.receipt(bytes(24) + mined.hash[24:]) is None


def test_logs_are_the_transactions_of_a_range_of_blocks_in_order(network: SandboxNetwork) -> None:
    values = [3, 1, 2]
    for value in values:
        send(network, instruct(KEY, value))
    send(network, instruct(OTHER, 9))
    head = network.head().number
    assert [r.value for r in network.logs(0, head, address=KEY.address_bytes)] == values
    assert [r.value for r in network.logs(0, head)] == [*values, 9]
    assert [r.value for r in network.logs(0, head, limit=2)] == values[:2]
    assert network.logs(head + 1, head + 5) == []


def test_the_same_calls_give_the_same_hashes_on_two_chains(tmp_path: Path, clock: ManualClock) -> None:
    transfers = [instruct(KEY, value) for value in (1, 2, 3)]
    chains = [SandboxNetwork(tmp_path / f"{n}.db", clock=clock) for n in (1, 2)]
    first, second = (chain.submit(transfers) for chain in chains)
    assert first == second
    assert len({r.hash for r in first if isinstance(r, Mined)}) == 3


# -- blocks and time --------------------------------------------------------------------------------------------------


def test_a_batch_is_a_block_and_the_clock_makes_empty_ones(network: SandboxNetwork, clock: ManualClock) -> None:
    start = network.head().number
    network.submit([instruct(KEY), instruct(KEY)])
    assert network.head().number == start + 1
    clock.advance(20)
    assert network.head().number == start + 11
    assert network.head().time_s == START_S + 20


def test_time_on_the_chain_never_goes_back(network: SandboxNetwork, clock: ManualClock) -> None:
    clock.advance(100)
    head = network.head()
    clock.advance(-90)
    assert network.head() == head
    short = instruct(KEY, valid_before=START_S + 50)
    assert send(network, short) == Reverted(Revert.EXPIRED)
    assert network.lookup([short]) == [Reverted(Revert.EXPIRED)]


def test_an_expired_verdict_is_final_even_when_the_clock_goes_back(tmp_path: Path, clock: ManualClock) -> None:
    network = opened(tmp_path, clock, block_interval_ms=0)
    network.head()
    transfer = instruct(KEY, valid_before=START_S + 50)
    clock.advance(60)
    assert network.lookup([transfer]) == [ABSENT]  # no block is so late yet
    assert send(network, transfer) == Reverted(Revert.EXPIRED)
    clock.advance(-60)
    assert send(network, transfer) == Reverted(Revert.EXPIRED)


def test_without_automine_a_transfer_waits_for_the_next_tick(tmp_path: Path, clock: ManualClock) -> None:
    network = opened(tmp_path, clock, automine=False)
    transfer = instruct(KEY)
    pending = send(network, transfer)
    assert isinstance(pending, Pending)
    assert send(network, transfer) == pending
    assert network.lookup([transfer]) == [pending]
    assert network.authorization_state(*_id(transfer)) is AuthorizationState.PENDING
    assert network.balances([PAYEE]) == [1_000 * DOLLAR]
    other = instruct(KEY, 5, nonce=_id(transfer)[1])
    assert send(network, other) == Reverted(Revert.NONCE_USED)
    clock.advance(2)
    (mined,) = network.lookup([transfer])
    assert isinstance(mined, Mined)
    assert mined.hash == pending.hash
    assert network.balances([PAYEE]) == [1_000 * DOLLAR + 1_000]


def test_what_waited_and_what_is_new_share_a_block_with_numbers_of_their_own(network: SandboxNetwork) -> None:
    old, new = instruct(KEY, 1), instruct(KEY, 2)
    network.submit([old], delay_blocks=1)
    network.mine()
    (mined,) = network.submit([new])
    (before,) = network.lookup([old])
    assert isinstance(mined, Mined)
    assert isinstance(before, Mined)
    assert mined.block == before.block
    assert mined.hash != before.hash
    for digest, value in ((before.hash, 1), (mined.hash, 2)):
        receipt = network.receipt(digest)
        assert receipt is not None
        assert receipt.value == value


def test_a_batch_that_mines_nothing_makes_no_block(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    send(network, transfer)
    head = network.head()
    network.submit([transfer, instruct(KEY, 2_000 * DOLLAR)])
    network.submit([])
    assert network.head() == head


def test_what_waits_is_judged_by_the_block_that_takes_it(tmp_path: Path, clock: ManualClock) -> None:
    network = opened(tmp_path, clock, automine=False)
    first, second = instruct(KEY, 600 * DOLLAR), instruct(KEY, 600 * DOLLAR)
    waits = network.submit([first, second])
    assert all(isinstance(result, Pending) for result in waits)
    clock.advance(2)
    results = network.lookup([first, second])
    assert isinstance(results[0], Mined)
    assert results[1] == Reverted(Revert.BALANCE)
    assert isinstance(waits[1], Pending)
    receipt = network.receipt(waits[1].hash)
    assert receipt is not None
    assert receipt.reverted is Revert.BALANCE
    assert not receipt.moved
    # It is another transaction's turn: with money it moves.
    network.fund(KEY.address_bytes, 600 * DOLLAR, key=bytes(32))
    again = send(network, second)
    assert isinstance(again, Pending)
    assert again.hash != waits[1].hash
    clock.advance(2)
    assert isinstance(network.lookup([second])[0], Mined)


def test_a_delayed_transfer_is_mined_so_many_blocks_later(network: SandboxNetwork, clock: ManualClock) -> None:
    transfer = instruct(KEY)
    (pending,) = network.submit([transfer], delay_blocks=3)
    assert isinstance(pending, Pending)
    at = network.head().number
    network.mine(3)
    assert network.lookup([transfer]) == [pending]
    network.mine()
    (mined,) = network.lookup([transfer])
    assert isinstance(mined, Mined)
    assert (mined.hash, mined.block) == (pending.hash, at + 4)


def test_what_waits_beyond_its_time_is_dropped_and_expired(network: SandboxNetwork, clock: ManualClock) -> None:
    transfer = instruct(KEY)
    network.submit([transfer], delay_blocks=2**62)
    clock.advance(299)
    assert isinstance(network.lookup([transfer])[0], Pending)
    clock.advance(2)
    assert network.lookup([transfer]) == [Reverted(Revert.EXPIRED)]


def test_a_transfer_is_final_when_it_is_deep_enough(network: SandboxNetwork, clock: ManualClock) -> None:
    transfer = instruct(KEY)
    result = send(network, transfer)
    assert isinstance(result, Mined)
    assert not result.final
    network.mine(4)
    assert network.lookup([transfer])[0].final is False  # type: ignore[union-attr]
    network.mine(1)
    assert network.lookup([transfer])[0].final is True  # type: ignore[union-attr]


def test_what_is_final_is_on_the_disk(network: SandboxNetwork, tmp_path: Path, clock: ManualClock) -> None:
    transfer = instruct(KEY)
    send(network, transfer)
    network.mine(5)
    assert network.lookup([transfer])[0].final  # type: ignore[union-attr]
    # Only the file itself, without the log beside it, as after a power cut that took everything not synced.
    shutil.copy(network.path, tmp_path / "after.db")
    after = SandboxNetwork(tmp_path / "after.db", clock=clock)
    assert isinstance(after.lookup([transfer])[0], Mined)


def test_what_cannot_be_brought_to_the_disk_is_not_final(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    network.head()
    reader = sqlite3.connect(network.path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM chain").fetchall()
    send(network, transfer)
    network.mine(5)
    assert network.lookup([transfer])[0].final is False  # type: ignore[union-attr]
    reader.execute("COMMIT")
    reader.close()
    assert network.lookup([transfer])[0].final is True  # type: ignore[union-attr]


# -- reorganisations --------------------------------------------------------------------------------------------------


def test_a_reorganisation_takes_back_what_it_drops(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    mined = send(network, transfer)
    assert isinstance(mined, Mined)
    before = network.head()
    after = network.reorganise(1)
    assert after.number > before.number
    assert network.lookup([transfer]) == [ABSENT]
    assert network.authorization_state(*_id(transfer)) is AuthorizationState.UNUSED
    assert network.receipt(mined.hash) is None
    assert network.balances([KEY.address_bytes, PAYEE]) == [1_000 * DOLLAR] * 2
    again = send(network, transfer)
    assert isinstance(again, Mined)
    assert again.hash != mined.hash


def test_a_reorganisation_mines_the_others_again(network: SandboxNetwork) -> None:
    one, two = instruct(KEY, 1), instruct(OTHER, 2)
    first, second = network.submit([one, two])
    assert isinstance(first, Mined)
    assert isinstance(second, Mined)
    network.reorganise(1, drop=[first.hash])
    (gone, kept) = network.lookup([one, two])
    assert gone == ABSENT
    assert isinstance(kept, Mined)
    assert kept.hash == second.hash
    assert network.balances([PAYEE]) == [1_000 * DOLLAR + 2]


def test_transactions_may_be_mined_again_later(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    mined = send(network, transfer)
    assert isinstance(mined, Mined)
    network.reorganise(1, drop=(), again="later")
    assert network.lookup([transfer]) == [Pending(mined.hash)]
    assert network.balances([PAYEE]) == [1_000 * DOLLAR]
    network.mine()
    (again,) = network.lookup([transfer])
    assert isinstance(again, Mined)
    assert again.hash == mined.hash


def test_money_that_came_from_a_dropped_transfer_is_not_there(network: SandboxNetwork) -> None:
    poor = new_key()
    network.transfer(poor.address_bytes, PAYEE, 1_000 * DOLLAR, key=bytes(32))
    gift = send(network, instruct(KEY, 50, payee=poor.address_bytes))
    spend = instruct(poor, 50)
    assert isinstance(gift, Mined)
    assert isinstance(send(network, spend), Mined)
    network.reorganise(2, drop=[gift.hash])
    assert network.lookup([spend]) == [Reverted(Revert.BALANCE)]
    assert network.balances([poor.address_bytes]) == [0]


def test_a_cancellation_is_taken_back_too(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    network.submit([transfer], delay_blocks=2**62)
    assert network.revoke(*_id(transfer)) is None
    network.reorganise(1, drop=(), again="later")  # the cancellation takes the place of what waited
    network.mine()
    assert network.authorization_state(*_id(transfer)) is AuthorizationState.CANCELLED
    network.reorganise(1)
    assert network.authorization_state(*_id(transfer)) is AuthorizationState.UNUSED


def test_final_blocks_are_never_reorganised(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    send(network, transfer)
    network.mine(6)
    with pytest.raises(RailError):
        network.reorganise(6)
    network.reorganise(5)
    assert isinstance(network.lookup([transfer])[0], Mined)


def test_the_hash_of_a_replaced_block_changes_and_of_others_not(tmp_path: Path, clock: ManualClock) -> None:
    network = opened(tmp_path, clock, block_interval_ms=0)
    hashes = [network.mine().hash for _ in range(4)]
    network.reorganise(2)
    replaced = network.mine()
    assert replaced.hash not in hashes
    assert len(set(hashes)) == 4


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_chain_outlives_its_process(tmp_path: Path, clock: ManualClock) -> None:
    first = opened(tmp_path, clock, initial_balance=5_000)
    transfer = instruct(KEY)
    mined = send(first, transfer)
    first.close()
    again = SandboxNetwork(tmp_path / "ruled.db", clock=clock)
    assert again.rules().initial_balance == 5_000
    assert again.lookup([transfer]) == [mined]
    assert again.balances([KEY.address_bytes]) == [4_000]


def test_new_rules_leave_used_addresses_as_they_are(network: SandboxNetwork) -> None:
    send(network, instruct(KEY))
    network.configure(Rules(initial_balance=7))
    assert network.balances([KEY.address_bytes, OTHER.address_bytes]) == [1_000 * DOLLAR - 1_000, 7]


@pytest.mark.parametrize(
    "rules",
    [{"initial_balance": -1}, {"initial_balance": 2**62}, {"block_interval_ms": -1}, {"finality_depth": 0}],
)
def test_rules_out_of_range_are_refused(rules: dict[str, int]) -> None:
    with pytest.raises(RailError):
        Rules(**rules)  # type: ignore[arg-type]


@pytest.mark.parametrize("blocks", [0, -1, 10_001])
def test_a_number_of_blocks_out_of_range_is_refused(network: SandboxNetwork, blocks: int) -> None:
    with pytest.raises(RailError):
        network.mine(blocks)
    with pytest.raises(RailError):
        network.reorganise(blocks)


def test_too_many_transfers_at_once_are_refused(network: SandboxNetwork) -> None:
    transfer = instruct(KEY)
    for call in (network.submit, network.lookup, network.verify):
        with pytest.raises(RailError):
            call([transfer] * 1_001)


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("Dear sandbox, " * 1000)
    with pytest.raises(RailError, match="damaged, or not one"):
        SandboxNetwork(tmp_path / "letter.db").head()


def test_a_file_of_another_version_is_refused(network: SandboxNetwork) -> None:
    network.head()
    network.close()
    db = sqlite3.connect(network.path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(RailError, match="another version"):
        network.head()


def test_a_file_that_is_locked_or_out_of_reach_is_unavailable(
    tmp_path: Path, network: SandboxNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SANDBOX_BUSY_S", 0.05)
    network.head()
    network.close()
    holder = sqlite3.connect(network.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        network.mine()
    holder.execute("ROLLBACK")
    holder.close()
    assert network.mine().number >= 1
    with pytest.raises(Unavailable):
        SandboxNetwork(tmp_path).head()
    with pytest.raises(Unavailable):
        SandboxNetwork(network.path / "below.db").head()


def test_who_is_going_to_write_excludes_others_before_it_reads(
    network: SandboxNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SANDBOX_BUSY_S", 0.05)
    network.head()
    other = Store(network.path)
    with network._store.write(), pytest.raises(Unavailable), other.write():
        pytest.fail("two writers at once")
    with other.write():
        pass
    other.close()


def test_a_failed_call_changes_nothing_and_the_next_works(
    network: SandboxNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = instruct(KEY)
    network.head()

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("micropaywall.sandbox.execution.Execution.flush", broken)
        with pytest.raises(Unavailable):
            network.submit([transfer])
    assert network.lookup([transfer]) == [ABSENT]
    assert isinstance(send(network, transfer), Mined)


def test_a_connection_is_not_carried_into_a_forked_process(
    network: SandboxNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.head()
    parents = network._store._db
    monkeypatch.setattr("micropaywall.sandbox.store.os.getpid", lambda: -1)
    network.head()
    assert network._store._db is not parents
    assert parents is not None
    parents.execute("SELECT 1")  # still open: it is the parent's
    parents.close()
