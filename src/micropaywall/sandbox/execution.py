"""How the sandbox token executes calls: FiatToken v2.2's checks, in its order, inside one transaction of the chain's file.

Source of the order: Circle's FiatTokenV2_2.sol and EIP3009.sol (stablecoin-evm): window, nonce, signature, then the transfer with
its checks of recipient and balance. Everything is exact but gas, blacklist and pause, which the sandbox does not have.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Final, NamedTuple

from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.chain import BALANCE_MAX, ZERO_ADDRESS, Block, Kind, Mined, Pending, Revert, Reverted, Rules

__all__ = ["NEVER", "Call", "Chain", "Execution", "head_of", "number_of"]

NEVER: Final = 2**62
"""A block that is not reached, and the largest time that a row holds."""

_HASH_TAG: Final = b"micropaywall/sandbox/transaction/1"
_BLOCK_TAG: Final = b"micropaywall/sandbox/block/1"


def number_of(transaction: bytes) -> int:
    """The row that a transaction hash names. An index on random hashes would cost each settlement a third more."""
    return int.from_bytes(transaction[24:], "big") ^ int.from_bytes(transaction[16:24], "big")


class Call(NamedTuple):
    """A call of the token. ``nonce`` is the authorization's, or the idempotency key of a transfer or mint without one."""

    kind: Kind
    sender: bytes
    recipient: bytes
    value: int
    nonce: bytes
    valid_after: int = 0
    valid_before: int = NEVER

    @classmethod
    def of(cls, transfer: Instruction) -> Call:
        """The call of ``transferWithAuthorization``; numbers that no row can hold are cut to ones that behave alike."""
        a = transfer.authorization
        return cls(
            Kind.TRANSFER_WITH_AUTHORIZATION,
            a.payer,
            a.payee,
            min(a.value, NEVER),  # above every balance
            a.nonce,
            min(a.valid_after, NEVER),
            min(a.valid_before, NEVER),
        )


class Known(NamedTuple):
    """A transaction that took effect."""

    hash: bytes
    kind: Kind
    recipient: bytes
    value: int
    block: int

    def is_same(self, call: Call) -> bool:
        """Whether it moved what ``call`` would move."""
        return self.kind is call.kind and self.recipient == call.recipient and self.value == call.value


@dataclass(slots=True)
class Chain:
    """The chain's row: the newest block, the branch, and the rules."""

    number: int
    time_ms: int
    fork: int
    rules: Rules

    def next_time_ms(self, now_ms: int) -> int:
        """The time of a block made now: a chain's time never goes back, whatever the machine's clock does."""
        return max(now_ms, self.time_ms)

    def is_deep(self, block: int) -> bool:
        """Whether ``block`` has the confirmations after which nothing is reorganised."""
        return self.number - block + 1 >= self.rules.finality_depth


class Execution:
    """The state of the token while calls are executed; `flush` writes it back. Lives within one database transaction."""

    def __init__(self, db: sqlite3.Connection, chain: Chain) -> None:
        self.db = db
        self.chain = chain
        self._balances: dict[bytes, int] = {}
        self._granted: dict[bytes, int] = {}
        self._touched: set[bytes] = set()
        self._effective: dict[tuple[bytes, bytes], Known] = {}
        self._rows: list[tuple[object, ...]] = []
        self._next_number = 0
        self._is_anything_waiting = db.execute("SELECT 1 FROM pending LIMIT 1").fetchone() is not None

    # -- looking ------------------------------------------------------------------------------------------------------

    def balance(self, address: bytes) -> int:
        balance = self._balances.get(address)
        if balance is None:
            row = self.db.execute("SELECT balance, granted FROM accounts WHERE address = ?", (address,)).fetchone()
            start = self.chain.rules.initial_balance if address != ZERO_ADDRESS else 0
            balance, self._granted[address] = row or (start, start)
            self._balances[address] = balance
        return balance

    def known(self, sender: bytes, nonce: bytes) -> tuple[Known | None, int]:
        """The transaction that used this nonce, and how many have reverted."""
        here = self._effective.get((sender, nonce))
        if here is not None:
            return here, 0
        known, reverted = None, 0
        for digest, kind, recipient, value, block, attempt in self.db.execute(
            "SELECT hash, kind, recipient, value, block, attempt FROM transactions WHERE sender = ? AND nonce = ?",
            (sender, nonce),
        ):
            if attempt == 0:
                known = Known(digest, Kind(kind), recipient, value, block)
            else:
                reverted = max(reverted, attempt)
        return known, reverted

    def waiting(self, call: Call) -> Pending | Reverted | None:
        """What waits for a block with this call's nonce: the very same transfer, or another one, which has the nonce."""
        if not self._is_anything_waiting:
            return None
        row = self.db.execute(
            "SELECT hash, recipient, value FROM pending WHERE sender = ? AND nonce = ?", (call.sender, call.nonce)
        ).fetchone()
        if row is None:
            return None
        digest, *members = row
        return Pending(digest) if members == [call.recipient, call.value] else Reverted(Revert.NONCE_USED)

    def revert_of(self, call: Call, known: Known | None, *, time_s: int, signed: bool) -> Revert | None:
        """What the token would say to ``call`` in a block of ``time_s``; None when it would do it."""
        kind = call.kind
        if kind is Kind.TRANSFER_WITH_AUTHORIZATION:
            if not call.valid_after < time_s:
                return Revert.NOT_YET_VALID
            if not time_s < call.valid_before:
                return Revert.EXPIRED
        if known is not None:
            return Revert.NONCE_USED
        if not signed:
            return Revert.SIGNATURE
        if kind is Kind.CANCEL_AUTHORIZATION:
            return None
        if call.recipient == ZERO_ADDRESS:
            return Revert.TO_ZERO
        if kind is not Kind.MINT and call.value > self.balance(call.sender):
            return Revert.BALANCE
        if call.recipient != call.sender and self.balance(call.recipient) + call.value > BALANCE_MAX:
            return Revert.OVERFLOW
        return None

    # -- doing --------------------------------------------------------------------------------------------------------

    def number(self, call: Call) -> bytes:
        """Make the transaction of a call: its hash, deterministic, which ends in its number (see `number_of`)."""
        if self._next_number == 0:
            (mined,) = self.db.execute("SELECT max(id) FROM transactions").fetchone()
            (waits,) = self.db.execute("SELECT max(id) FROM pending").fetchone()
            self._next_number = max(mined or 0, waits or 0) + 1
        number = self._next_number
        self._next_number += 1
        digest = hashlib.sha256(
            b"%s%c%d/%d/%d/%s%s%s"
            % (_HASH_TAG, call.kind.value, self.chain.fork, number, call.value, call.sender, call.nonce, call.recipient)
        ).digest()
        return digest[:24] + (number ^ int.from_bytes(digest[16:24], "big")).to_bytes(8, "big")

    def apply(self, call: Call, digest: bytes, *, block: int, time_s: int) -> Mined:
        """Do what `revert_of` has let pass."""
        kind, sender, recipient, value, nonce = call[:5]
        if kind is not Kind.CANCEL_AUTHORIZATION:
            if kind is not Kind.MINT:
                self._set_balance(sender, self.balance(sender) - value)
            self._set_balance(recipient, self.balance(recipient) + value)
        self._effective[(sender, nonce)] = Known(digest, kind, recipient, value, block)
        self._add_row(call, digest, block, time_s, 0, "")
        return Mined(digest, block)

    def execute(self, call: Call, digest: bytes, *, block: int, time_s: int) -> None:
        """Execute a transaction that a block takes whatever becomes of it; one that reverts leaves a receipt too."""
        known, reverted = self.known(call.sender, call.nonce)
        why = self.revert_of(call, known, time_s=time_s, signed=True)
        if why is None:
            self.apply(call, digest, block=block, time_s=time_s)
        else:
            self._add_row(call, digest, block, time_s, reverted + 1, why.name)
            self._write_rows()  # the next attempt counts it

    def run(self, call: Call, *, block: int, time_s: int, signed: bool) -> Mined | Reverted:
        """Execute a call now; a call whose very transfer is on the chain already answers with that transaction."""
        known, _ = self.known(call.sender, call.nonce)
        if known is not None and known.is_same(call):
            return Mined(known.hash, known.block)
        why = self.revert_of(call, known, time_s=time_s, signed=signed)
        if why is not None:
            return Reverted(why)
        return self.apply(call, self.number(call), block=block, time_s=time_s)

    def undo(self, call: Call) -> None:
        """Take back the balances of a call that took effect (a reorganisation)."""
        if call.kind is Kind.CANCEL_AUTHORIZATION:
            return
        if call.kind is not Kind.MINT:
            self._set_balance(call.sender, self.balance(call.sender) + call.value)
        self._set_balance(call.recipient, self.balance(call.recipient) - call.value)

    def mine_waiting(self, block: int, time_s: int) -> int:
        """Execute what waits and may go into ``block``; the number of transactions. What expired waiting is dropped."""
        waiting = self.db.execute(
            "SELECT hash, kind, sender, recipient, value, nonce, valid_after, valid_before FROM pending "
            "WHERE not_before <= ? ORDER BY id",
            (block,),
        ).fetchall()
        for digest, kind, *members in waiting:
            self.execute(Call(Kind(kind), *members), digest, block=block, time_s=time_s)
        if waiting:
            self._write_rows()  # before their numbers are free again in `pending`
        self.db.executemany("DELETE FROM pending WHERE id = ?", [(number_of(row[0]),) for row in waiting])
        self.db.execute("DELETE FROM pending WHERE valid_before <= ?", (time_s,))
        return len(waiting)

    def wait(self, call: Call, digest: bytes, not_before: int) -> Pending:
        """Put a call where block ``not_before`` or a later one takes it, in place of one that waits with its nonce."""
        self.db.execute(
            "INSERT OR REPLACE INTO pending (id, hash, kind, sender, recipient, value, nonce, valid_after, valid_before, "
            "not_before) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number_of(digest), digest, call.kind.value, *call[1:], min(not_before, NEVER)),
        )
        self._is_anything_waiting = True
        return Pending(digest)

    def flush(self) -> None:
        """Write back balances, transactions and the chain's row."""
        self._write_rows()
        self.db.executemany(
            "INSERT INTO accounts (address, balance, granted) VALUES (?, ?, ?) "
            "ON CONFLICT (address) DO UPDATE SET balance = excluded.balance",
            [(address, self._balances[address], self._granted[address]) for address in sorted(self._touched)],
        )
        self._touched.clear()
        chain = self.chain
        self.db.execute(
            "UPDATE chain SET number = ?, time_ms = ?, fork = ? WHERE one = 1",
            (chain.number, chain.time_ms, chain.fork),
        )

    def _set_balance(self, address: bytes, balance: int) -> None:
        self._balances[address] = balance
        self._touched.add(address)

    def _add_row(self, call: Call, digest: bytes, block: int, time_s: int, attempt: int, reason: str) -> None:
        kind, sender, recipient, value, nonce, valid_after, valid_before = call
        self._rows.append(
            (
                number_of(digest),
                digest,
                kind.value,
                sender,
                recipient,
                value,
                nonce,
                valid_after,
                valid_before,
                block,
                time_s,
                attempt,
                reason,
            )
        )

    def _write_rows(self) -> None:
        self.db.executemany(
            "INSERT INTO transactions (id, hash, kind, sender, recipient, value, nonce, valid_after, valid_before, "
            "block, time_s, attempt, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._rows,
        )
        self._rows.clear()


def head_of(db: sqlite3.Connection, chain: Chain) -> Block:
    """The newest block. Its hash depends on the branch that it stands on."""
    (fork,) = db.execute("SELECT max(fork) FROM forks WHERE base < ?", (chain.number,)).fetchone()
    digest = hashlib.sha256(b"%s%d/%d" % (_BLOCK_TAG, fork or 0, chain.number)).digest()
    return Block(chain.number, digest, chain.time_ms // 1000)
