"""The tables of the book, once, for SQLite and PostgreSQL. Needs SQLAlchemy; never imported on the way to serve.

The DDL that a new SQLite book begins with is compiled from here into ``sql/schema_sqlite.sql`` and committed
(``tools/generate_ledger_sql.py``); migrations in ``migrations/`` lead to the same tables (tested).

Row numbers. ``no`` is ``writer << 40 | sequence``: every open book has a writer number of its own and counts its rows, so
rows are appended at the right edge of each index, no database sequence is needed, and a gap in one writer's rows shows.

What is sealed by the hash chain: all of ``journal``, and the columns of ``payments``, ``charges`` and ``refunds`` that
never change. What changes in those rows (states, amounts drawn) follows from the journal; leases and owners are not
covered: they are operation, not book.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.ledger.accounts import ENTRY_KINDS
from micropaywall.ledger.statements import REVISION
from micropaywall.money import MAX_ATOMIC

__all__ = ["REVISION", "TABLES", "metadata"]

metadata: Final = MetaData()

_BIG: Final = BigInteger().with_variant(Integer(), "sqlite")


def _number(name: str = "no") -> Column[int]:
    return Column(name, _BIG, primary_key=True, autoincrement=False)


def _amount(table: str, name: str, *, at_most: str = str(MAX_ATOMIC)) -> tuple[Column[int], CheckConstraint]:
    column: Column[int] = Column(name, _BIG, nullable=False)
    return column, CheckConstraint(f"{name} BETWEEN 0 AND {at_most}", name=f"{table}_{name}_range")


def _state(table: str, name: str, values: list[str], *, nullable: bool = False) -> tuple[Column[str], CheckConstraint]:
    # Not IN (...): SQLite builds a table of the values at every execution, some 2 us a row.
    known = " OR ".join(f"{name} = '{value}'" for value in values)
    return Column(name, Text, nullable=nullable), CheckConstraint(known, name=f"{table}_{name}_known")


_PAYMENT_STATES: Final = [state.value for state in PaymentState]
_CHARGE_STATES: Final = [state.value for state in ChargeState]

JOURNAL_KINDS: Final = [
    *ENTRY_KINDS,
    "delivered",
    "failed",
    "final",
    "purged",
    "refund_cancelled",
    "refund_due",
    "released",
    "submitted",
    "void",
]
"""Movements (`accounts.ENTRY_KINDS`), and what happens without one."""

writers: Final = Table(
    "writers",
    metadata,
    _number(),
    Column("host", Text, nullable=False),
    Column("opened_ms", _BIG, nullable=False),
    Column("seen_ms", _BIG),
    Column("indexed_no", _BIG, nullable=False),
)
"""Every process that has had the book open for writing. ``seen_ms`` is its heartbeat, NULL once it has closed the book;
``indexed_no`` says up to which of its rows `words` has been filled.
"""

meta: Final = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""Small values that all workers share: quote key, host, watermarks of background work."""

assets: Final = Table(
    "assets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("symbol", Text, nullable=False),
    Column("decimals", Integer, nullable=False),
    Column("fiat", Text, nullable=False),
)
"""How amounts of an asset are written for people."""

payments: Final = Table(
    "payments",
    metadata,
    _number(),
    Column("id", LargeBinary, nullable=False),
    Column("key", LargeBinary, nullable=False),
    *_state("payments", "state", _PAYMENT_STATES),
    Column("rail", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("payer", Text, nullable=False),
    Column("payee", Text, nullable=False),
    *_amount("payments", "amount"),
    Column("drawn", _BIG, nullable=False),
    Column("captured", _BIG, nullable=False),
    Column("refunded", _BIG, nullable=False),
    *_state("payments", "mode", ["before", "after", "deferred"]),
    Column("dialect", Text, nullable=False),
    Column("binding", LargeBinary, nullable=False),
    Column("instruction", LargeBinary, nullable=False),
    Column("valid_before_ms", _BIG, nullable=False),
    Column("created_ms", _BIG, nullable=False),
    Column("settled_ms", _BIG),
    Column("transaction_id", Text, nullable=False),
    Column("block", _BIG),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("due_ms", _BIG),
    Column("checked_ms", _BIG),
    CheckConstraint(
        "captured BETWEEN 0 AND drawn AND drawn <= amount AND refunded BETWEEN 0 AND amount - drawn",
        name="payments_credit",
    ),
    Index("payments_id", "id", unique=True),
    Index(
        "payments_due", "due_ms", sqlite_where=text("due_ms IS NOT NULL"), postgresql_where=text("due_ms IS NOT NULL")
    ),
    Index(
        "payments_unconfirmed",
        "checked_ms",
        sqlite_where=text("checked_ms IS NOT NULL"),
        postgresql_where=text("checked_ms IS NOT NULL"),
    ),
)

replay_tail: Final = Table(
    "replay_tail",
    metadata,
    Column("seq", _BIG, primary_key=True, autoincrement=False),
    Column("prefix", _BIG, nullable=False),
    Column("payment_no", _BIG, nullable=False),
)
"""The latest replay keys, in the order of their commits; moved to ``replay_keys`` by the background."""

replay_keys: Final = Table(
    "replay_keys",
    metadata,
    Column("prefix", _BIG, primary_key=True, autoincrement=False),
    Column("nth", Integer, primary_key=True, autoincrement=False),
    Column("payment_no", _BIG, nullable=False),
    sqlite_with_rowid=False,
)
"""Every older replay key: its first 8 bytes and its payment; ``nth`` tells keys apart that begin alike."""

charges: Final = Table(
    "charges",
    metadata,
    _number(),
    Column("id", LargeBinary, nullable=False),
    Column("payment_no", _BIG, ForeignKey("payments.no"), nullable=False),
    *_state("charges", "state", _CHARGE_STATES),
    Column("fingerprint", LargeBinary, nullable=False),
    *_amount("charges", "reserved"),
    *_amount("charges", "amount", at_most="reserved"),
    Column("endpoint", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("created_ms", _BIG, nullable=False),
    Column("lease_until_ms", _BIG),
    Column("owner", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("captured_ms", _BIG),
    Column("delivered", Integer, nullable=False),
    Column("response_status", Integer),
    Column("response_bytes", _BIG),
    Column("latency_ms", _BIG),
    Index("charges_id", "id", unique=True),
    Index("charges_payment", "payment_no"),
    Index(
        "charges_lease",
        "lease_until_ms",
        sqlite_where=text("lease_until_ms IS NOT NULL"),
        postgresql_where=text("lease_until_ms IS NOT NULL"),
    ),
    Index(
        "charges_idempotency",
        "payment_no",
        "idempotency_key",
        unique=True,
        sqlite_where=text("idempotency_key <> '' AND state IN ('reserved', 'captured')"),
        postgresql_where=text("idempotency_key <> '' AND state IN ('reserved', 'captured')"),
    ),
)

responses: Final = Table(
    "responses",
    metadata,
    _number("charge_no"),
    Column("kept_ms", _BIG, nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""What a retry gets. Erased after the retention; not part of what is proven."""

refunds: Final = Table(
    "refunds",
    metadata,
    _number(),
    Column("id", LargeBinary, nullable=False),
    Column("payment_no", _BIG, ForeignKey("payments.no"), nullable=False),
    *_amount("refunds", "amount"),
    *_state("refunds", "state", ["due", "submitted", "paid", "cancelled"]),
    Column("reason", Text, nullable=False),
    Column("created_ms", _BIG, nullable=False),
    Column("owner", Text, nullable=False),
    Column("due_ms", _BIG),
    Column("transaction_id", Text, nullable=False),
    Index("refunds_id", "id", unique=True),
    Index("refunds_payment", "payment_no"),
    Index(
        "refunds_due", "due_ms", sqlite_where=text("due_ms IS NOT NULL"), postgresql_where=text("due_ms IS NOT NULL")
    ),
)

exposures: Final = Table(
    "exposures",
    metadata,
    Column("payer", Text, primary_key=True),
    Column("asset", Text, primary_key=True),
    *_amount("exposures", "unsettled"),
    *_amount("exposures", "lost"),
    Column("suspended", Integer, nullable=False),
    Index("exposures_suspended", "payer", sqlite_where=text("suspended = 1"), postgresql_where=text("suspended = 1")),
    sqlite_with_rowid=False,
)
"""Per payer and asset: reserved or delivered in `deferred` mode and not settled; delivered and never paid."""

journal: Final = Table(
    "journal",
    metadata,
    _number(),
    Column("at_ms", _BIG, nullable=False),
    *_state("journal", "kind", JOURNAL_KINDS),
    Column("payment_no", _BIG, nullable=False),
    Column("charge_no", _BIG),
    *_amount("journal", "amount"),
    *_state("journal", "payment_state", _PAYMENT_STATES, nullable=True),
    *_state("journal", "charge_state", _CHARGE_STATES, nullable=True),
    Column("detail", Text, nullable=False),
)
"""Everything that happened after a row was made, insert-only: what moved (`accounts.ENTRY_KINDS`), what state followed."""

words: Final = Table(
    "words",
    metadata,
    Column("word", Text, primary_key=True),
    Column("id", LargeBinary, primary_key=True),
    sqlite_with_rowid=False,
)
"""Where to find: ``payer:…``, ``endpoint:…`` and ``agent:…`` give charges, ``transaction:…`` payments, in the order of time.
Filled behind the commits: what is newer than `writers.indexed_no` is found by looking at it.
"""

seals: Final = Table(
    "seals",
    metadata,
    Column("writer_no", _BIG, primary_key=True, autoincrement=False),
    Column("nth", _BIG, primary_key=True, autoincrement=False),
    Column("first_no", _BIG, nullable=False),
    Column("last_no", _BIG, nullable=False),
    Column("row_count", _BIG, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("at_ms", _BIG, nullable=False),
    Column("purged", Integer, nullable=False),
)
"""The hash chain of one writer: ``hash`` covers the rows ``first_no`` to ``last_no`` and the seal before."""

checkpoints: Final = Table(
    "checkpoints",
    metadata,
    _number("nth"),
    Column("at_ms", _BIG, nullable=False),
    Column("heads", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
"""The chain across writers: ``heads`` is every writer's newest seal, as JSON."""

carried: Final = Table(
    "carried",
    metadata,
    Column("account", Text, primary_key=True),
    Column("asset", Text, primary_key=True),
    *_amount("carried", "debit"),
    *_amount("carried", "credit"),
    sqlite_with_rowid=False,
)
"""What the accounts of archived payments came to."""

TABLES: Final = tuple(table.name for table in metadata.sorted_tables)
