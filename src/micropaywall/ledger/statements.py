"""The SQL of the book. Written for SQLite and PostgreSQL alike (``?`` becomes ``$n`` there).

Guarded statements: the row count is the answer. ``STORE_PAYMENT`` is a compare-and-set on everything that decides.
"""

from __future__ import annotations

from typing import Final

REVISION: Final = "0001"
"""The Alembic revision of the tables that these statements are written for."""

PAYMENT_COLUMNS: Final = (
    "no, id, key, state, rail, network, asset, payer, payee, amount, drawn, captured, refunded, mode, dialect, binding, "
    "instruction, valid_before_ms, created_ms, settled_ms, transaction_id, block, reason, attempts, owner, due_ms, "
    "checked_ms"
)
CHARGE_COLUMNS: Final = (
    "no, id, payment_no, state, fingerprint, reserved, amount, endpoint, url, created_ms, lease_until_ms, owner, "
    "idempotency_key, agent, captured_ms, delivered, response_status, response_bytes, latency_ms"
)
REFUND_COLUMNS: Final = "no, id, payment_no, amount, state, reason, created_ms, owner, due_ms, transaction_id"

# -- reserve ----------------------------------------------------------------------------------------------------------

INSERT_PAYMENT: Final = """
INSERT INTO payments (no, id, key, state, rail, network, asset, payer, payee, amount, drawn, captured, refunded, mode,
    dialect, binding, instruction, valid_before_ms, created_ms, transaction_id, reason, attempts, owner, due_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, '', '', 0, ?, ?)"""

INSERT_CHARGE: Final = """
INSERT INTO charges (no, id, payment_no, state, fingerprint, reserved, amount, endpoint, url, created_ms, lease_until_ms,
    owner, idempotency_key, agent, delivered)
VALUES (?, ?, ?, 'reserved', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"""

TAIL_AFTER: Final = "SELECT seq, prefix, payment_no FROM replay_tail WHERE seq > ? ORDER BY seq"
ADD_TO_TAIL: Final = "INSERT INTO replay_tail (seq, prefix, payment_no) VALUES (?, ?, ?)"
CUT_TAIL: Final = "DELETE FROM replay_tail WHERE seq <= ?"
KEYS_AT_ONCE: Final = 32
KEYS_AMONG: Final = f"SELECT prefix, payment_no FROM replay_keys WHERE prefix IN ({', '.join('?' * KEYS_AT_ONCE)})"
"""`KEYS_AT` for as many keys at once; a shorter list is filled up with its first."""
KEYS_AT: Final = "SELECT payment_no FROM replay_keys WHERE prefix = ?"
ADD_KEY: Final = (
    "INSERT INTO replay_keys (prefix, nth, payment_no) VALUES (?, 0, ?) ON CONFLICT (prefix, nth) DO NOTHING"
)
ADD_KEY_BESIDE: Final = "INSERT INTO replay_keys (prefix, nth, payment_no) VALUES (?, ?, ?)"
SAME_KEY: Final = "SELECT 1 FROM payments a JOIN payments b ON a.key = b.key WHERE a.no = ? AND b.no = ?"

EXPOSE: Final = """
INSERT INTO exposures (payer, asset, unsettled, lost, suspended)
SELECT ?, ?, ?, 0, 0 WHERE ? = 1
ON CONFLICT (payer, asset) DO UPDATE SET unsettled = exposures.unsettled + excluded.unsettled
WHERE exposures.suspended = 0 AND exposures.unsettled + excluded.unsettled <= ?"""
"""Row count 0: the payer is suspended, or the cap would be exceeded."""

UNEXPOSE: Final = "UPDATE exposures SET unsettled = unsettled - ? WHERE payer = ? AND asset = ?"
EXPOSE_AGAIN: Final = """
INSERT INTO exposures (payer, asset, unsettled, lost, suspended) VALUES (?, ?, ?, 0, 0)
ON CONFLICT (payer, asset) DO UPDATE SET unsettled = exposures.unsettled + excluded.unsettled"""
"""Without a cap: what was delivered is a fact."""
LOSE: Final = """
INSERT INTO exposures (payer, asset, unsettled, lost, suspended) VALUES (?, ?, 0, ?, 1)
ON CONFLICT (payer, asset) DO UPDATE SET lost = exposures.lost + excluded.lost, suspended = 1"""
PARDON: Final = "UPDATE exposures SET suspended = 0 WHERE payer = ? AND asset = ? AND suspended = 1"
SUSPENDED: Final = "SELECT 1 FROM exposures WHERE payer = ? AND asset = ? AND suspended = 1"
ANY_SUSPENDED: Final = "SELECT EXISTS (SELECT 1 FROM exposures WHERE suspended = 1)"

# -- capture ----------------------------------------------------------------------------------------------------------

CAPTURE_CHARGE: Final = """
UPDATE charges SET state = 'captured', amount = ?, captured_ms = ?, latency_ms = ?, response_status = ?,
    response_bytes = ?,
    lease_until_ms = CASE WHEN ? = 1 THEN NULL WHEN lease_until_ms > ? THEN lease_until_ms ELSE ? END
WHERE id = ? AND state = 'reserved' AND owner = ? AND reserved >= ?
RETURNING no, payment_no, reserved"""
QUICK_CAPTURE: Final = """
UPDATE charges SET state = 'captured', captured_ms = ?, latency_ms = ?, response_status = ?, response_bytes = ?,
    lease_until_ms = NULL
WHERE no = ? AND id = ? AND state = 'reserved' AND owner = ? AND amount = ?"""
CAPTURE_AND_SUBMIT: Final = """
UPDATE payments SET captured = captured + ?, state = 'settling', owner = ?, due_ms = ?
WHERE no = ? AND id = ? AND state = 'held'"""
CAPTURE_AND_OWE: Final = """
UPDATE payments SET captured = captured + ?,
    due_ms = CASE WHEN captured > 0 AND due_ms < ? THEN due_ms ELSE ? END
WHERE no = ? AND id = ? AND state = 'held'"""
CAPTURE_FROM_SETTLED: Final = """
UPDATE payments SET captured = captured + ?, owner = '', due_ms = NULL
WHERE no = ? AND id = ? AND (state = 'settled' OR state = 'final') AND drawn + refunded = amount"""
QUICK_SETTLED: Final = """
UPDATE payments SET state = ?, transaction_id = CASE WHEN ? <> '' THEN ? ELSE transaction_id END, block = ?,
    settled_ms = ?, checked_ms = ?, owner = '', due_ms = NULL
WHERE no = ? AND id = ? AND state = 'settling' AND mode <> 'deferred' AND amount = ? AND drawn + refunded = amount"""

KEEP_RESPONSE: Final = "INSERT INTO responses (charge_no, kept_ms, status, headers, body) VALUES (?, ?, ?, ?, ?)"
DROP_RESPONSE: Final = "DELETE FROM responses WHERE charge_no = ?"

# -- the journal ------------------------------------------------------------------------------------------------------

JOURNAL: Final = """
INSERT INTO journal (no, at_ms, kind, payment_no, charge_no, amount, payment_state, charge_state, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# -- compare and set --------------------------------------------------------------------------------------------------

STORE_PAYMENT: Final = """
UPDATE payments SET state = ?, drawn = ?, captured = ?, refunded = ?, settled_ms = ?, transaction_id = ?,
    block = ?, reason = ?, attempts = ?, owner = ?, due_ms = ?, checked_ms = ?
WHERE no = ? AND state = ? AND drawn = ? AND captured = ? AND refunded = ?"""
STORE_CHARGE: Final = """
UPDATE charges SET state = ?, amount = ?, lease_until_ms = ?, captured_ms = ?, delivered = ?, response_status = ?,
    response_bytes = ?, latency_ms = ?
WHERE no = ? AND state = ? AND amount = ? AND delivered = ?"""
INSERT_REFUND: Final = """
INSERT INTO refunds (no, id, payment_no, amount, state, reason, created_ms, owner, due_ms, transaction_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '')"""
STORE_REFUND: Final = """
UPDATE refunds SET state = ?, reason = ?, owner = ?, due_ms = ?, transaction_id = ? WHERE no = ? AND state = ?"""

# -- find -------------------------------------------------------------------------------------------------------------

PAYMENTS_BEGINNING: Final = f"""
SELECT {PAYMENT_COLUMNS} FROM payments
WHERE no IN (SELECT payment_no FROM replay_keys WHERE prefix BETWEEN ? AND ?
    UNION ALL SELECT payment_no FROM replay_tail WHERE prefix BETWEEN ? AND ?)"""
"""By the first 8 bytes of the replay key, or by less. The tail has no index: it is short, and the writer has it in memory."""
PAYMENT_BY_ID: Final = f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE id = ?"
PAYMENT_BY_NO: Final = f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE no = ?"
CHARGE_BY_ID: Final = f"SELECT {CHARGE_COLUMNS} FROM charges WHERE id = ?"
NEWEST_CHARGE: Final = f"SELECT {CHARGE_COLUMNS} FROM charges WHERE payment_no = ? ORDER BY no DESC LIMIT 1"
CHARGE_BY_IDEMPOTENCY: Final = (
    f"SELECT {CHARGE_COLUMNS} FROM charges WHERE payment_no = ? AND idempotency_key = ? "
    "AND idempotency_key <> '' AND state IN ('reserved', 'captured')"
)
LIVE_CHARGES: Final = (
    f"SELECT {CHARGE_COLUMNS} FROM charges WHERE payment_no = ? AND state IN ('reserved', 'captured') ORDER BY no"
)
CHARGES_OF: Final = f"SELECT {CHARGE_COLUMNS} FROM charges WHERE payment_no = ? ORDER BY no"
DEAD_CHARGES: Final = (
    f"SELECT {CHARGE_COLUMNS} FROM charges WHERE lease_until_ms IS NOT NULL AND lease_until_ms <= ? "
    "ORDER BY lease_until_ms, no LIMIT ?"
)
DUE_PAYMENTS: Final = (
    f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE due_ms IS NOT NULL AND due_ms <= ? ORDER BY due_ms, no LIMIT ?"
)
UNCONFIRMED: Final = (
    f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE checked_ms IS NOT NULL ORDER BY checked_ms, no LIMIT ?"
)
CHECKED: Final = "UPDATE payments SET checked_ms = ? WHERE no = ? AND checked_ms IS NOT NULL"
REFUND_BY_ID: Final = f"SELECT {REFUND_COLUMNS} FROM refunds WHERE id = ?"
REFUNDS_OF: Final = f"SELECT {REFUND_COLUMNS} FROM refunds WHERE payment_no = ? ORDER BY no"
DUE_REFUNDS: Final = (
    f"SELECT {REFUND_COLUMNS} FROM refunds WHERE due_ms IS NOT NULL AND due_ms <= ? ORDER BY due_ms, no LIMIT ?"
)
RESPONSE: Final = "SELECT status, headers, body FROM responses WHERE charge_no = ?"
RESPONSE_BY_ID: Final = (
    "SELECT r.status, r.headers, r.body FROM charges c JOIN responses r ON r.charge_no = c.no WHERE c.id = ?"
)
META: Final = (
    "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = meta.value RETURNING value"
)
GET_META: Final = "SELECT value FROM meta WHERE name = ?"
SET_META: Final = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
NEW_WRITER: Final = """
INSERT INTO writers (no, host, opened_ms, seen_ms, indexed_no) SELECT COALESCE(MAX(no), 0) + 1, ?, ?, ?, 0 FROM writers
RETURNING no"""
LEASE_OWNERS: Final = (
    "SELECT DISTINCT owner FROM charges WHERE lease_until_ms > ? "
    "UNION SELECT DISTINCT owner FROM payments WHERE due_ms > ? AND owner <> ''"
)
END_CHARGE_LEASES: Final = "UPDATE charges SET lease_until_ms = ? WHERE lease_until_ms > ? AND owner = ?"
END_PAYMENT_LEASES: Final = "UPDATE payments SET due_ms = ? WHERE due_ms > ? AND owner = ?"
SEEN: Final = "UPDATE writers SET seen_ms = ? WHERE no = ?"
OTHERS_SEEN: Final = "SELECT host FROM writers WHERE seen_ms > ? AND no <> ?"
ADD_ASSET: Final = "INSERT INTO assets (id, symbol, decimals, fiat) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
ASSETS: Final = "SELECT id, symbol, decimals, fiat FROM assets"
NO_CAP: Final = 2**62 - 1
"""The cap of an exposure that has none."""
RECORDS_FROM: Final = f"SELECT {CHARGE_COLUMNS} FROM charges WHERE id >= ? ORDER BY id LIMIT ?"
RECORDS_AFTER: Final = f"SELECT {CHARGE_COLUMNS} FROM charges WHERE id > ? ORDER BY id LIMIT ?"
RECORDS_BEFORE: Final = f"SELECT {CHARGE_COLUMNS} FROM charges WHERE id < ? ORDER BY id DESC LIMIT ?"
