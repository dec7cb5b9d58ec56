"""The sandbox network in a file: blocks, the token, reorganisations; the `Network` port over `store` and `execution`.

Time is the chain's: blocks come by the clock (`Rules.block_interval_ms`) without a process that makes them. Whoever looks next
writes down the ticks that are over; between two ticks nothing can have happened. With ``automine`` each batch is a block too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from micropaywall import limits
from micropaywall.clock import Clock, SystemClock
from micropaywall.errors import RailError
from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.chain import (
    ABSENT,
    ZERO_ADDRESS,
    AuthorizationState,
    Block,
    Kind,
    Mined,
    Pending,
    Receipt,
    Result,
    Revert,
    Reverted,
    Rules,
)
from micropaywall.sandbox.execution import NEVER, Call, Chain, Execution, head_of, number_of
from micropaywall.sandbox.faults import Fault, FaultState
from micropaywall.sandbox.signing import is_cancel_signed, is_transfer_signed
from micropaywall.sandbox.store import Store
from micropaywall.sandbox.strikes import add_faults, count_strike, fault_states
from micropaywall.sandbox.token import SANDBOX_CHAIN_ID

__all__ = ["SandboxNetwork"]

_R = TypeVar("_R", bound=Result)
_MEMBERS: Final = "hash, kind, block, sender, recipient, value, nonce, time_s, reason"


class SandboxNetwork:
    """The chain in the file ``path``. ``rules`` hold when this call creates the file; an existing chain keeps its own.

    Every method raises Unavailable when the file cannot be used, and nothing has happened then.
    """

    def __init__(self, path: str | Path, *, clock: Clock | None = None, rules: Rules | None = None) -> None:
        self.path = Path(path)
        self._store = Store(self.path)
        self._clock = clock or SystemClock()
        self._first_rules = rules or Rules()

    # -- the chain ----------------------------------------------------------------------------------------------------

    def rules(self) -> Rules:
        with self._look() as (_, chain):
            return chain.rules

    def configure(self, rules: Rules) -> None:
        with self._change() as run:
            _write_rules(run.db, rules)

    def head(self) -> Block:
        with self._look() as (db, chain):
            return head_of(db, chain)

    def mine(self, blocks: int = 1) -> Block:
        _check_blocks(blocks)
        with self._change() as run:
            chain = run.chain
            time_ms = chain.next_time_ms(self._clock.now_ms())
            for _ in range(blocks):
                chain.number, chain.time_ms = chain.number + 1, time_ms
                run.mine_waiting(chain.number, time_ms // 1000)
            run.flush()
            return head_of(run.db, chain)

    def reorganise(
        self,
        depth: int = 1,
        *,
        drop: Literal["all"] | Collection[bytes] = "all",
        again: Literal["at_once", "later"] = "at_once",
    ) -> Block:
        _check_blocks(depth)
        with self._change() as run:
            chain = run.chain
            depth = min(depth, chain.number)
            if depth >= chain.rules.finality_depth:
                raise RailError(
                    "final blocks are never reorganised",
                    expected=f"a depth below {chain.rules.finality_depth}",
                    received=depth,
                )
            base, old_head = chain.number - depth, chain.number
            kept = self._undo(run, base, drop)
            chain.fork += 1
            run.db.execute("INSERT INTO forks (fork, base) VALUES (?, ?)", (chain.fork, base))
            # The branch that wins is the longer one.
            chain.number, chain.time_ms = old_head + 1, chain.next_time_ms(self._clock.now_ms())
            for call, digest in kept:
                if again == "at_once":
                    run.execute(call, digest, block=base + 1, time_s=chain.time_ms // 1000)
                else:
                    run.wait(call, digest, chain.number + 1)
            run.flush()
            return head_of(run.db, chain)

    @staticmethod
    def _undo(run: Execution, base: int, drop: Literal["all"] | Collection[bytes]) -> list[tuple[Call, bytes]]:
        """Take back every transaction above block ``base``; the ones that are not to be dropped, in order."""
        rows = run.db.execute(
            "SELECT hash, attempt, kind, sender, recipient, value, nonce, valid_after, valid_before FROM transactions "
            "WHERE block > ? ORDER BY block, id",
            (base,),
        ).fetchall()
        kept = []
        for digest, attempt, kind, *members in reversed(rows):
            if attempt:
                continue
            call = Call(Kind(kind), *members)
            run.undo(call)
            if drop != "all" and digest not in drop:
                kept.append((call, digest))
        run.db.execute("DELETE FROM transactions WHERE block > ?", (base,))
        kept.reverse()
        return kept

    # -- the token ----------------------------------------------------------------------------------------------------

    def balances(self, addresses: Sequence[bytes]) -> list[int]:
        with self._look() as (db, chain):
            run = Execution(db, chain)
            return [run.balance(address) for address in addresses]

    def authorization_state(self, authorizer: bytes, nonce: bytes) -> AuthorizationState:
        with self._look() as (db, chain):
            run = Execution(db, chain)
            known, _ = run.known(authorizer, nonce)
            if known is not None:
                cancelled = known.kind is Kind.CANCEL_AUTHORIZATION
                return AuthorizationState.CANCELLED if cancelled else AuthorizationState.USED
            waiting = run.waiting(Call(Kind.TRANSFER_WITH_AUTHORIZATION, authorizer, ZERO_ADDRESS, 0, nonce))
            return AuthorizationState.UNUSED if waiting is None else AuthorizationState.PENDING

    def verify(self, transfers: Sequence[Instruction]) -> list[Revert | None]:
        _check_batch(transfers)
        signed = [is_transfer_signed(transfer) for transfer in transfers]
        with self._look() as (db, chain):
            run = Execution(db, chain)
            time_s = chain.next_time_ms(self._clock.now_ms()) // 1000
            verdicts = []
            for transfer, ok in zip(transfers, signed, strict=True):
                call = Call.of(transfer)
                known, _ = run.known(call.sender, call.nonce)
                verdicts.append(run.revert_of(call, known, time_s=time_s, signed=ok))
            return verdicts

    def submit(self, transfers: Sequence[Instruction], *, delay_blocks: int = 0) -> list[Mined | Pending | Reverted]:
        _check_batch(transfers)
        # Signatures first: what takes longest must not hold up other processes.
        signed = [is_transfer_signed(transfer) for transfer in transfers]
        with self._change() as run:
            chain = run.chain
            block, time_ms = chain.number + 1, chain.next_time_ms(self._clock.now_ms())
            time_s = time_ms // 1000
            at_once = chain.rules.automine and delay_blocks == 0
            mined = run.mine_waiting(block, time_s) > 0 if at_once else False
            results: list[Mined | Pending | Reverted] = []
            for transfer, ok in zip(transfers, signed, strict=True):
                call = Call.of(transfer)
                waiting = run.waiting(call)
                if waiting is not None:
                    results.append(waiting)
                elif at_once:
                    results.append(run.run(call, block=block, time_s=time_s, signed=ok))
                else:
                    results.append(self._queue(run, call, block + delay_blocks, time_s=time_s, signed=ok))
            mined = mined or any(isinstance(result, Mined) and result.block == block for result in results)
            # An empty block fixes the time of "expired": no later block is earlier, so that the verdict stays true.
            if mined or any(result == Reverted(Revert.EXPIRED) for result in results):
                chain.number, chain.time_ms = block, time_ms
            run.flush()
        return [self._with_finality(result, chain) for result in results]

    def _queue(
        self, run: Execution, call: Call, not_before: int, *, time_s: int, signed: bool
    ) -> Mined | Pending | Reverted:
        known, _ = run.known(call.sender, call.nonce)
        if known is not None and known.is_same(call):
            return Mined(known.hash, known.block)
        why = run.revert_of(call, known, time_s=time_s, signed=signed)
        if why is not None:
            return Reverted(why)
        return run.wait(call, run.number(call), not_before)

    def lookup(self, transfers: Sequence[Instruction]) -> list[Result]:
        _check_batch(transfers)
        with self._look() as (db, chain):
            run = Execution(db, chain)
            results = [_find(run, Call.of(transfer)) for transfer in transfers]
        return [self._with_finality(result, chain) for result in results]

    def cancel(
        self, authorizer: bytes, nonce: bytes, signature: bytes, *, chain_id: int = SANDBOX_CHAIN_ID
    ) -> Revert | None:
        return self._cancel(authorizer, nonce, signed=is_cancel_signed(authorizer, nonce, signature, chain_id))

    def revoke(self, authorizer: bytes, nonce: bytes) -> Revert | None:
        return self._cancel(authorizer, nonce, signed=True)

    def _cancel(self, authorizer: bytes, nonce: bytes, *, signed: bool) -> Revert | None:
        call = Call(Kind.CANCEL_AUTHORIZATION, authorizer, ZERO_ADDRESS, 0, nonce)
        with self._change() as run:
            known, _ = run.known(authorizer, nonce)
            if known is not None:
                return Revert.NONCE_USED  # also for a second cancellation, as on a chain
            result = self._now(run, call, signed=signed)
            return result.why if isinstance(result, Reverted) else None

    def transfer(self, sender: bytes, recipient: bytes, value: int, *, key: bytes) -> Mined | Reverted:
        with self._change() as run:
            return self._now(run, Call(Kind.TRANSFER, sender, recipient, min(value, NEVER), key), signed=True)

    def fund(self, address: bytes, value: int, *, key: bytes) -> Mined | Reverted:
        with self._change() as run:
            return self._now(run, Call(Kind.MINT, ZERO_ADDRESS, address, min(value, NEVER), key), signed=True)

    def _now(self, run: Execution, call: Call, *, signed: bool) -> Mined | Reverted:
        """Execute one call in a block of its own. What is the sandbox's own does not wait for a tick."""
        chain = run.chain
        block, time_ms = chain.number + 1, chain.next_time_ms(self._clock.now_ms())
        result = run.run(call, block=block, time_s=time_ms // 1000, signed=signed)
        if isinstance(result, Mined) and result.block == block:
            chain.number, chain.time_ms = block, time_ms
        run.flush()
        return result

    def _with_finality(self, result: _R, chain: Chain) -> _R:
        """Mark what is deep enough; a block that a power cut could still take is not final (see `store`)."""
        if isinstance(result, Mined) and chain.is_deep(result.block):
            deep = chain.number - chain.rules.finality_depth + 1
            if self._store.make_durable(deep):
                return replace(result, final=True)
        return result

    # -- receipts -----------------------------------------------------------------------------------------------------

    def receipt(self, transaction: bytes) -> Receipt | None:
        with self._look() as (db, _):
            row = db.execute(
                f"SELECT {_MEMBERS} FROM transactions WHERE id = ? AND hash = ?",  # noqa: S608
                (number_of(transaction) % 2**63, transaction),
            ).fetchone()
            return None if row is None else _receipt(row)

    def logs(
        self, first_block: int, last_block: int, *, address: bytes | None = None, limit: int = limits.SANDBOX_LOGS_MAX
    ) -> list[Receipt]:
        with self._look() as (db, _):
            rows = db.execute(
                f"SELECT {_MEMBERS} FROM transactions WHERE block BETWEEN ?1 AND ?2 "  # noqa: S608
                "AND (?3 IS NULL OR sender = ?3 OR recipient = ?3) ORDER BY block, id LIMIT ?4",
                (first_block, last_block, address, min(limit, limits.SANDBOX_LOGS_MAX)),
            )
            return [_receipt(row) for row in rows]

    # -- trouble ------------------------------------------------------------------------------------------------------

    def add_faults(self, key: bytes, faults: Sequence[Fault]) -> None:
        with self._store.write() as db:
            add_faults(db, key, faults)

    def fault_states(self, keys: Sequence[bytes]) -> list[Sequence[FaultState]]:
        with self._store.read() as db:
            return fault_states(db, keys)

    def strike(self, key: bytes, fault: Fault) -> int:
        with self._store.write() as db:
            return count_strike(db, key, fault)

    def close(self) -> None:
        self._store.close()

    # -- the file -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _look(self) -> Iterator[tuple[sqlite3.Connection, Chain]]:
        """A view of the chain with every tick that is over."""
        now_ms = self._clock.now_ms()
        with self._store.read() as db:
            chain = _read_chain(db)
            if chain is not None and not _ticks(chain, now_ms):
                yield db, chain
                return
        with self._change() as run:
            yield run.db, run.chain

    @contextmanager
    def _change(self) -> Iterator[Execution]:
        """A write transaction on a chain with every tick that is over."""
        with self._store.write() as db:
            chain = _read_chain(db)
            if chain is None:
                chain = self._create(db)
            run = Execution(db, chain)
            if _tick(run, self._clock.now_ms()):
                run.flush()
            yield run

    def _create(self, db: sqlite3.Connection) -> Chain:
        chain = Chain(0, self._clock.now_ms(), 0, self._first_rules)
        r = chain.rules
        db.execute(
            "INSERT INTO chain (one, number, time_ms, fork, initial_balance, automine, block_interval_ms, finality_depth) "
            "VALUES (1, 0, ?, 0, ?, ?, ?, ?)",
            (chain.time_ms, r.initial_balance, int(r.automine), r.block_interval_ms, r.finality_depth),
        )
        return chain


def _read_chain(db: sqlite3.Connection) -> Chain | None:
    row = db.execute(
        "SELECT number, time_ms, fork, initial_balance, automine, block_interval_ms, finality_depth FROM chain"
    ).fetchone()
    if row is None:
        return None
    number, time_ms, fork, initial, automine, interval, depth = row
    return Chain(number, time_ms, fork, Rules(initial, bool(automine), interval, depth))


def _write_rules(db: sqlite3.Connection, rules: Rules) -> None:
    db.execute(
        "UPDATE chain SET initial_balance = ?, automine = ?, block_interval_ms = ?, finality_depth = ?",
        (rules.initial_balance, int(rules.automine), rules.block_interval_ms, rules.finality_depth),
    )


def _ticks(chain: Chain, now_ms: int) -> int:
    interval = chain.rules.block_interval_ms
    return max(0, (now_ms - chain.time_ms) // interval) if interval else 0


def _tick(run: Execution, now_ms: int) -> bool:
    """Make the blocks whose time has come; only those that take something are looked at one by one."""
    chain = run.chain
    ticks = _ticks(chain, now_ms)
    if not ticks:
        return False
    before, start_ms, interval = chain.number, chain.time_ms, chain.rules.block_interval_ms
    last = before + ticks
    due = run.db.execute("SELECT DISTINCT max(not_before, ?) FROM pending WHERE not_before <= ?", (before + 1, last))
    for (block,) in sorted(due.fetchall()):
        run.mine_waiting(block, (start_ms + (block - before) * interval) // 1000)
    chain.number, chain.time_ms = last, start_ms + ticks * interval
    run.db.execute("DELETE FROM pending WHERE valid_before <= ?", (chain.time_ms // 1000,))
    return True


def _find(run: Execution, call: Call) -> Result:
    """What the chain has of a transfer. A verdict is given only where no later block can change it."""
    known, reverted = run.known(call.sender, call.nonce)
    if known is not None:
        return Mined(known.hash, known.block) if known.is_same(call) else Reverted(Revert.NONCE_USED)
    waiting = run.waiting(call)
    if waiting is not None:
        return waiting
    if call.valid_before <= run.chain.time_ms // 1000:
        return Reverted(Revert.EXPIRED)
    if reverted:
        (name,) = run.db.execute(
            "SELECT reason FROM transactions WHERE sender = ? AND nonce = ? AND attempt = ?",
            (call.sender, call.nonce, reverted),
        ).fetchone()
        return Reverted(Revert[name])
    return ABSENT


def _receipt(row: tuple[bytes, int, int, bytes, bytes, int, bytes, int, str]) -> Receipt:
    digest, kind, block, sender, recipient, value, nonce, time_s, reason = row
    return Receipt(
        digest, Kind(kind), block, sender, recipient, value, nonce, time_s, Revert[reason] if reason else None
    )


def _check_batch(transfers: Sequence[Instruction]) -> None:
    if len(transfers) > limits.SANDBOX_TRANSFERS_MAX:
        raise RailError(
            "too many transfers in one call",
            expected=f"at most {limits.SANDBOX_TRANSFERS_MAX}",
            received=len(transfers),
        )


def _check_blocks(blocks: int) -> None:
    if not 1 <= blocks <= limits.SANDBOX_BLOCKS_MAX:
        raise RailError(
            "a number of blocks is out of range", expected=f"1 to {limits.SANDBOX_BLOCKS_MAX}", received=blocks
        )
