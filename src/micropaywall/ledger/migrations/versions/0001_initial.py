# ruff: noqa: E501 - conditions are one text each
"""The book."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From nothing to 0001."""
    if op.get_context().dialect.name == "sqlite":
        op.execute("PRAGMA application_id = 0x6D707762")  # mpwb: a book, and no other program's database
    op.create_table(
        "assets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("fiat", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_table(
        "carried",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("debit", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("credit", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.CheckConstraint("credit BETWEEN 0 AND 4611686018427387903", name="carried_credit_range"),
        sa.CheckConstraint("debit BETWEEN 0 AND 4611686018427387903", name="carried_debit_range"),
        sa.PrimaryKeyConstraint("account", "asset"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoints",
        sa.Column("nth", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("heads", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("nth"),
        sqlite_strict=True,
    )
    op.create_table(
        "exposures",
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("unsettled", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lost", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("suspended", sa.Integer(), nullable=False),
        sa.CheckConstraint("lost BETWEEN 0 AND 4611686018427387903", name="exposures_lost_range"),
        sa.CheckConstraint("unsettled BETWEEN 0 AND 4611686018427387903", name="exposures_unsettled_range"),
        sa.PrimaryKeyConstraint("payer", "asset"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "exposures_suspended",
        "exposures",
        ["payer"],
        unique=False,
        sqlite_where=sa.text("suspended = 1"),
        postgresql_where=sa.text("suspended = 1"),
    )
    op.create_table(
        "journal",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payment_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("charge_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("amount", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("payment_state", sa.Text(), nullable=True),
        sa.Column("charge_state", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "charge_state = 'reserved' OR charge_state = 'released' OR charge_state = 'captured' OR charge_state = 'returned'",
            name="journal_charge_state_known",
        ),
        sa.CheckConstraint(
            "kind = 'settled' OR kind = 'captured' OR kind = 'returned' OR kind = 'reorganised' OR kind = 'refunded' OR kind = 'written_off' OR kind = 'delivered' OR kind = 'failed' OR kind = 'final' OR kind = 'purged' OR kind = 'refund_cancelled' OR kind = 'refund_due' OR kind = 'released' OR kind = 'submitted' OR kind = 'void'",
            name="journal_kind_known",
        ),
        sa.CheckConstraint(
            "payment_state = 'held' OR payment_state = 'settling' OR payment_state = 'settled' OR payment_state = 'final' OR payment_state = 'failed' OR payment_state = 'void' OR payment_state = 'refund_due' OR payment_state = 'refunded'",
            name="journal_payment_state_known",
        ),
        sa.CheckConstraint("amount BETWEEN 0 AND 4611686018427387903", name="journal_amount_range"),
        sa.PrimaryKeyConstraint("no"),
        sqlite_strict=True,
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "payments",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("payee", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("drawn", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("captured", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("refunded", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("binding", sa.LargeBinary(), nullable=False),
        sa.Column("instruction", sa.LargeBinary(), nullable=False),
        sa.Column("valid_before_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("settled_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("block", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("due_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("checked_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint("mode = 'before' OR mode = 'after' OR mode = 'deferred'", name="payments_mode_known"),
        sa.CheckConstraint(
            "state = 'held' OR state = 'settling' OR state = 'settled' OR state = 'final' OR state = 'failed' OR state = 'void' OR state = 'refund_due' OR state = 'refunded'",
            name="payments_state_known",
        ),
        sa.CheckConstraint("amount BETWEEN 0 AND 4611686018427387903", name="payments_amount_range"),
        sa.CheckConstraint(
            "captured BETWEEN 0 AND drawn AND drawn <= amount AND refunded BETWEEN 0 AND amount - drawn",
            name="payments_credit",
        ),
        sa.PrimaryKeyConstraint("no"),
        sqlite_strict=True,
    )
    op.create_index(
        "payments_due",
        "payments",
        ["due_ms"],
        unique=False,
        sqlite_where=sa.text("due_ms IS NOT NULL"),
        postgresql_where=sa.text("due_ms IS NOT NULL"),
    )
    op.create_index("payments_id", "payments", ["id"], unique=True)
    op.create_index(
        "payments_unconfirmed",
        "payments",
        ["checked_ms"],
        unique=False,
        sqlite_where=sa.text("checked_ms IS NOT NULL"),
        postgresql_where=sa.text("checked_ms IS NOT NULL"),
    )
    op.create_table(
        "replay_keys",
        sa.Column("prefix", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("nth", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("payment_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("prefix", "nth"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "replay_tail",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("prefix", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("payment_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_strict=True,
    )
    op.create_table(
        "responses",
        sa.Column(
            "charge_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("kept_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("charge_no"),
        sqlite_strict=True,
    )
    op.create_table(
        "seals",
        sa.Column(
            "writer_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("nth", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("first_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("last_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("row_count", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("purged", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("writer_no", "nth"),
        sqlite_strict=True,
    )
    op.create_table(
        "words",
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("word", "id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "writers",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seen_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("indexed_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("no"),
        sqlite_strict=True,
    )
    op.create_table(
        "charges",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("payment_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("reserved", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("amount", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("captured_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("response_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("latency_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint(
            "state = 'reserved' OR state = 'released' OR state = 'captured' OR state = 'returned'",
            name="charges_state_known",
        ),
        sa.CheckConstraint("amount BETWEEN 0 AND reserved", name="charges_amount_range"),
        sa.CheckConstraint("reserved BETWEEN 0 AND 4611686018427387903", name="charges_reserved_range"),
        sa.ForeignKeyConstraint(
            ["payment_no"],
            ["payments.no"],
        ),
        sa.PrimaryKeyConstraint("no"),
        sqlite_strict=True,
    )
    op.create_index("charges_id", "charges", ["id"], unique=True)
    op.create_index(
        "charges_idempotency",
        "charges",
        ["payment_no", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key <> '' AND state IN ('reserved', 'captured')"),
        postgresql_where=sa.text("idempotency_key <> '' AND state IN ('reserved', 'captured')"),
    )
    op.create_index(
        "charges_lease",
        "charges",
        ["lease_until_ms"],
        unique=False,
        sqlite_where=sa.text("lease_until_ms IS NOT NULL"),
        postgresql_where=sa.text("lease_until_ms IS NOT NULL"),
    )
    op.create_index("charges_payment", "charges", ["payment_no"], unique=False)
    op.create_table(
        "refunds",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("payment_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("amount", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("due_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state = 'due' OR state = 'submitted' OR state = 'paid' OR state = 'cancelled'", name="refunds_state_known"
        ),
        sa.CheckConstraint("amount BETWEEN 0 AND 4611686018427387903", name="refunds_amount_range"),
        sa.ForeignKeyConstraint(
            ["payment_no"],
            ["payments.no"],
        ),
        sa.PrimaryKeyConstraint("no"),
        sqlite_strict=True,
    )
    op.create_index(
        "refunds_due",
        "refunds",
        ["due_ms"],
        unique=False,
        sqlite_where=sa.text("due_ms IS NOT NULL"),
        postgresql_where=sa.text("due_ms IS NOT NULL"),
    )
    op.create_index("refunds_id", "refunds", ["id"], unique=True)
    op.create_index("refunds_payment", "refunds", ["payment_no"], unique=False)
