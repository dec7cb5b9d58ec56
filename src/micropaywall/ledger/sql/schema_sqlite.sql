-- Generated from micropaywall/ledger/schema.py by tools/generate_ledger_sql.py. Do not edit.
-- Alembic revision 0001

CREATE TABLE assets (
    id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    decimals INTEGER NOT NULL,
    fiat TEXT NOT NULL,
    PRIMARY KEY (id)
) STRICT;

CREATE TABLE carried (
    account TEXT NOT NULL,
    asset TEXT NOT NULL,
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    PRIMARY KEY (account, asset),
    CONSTRAINT carried_debit_range CHECK (debit BETWEEN 0 AND 4611686018427387903),
    CONSTRAINT carried_credit_range CHECK (credit BETWEEN 0 AND 4611686018427387903)
)
 WITHOUT ROWID, STRICT;

CREATE TABLE checkpoints (
    nth INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    heads TEXT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (nth)
) STRICT;

CREATE TABLE exposures (
    payer TEXT NOT NULL,
    asset TEXT NOT NULL,
    unsettled INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    suspended INTEGER NOT NULL,
    PRIMARY KEY (payer, asset),
    CONSTRAINT exposures_unsettled_range CHECK (unsettled BETWEEN 0 AND 4611686018427387903),
    CONSTRAINT exposures_lost_range CHECK (lost BETWEEN 0 AND 4611686018427387903)
)
 WITHOUT ROWID, STRICT;

CREATE INDEX exposures_suspended ON exposures (payer) WHERE suspended = 1;

CREATE TABLE journal (
    no INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payment_no INTEGER NOT NULL,
    charge_no INTEGER,
    amount INTEGER NOT NULL,
    payment_state TEXT,
    charge_state TEXT,
    detail TEXT NOT NULL,
    PRIMARY KEY (no),
    CONSTRAINT journal_kind_known CHECK (kind = 'settled' OR kind = 'captured' OR kind = 'returned' OR kind = 'reorganised' OR kind = 'refunded' OR kind = 'written_off' OR kind = 'delivered' OR kind = 'failed' OR kind = 'final' OR kind = 'purged' OR kind = 'refund_cancelled' OR kind = 'refund_due' OR kind = 'released' OR kind = 'submitted' OR kind = 'void'),
    CONSTRAINT journal_amount_range CHECK (amount BETWEEN 0 AND 4611686018427387903),
    CONSTRAINT journal_payment_state_known CHECK (payment_state = 'held' OR payment_state = 'settling' OR payment_state = 'settled' OR payment_state = 'final' OR payment_state = 'failed' OR payment_state = 'void' OR payment_state = 'refund_due' OR payment_state = 'refunded'),
    CONSTRAINT journal_charge_state_known CHECK (charge_state = 'reserved' OR charge_state = 'released' OR charge_state = 'captured' OR charge_state = 'returned')
) STRICT;

CREATE TABLE meta (
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (name)
) STRICT;

CREATE TABLE payments (
    no INTEGER NOT NULL,
    id BLOB NOT NULL,
    "key" BLOB NOT NULL,
    state TEXT NOT NULL,
    rail TEXT NOT NULL,
    network TEXT NOT NULL,
    asset TEXT NOT NULL,
    payer TEXT NOT NULL,
    payee TEXT NOT NULL,
    amount INTEGER NOT NULL,
    drawn INTEGER NOT NULL,
    captured INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    mode TEXT NOT NULL,
    dialect TEXT NOT NULL,
    binding BLOB NOT NULL,
    instruction BLOB NOT NULL,
    valid_before_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    settled_ms INTEGER,
    transaction_id TEXT NOT NULL,
    block INTEGER,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    owner TEXT NOT NULL,
    due_ms INTEGER,
    checked_ms INTEGER,
    PRIMARY KEY (no),
    CONSTRAINT payments_state_known CHECK (state = 'held' OR state = 'settling' OR state = 'settled' OR state = 'final' OR state = 'failed' OR state = 'void' OR state = 'refund_due' OR state = 'refunded'),
    CONSTRAINT payments_amount_range CHECK (amount BETWEEN 0 AND 4611686018427387903),
    CONSTRAINT payments_mode_known CHECK (mode = 'before' OR mode = 'after' OR mode = 'deferred'),
    CONSTRAINT payments_credit CHECK (captured BETWEEN 0 AND drawn AND drawn <= amount AND refunded BETWEEN 0 AND amount - drawn)
) STRICT;

CREATE INDEX payments_due ON payments (due_ms) WHERE due_ms IS NOT NULL;
CREATE UNIQUE INDEX payments_id ON payments (id);
CREATE INDEX payments_unconfirmed ON payments (checked_ms) WHERE checked_ms IS NOT NULL;

CREATE TABLE replay_keys (
    prefix INTEGER NOT NULL,
    nth INTEGER NOT NULL,
    payment_no INTEGER NOT NULL,
    PRIMARY KEY (prefix, nth)
)
 WITHOUT ROWID, STRICT;

CREATE TABLE replay_tail (
    seq INTEGER NOT NULL,
    prefix INTEGER NOT NULL,
    payment_no INTEGER NOT NULL,
    PRIMARY KEY (seq)
) STRICT;

CREATE TABLE responses (
    charge_no INTEGER NOT NULL,
    kept_ms INTEGER NOT NULL,
    status INTEGER NOT NULL,
    headers BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (charge_no)
) STRICT;

CREATE TABLE seals (
    writer_no INTEGER NOT NULL,
    nth INTEGER NOT NULL,
    first_no INTEGER NOT NULL,
    last_no INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    digest BLOB NOT NULL,
    hash BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    purged INTEGER NOT NULL,
    PRIMARY KEY (writer_no, nth)
) STRICT;

CREATE TABLE words (
    word TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (word, id)
)
 WITHOUT ROWID, STRICT;

CREATE TABLE writers (
    no INTEGER NOT NULL,
    host TEXT NOT NULL,
    opened_ms INTEGER NOT NULL,
    seen_ms INTEGER,
    indexed_no INTEGER NOT NULL,
    PRIMARY KEY (no)
) STRICT;

CREATE TABLE charges (
    no INTEGER NOT NULL,
    id BLOB NOT NULL,
    payment_no INTEGER NOT NULL,
    state TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    reserved INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    url TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    lease_until_ms INTEGER,
    owner TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    agent TEXT NOT NULL,
    captured_ms INTEGER,
    delivered INTEGER NOT NULL,
    response_status INTEGER,
    response_bytes INTEGER,
    latency_ms INTEGER,
    PRIMARY KEY (no),
    CONSTRAINT charges_state_known CHECK (state = 'reserved' OR state = 'released' OR state = 'captured' OR state = 'returned'),
    CONSTRAINT charges_reserved_range CHECK (reserved BETWEEN 0 AND 4611686018427387903),
    CONSTRAINT charges_amount_range CHECK (amount BETWEEN 0 AND reserved),
    FOREIGN KEY(payment_no) REFERENCES payments (no)
) STRICT;

CREATE UNIQUE INDEX charges_id ON charges (id);
CREATE UNIQUE INDEX charges_idempotency ON charges (payment_no, idempotency_key) WHERE idempotency_key <> '' AND state IN ('reserved', 'captured');
CREATE INDEX charges_lease ON charges (lease_until_ms) WHERE lease_until_ms IS NOT NULL;
CREATE INDEX charges_payment ON charges (payment_no);

CREATE TABLE refunds (
    no INTEGER NOT NULL,
    id BLOB NOT NULL,
    payment_no INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    owner TEXT NOT NULL,
    due_ms INTEGER,
    transaction_id TEXT NOT NULL,
    PRIMARY KEY (no),
    CONSTRAINT refunds_amount_range CHECK (amount BETWEEN 0 AND 4611686018427387903),
    CONSTRAINT refunds_state_known CHECK (state = 'due' OR state = 'submitted' OR state = 'paid' OR state = 'cancelled'),
    FOREIGN KEY(payment_no) REFERENCES payments (no)
) STRICT;

CREATE INDEX refunds_due ON refunds (due_ms) WHERE due_ms IS NOT NULL;
CREATE UNIQUE INDEX refunds_id ON refunds (id);
CREATE INDEX refunds_payment ON refunds (payment_no);

CREATE TABLE alembic_version (version_num TEXT NOT NULL PRIMARY KEY) STRICT;
INSERT INTO alembic_version VALUES ('0001');
