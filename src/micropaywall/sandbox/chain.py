"""What the sandbox chain is told and what it answers, as values; and the port that its file and its HTTP client share.

Addresses are 20 bytes, hashes and nonces 32, amounts atomic units of sandbox USDC, times Unix seconds unless
``_ms`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, Protocol

from micropaywall import limits, money
from micropaywall.errors import RailError
from micropaywall.rails.exact import facilitator as reason
from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.faults import Fault, FaultState
from micropaywall.sandbox.token import SANDBOX_CHAIN_ID

__all__ = [
    "ABSENT",
    "BALANCE_MAX",
    "ZERO_ADDRESS",
    "Absent",
    "AuthorizationState",
    "Block",
    "Kind",
    "Mined",
    "Network",
    "Pending",
    "Receipt",
    "Result",
    "Revert",
    "Reverted",
    "Rules",
]

ZERO_ADDRESS: Final = bytes(20)
BALANCE_MAX: Final = 2**62 - 1
"""Most that an address can hold: 64-bit columns. (The token itself allows 2^255-1.)"""


@dataclass(frozen=True, slots=True)
class Rules:
    """How this chain runs. Kept in its file, so that every process that shares the file agrees.

    ``initial_balance`` is what an address has before its first transfer. ``automine``: a batch of transfers is a block of
    its own at once; otherwise they wait for the next tick. ``block_interval_ms``: the chain grows by an empty block at
    each tick (0: only by what is mined), which is how settled payments become final. ``finality_depth``: confirmations
    (the block itself counts as one) after which nothing is reorganised.
    """

    initial_balance: int = 1_000_000_000
    automine: bool = True
    block_interval_ms: int = 2_000
    finality_depth: int = 6

    def __post_init__(self) -> None:
        if not 0 <= self.initial_balance <= money.MAX_ATOMIC // 4:
            raise RailError("the sandbox's initial balance is out of range", received=self.initial_balance)
        if not 0 <= self.block_interval_ms <= 86_400_000:
            raise RailError("the sandbox's block interval is 0 to 86,400,000 ms", received=self.block_interval_ms)
        if not 1 <= self.finality_depth <= limits.SANDBOX_BLOCKS_MAX:
            raise RailError(
                f"the sandbox's finality depth is 1 to {limits.SANDBOX_BLOCKS_MAX}", received=self.finality_depth
            )


_SIMULATION: Final = "invalid_exact_evm_transaction_simulation_failed"


class Revert(Enum):
    """Why the token refuses a call: the revert string of FiatToken v2.2, and the reason that x402 has for it."""

    NOT_YET_VALID = ("FiatTokenV2: authorization is not yet valid", reason.VALID_AFTER)
    EXPIRED = ("FiatTokenV2: authorization is expired", reason.VALID_BEFORE)
    NONCE_USED = ("FiatTokenV2: authorization is used or canceled", reason.NONCE_ALREADY_USED)
    SIGNATURE = ("FiatTokenV2: invalid signature", reason.SIGNATURE)
    TO_ZERO = ("ERC20: transfer to the zero address", _SIMULATION)
    BALANCE = ("ERC20: transfer amount exceeds balance", reason.INSUFFICIENT_BALANCE)
    OVERFLOW = ("FiatTokenV2_2: the recipient's balance would be too large", _SIMULATION)

    def __init__(self, message: str, code: str) -> None:
        self.message = message
        self.code = code


class Kind(Enum):
    """What a transaction called."""

    TRANSFER_WITH_AUTHORIZATION = 1
    CANCEL_AUTHORIZATION = 2
    TRANSFER = 3
    MINT = 4


@dataclass(frozen=True, slots=True)
class Mined:
    """The transfer is on the chain. ``final`` when it has the depth that nothing reorganises."""

    hash: bytes
    block: int
    final: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """The transfer waits for a block."""

    hash: bytes


@dataclass(frozen=True, slots=True)
class Reverted:
    """The token refuses, and will for ever (or, for a balance, refuses now)."""

    why: Revert


@dataclass(frozen=True, slots=True)
class Absent:
    """The chain knows nothing of this authorization, which can still be used."""


ABSENT: Final = Absent()
Result = Mined | Pending | Reverted | Absent


class AuthorizationState(Enum):
    """What ``authorizationState`` tells on a chain (used and cancelled are one there), and whether a transfer waits."""

    UNUSED = "unused"
    PENDING = "pending"
    USED = "used"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Block:
    """The newest block, or the one asked for. Its hash changes when a reorganisation replaces it."""

    number: int
    hash: bytes
    time_s: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction. ``moved`` is its Transfer log (False for a cancelled authorization, and when it reverted)."""

    hash: bytes
    kind: Kind
    block: int
    sender: bytes
    recipient: bytes
    value: int
    nonce: bytes
    time_s: int
    reverted: Revert | None = None

    @property
    def moved(self) -> bool:
        return self.reverted is None and self.kind is not Kind.CANCEL_AUTHORIZATION


class Network(Protocol):
    """The chain and its token. Every method may raise Unavailable: then nothing is known of what it did, or nothing happened.

    Methods block; asynchronous callers use a thread. All of them may be called from several threads and processes.
    """

    def rules(self) -> Rules: ...

    def configure(self, rules: Rules) -> None:
        """Change how the chain runs. Balances of addresses that were ever used stay as they are."""
        ...

    def head(self) -> Block: ...

    def balances(self, addresses: Sequence[bytes]) -> list[int]: ...

    def authorization_state(self, authorizer: bytes, nonce: bytes) -> AuthorizationState: ...

    def verify(self, transfers: Sequence[Instruction]) -> list[Revert | None]:
        """What each transfer would do in the next block, by itself: None when it would move the value."""
        ...

    def submit(self, transfers: Sequence[Instruction], *, delay_blocks: int = 0) -> list[Mined | Pending | Reverted]:
        """Send transfers, in order, in one batch. A transfer that is on the chain already answers with its own transaction.

        ``delay_blocks``: keep them waiting for so many blocks (trouble on request).
        """
        ...

    def lookup(self, transfers: Sequence[Instruction]) -> list[Result]:
        """What became of transfers, without sending them."""
        ...

    def cancel(
        self, authorizer: bytes, nonce: bytes, signature: bytes, *, chain_id: int = SANDBOX_CHAIN_ID
    ) -> Revert | None:
        """``cancelAuthorization``: signed by the authorizer, at any time before the nonce is used."""
        ...

    def transfer(self, sender: bytes, recipient: bytes, value: int, *, key: bytes) -> Mined | Reverted:
        """Move value without a signature, once per ``key`` (32 bytes); a repeat answers with the same transaction.

        This is how a seller refunds here. A chain would want the payee's signature; the sandbox's sellers hold no keys
        (a payee is just an address in their configuration), its money is worth nothing, and whoever can open the file
        could write any balance into it anyway.
        """
        ...

    def fund(self, address: bytes, value: int, *, key: bytes) -> Mined | Reverted:
        """The faucet: make ``value`` out of nothing, once per ``key``."""
        ...

    def revoke(self, authorizer: bytes, nonce: bytes) -> Revert | None:
        """Cancel an authorization as its owner would, without asking him (trouble on request)."""
        ...

    def mine(self, blocks: int = 1) -> Block:
        """Make blocks now; the first of them takes what waits and may be mined."""
        ...

    def reorganise(
        self,
        depth: int = 1,
        *,
        drop: Literal["all"] | Collection[bytes] = "all",
        again: Literal["at_once", "later"] = "at_once",
    ) -> Block:
        """Replace the last ``depth`` blocks by a longer branch without the transactions in ``drop`` (hashes).

        What is dropped was never there: balances are restored, authorizations can be used again, hashes are unknown.
        The other transactions are mined again, in order: in the new branch's first block, or ``later`` with the next
        block. Raises RailError when a final block would go.
        """
        ...

    def receipt(self, transaction: bytes) -> Receipt | None:
        """The mined transaction with this hash."""
        ...

    def logs(
        self, first_block: int, last_block: int, *, address: bytes | None = None, limit: int = limits.SANDBOX_LOGS_MAX
    ) -> list[Receipt]:
        """Transactions of a range of blocks in order, of one address or of all; at most ``limit``."""
        ...

    def add_faults(self, key: bytes, faults: Sequence[Fault]) -> None:
        """Trouble for the payment with this replay key; kept on the chain's side, so that every process meets it."""
        ...

    def fault_states(self, keys: Sequence[bytes]) -> list[Sequence[FaultState]]:
        """The faults kept for each payment, with how often each has struck."""
        ...

    def strike(self, key: bytes, fault: Fault) -> int:
        """Count that a fault struck a payment; the count before."""
        ...

    def close(self) -> None: ...
