# ruff: noqa: S608
"""Checking the rows of a SQLite book against its journal, and its sums against its rows.

Each check is a query that gives what is wrong. States follow from which entries there are, not from their order: rows of
several writers have no common order but time. What has been archived is not judged here; its sums are in ``carried``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Check:
    """``sql`` gives a row for everything that is wrong; ``what`` says it with the columns of that row."""

    name: str
    what: str
    sql: str


_ARCHIVED: Final = (
    "EXISTS (SELECT 1 FROM seals s WHERE s.purged = 1 AND s.writer_no = {no} >> 40 "
    "AND {no} BETWEEN s.first_no AND s.last_no)"
)

_FACTS: Final = """
WITH facts AS (
    SELECT payment_no,
        sum(kind = 'submitted' OR (kind = 'captured' AND payment_state = 'settling')) AS submissions,
        sum(kind = 'settled') AS settlements, sum(CASE kind WHEN 'settled' THEN amount ELSE 0 END) AS settled,
        sum(kind = 'reorganised') AS reorganisations,
        sum(CASE kind WHEN 'reorganised' THEN amount ELSE 0 END) AS reorganised,
        sum(kind = 'final') AS finals, sum(kind = 'failed') AS failures, sum(kind = 'void') AS voids,
        sum(kind = 'refund_due') AS decisions, sum(kind = 'refund_cancelled') AS cancellations,
        sum(kind = 'refunded') AS repayments, sum(CASE kind WHEN 'refunded' THEN amount ELSE 0 END) AS refunded,
        sum(CASE kind WHEN 'captured' THEN amount ELSE 0 END) AS captured,
        sum(CASE kind WHEN 'returned' THEN amount ELSE 0 END) AS returned,
        sum(CASE kind WHEN 'written_off' THEN amount ELSE 0 END) AS written_off
    FROM journal GROUP BY payment_no)
"""

PAYMENT_STATES: Final = Check(
    "payment states",
    "payment {0} is {1}, and by its entries {2}",
    _FACTS
    + """
SELECT no, state, derived FROM (
    SELECT p.no, p.state, CASE
        WHEN f.payment_no IS NULL THEN 'held'
        WHEN f.failures THEN 'failed'
        WHEN f.voids THEN 'void'
        WHEN f.settlements <= f.reorganisations THEN CASE WHEN f.submissions THEN 'settling' ELSE 'held' END
        WHEN f.decisions > f.repayments + f.cancellations THEN 'refund_due'
        WHEN f.repayments AND f.refunded = p.amount THEN 'refunded'
        WHEN f.finals OR f.repayments OR f.cancellations THEN 'final'
        ELSE 'settled' END AS derived
    FROM payments p LEFT JOIN facts f ON f.payment_no = p.no)
WHERE state <> derived""",
)

PAYMENT_SUMS: Final = Check(
    "payment sums",
    "payment {0}: captured {1} and refunded {2}, and by its entries {3} and {4}; or its settlement or loss does not fit",
    _FACTS
    + """
SELECT p.no, p.captured, p.refunded, ifnull(f.captured - f.returned, 0), ifnull(f.refunded, 0)
FROM payments p LEFT JOIN facts f ON f.payment_no = p.no
WHERE p.captured <> ifnull(f.captured - f.returned, 0)
    OR p.refunded <> ifnull(f.refunded, 0)
    OR f.settled <> f.settlements * p.amount
    OR f.reorganised <> f.reorganisations * p.amount
    OR f.settlements - f.reorganisations NOT IN (0, 1)
    OR (p.state IN ('failed', 'void') AND f.settlements <> f.reorganisations)
    OR ifnull(f.written_off, 0) <> CASE p.state WHEN 'failed' THEN p.captured ELSE 0 END""",
)

PAYMENT_DRAWN: Final = Check(
    "credit drawn",
    "payment {0}: {1} drawn, and its charges hold {2}",
    """
SELECT p.no, p.drawn, ifnull(c.held, 0) FROM payments p LEFT JOIN (
    SELECT payment_no, sum(amount) AS held FROM charges WHERE state = 'reserved' OR state = 'captured' GROUP BY payment_no
) c ON c.payment_no = p.no
WHERE p.drawn <> ifnull(c.held, 0)""",
)

PAYMENT_SETTLEMENTS: Final = Check(
    "settlements",
    "payment {0}: settled at {1} by {2}, and its entries say otherwise",
    """
SELECT p.no, p.settled_ms, p.transaction_id FROM payments p
LEFT JOIN (SELECT payment_no, at_ms, detail FROM journal WHERE kind = 'settled') j
    ON j.payment_no = p.no AND j.at_ms = p.settled_ms
    AND (p.state = 'settling' OR j.detail = p.transaction_id || ifnull(' ' || p.block, ''))
WHERE (p.settled_ms IS NOT NULL AND j.payment_no IS NULL)""",
)

PAYMENT_REASONS: Final = Check(
    "reasons",
    "payment {0} failed for {1}, and its entry says {2}",
    """
SELECT p.no, p.reason, j.detail FROM payments p
JOIN (SELECT payment_no, detail FROM journal WHERE kind = 'failed') j ON j.payment_no = p.no WHERE j.detail <> p.reason""",
)

_CHARGE_FACTS: Final = """
WITH facts AS (
    SELECT charge_no,
        sum(kind = 'captured') AS captures, sum(kind = 'released') AS releases, sum(kind = 'delivered') AS deliveries,
        sum(kind = 'returned' AND charge_state = 'returned') AS returns,
        sum(CASE WHEN kind = 'captured' THEN amount WHEN kind = 'returned' AND charge_state IS NULL THEN -amount ELSE 0 END)
            AS amount,
        sum(CASE WHEN kind = 'returned' AND charge_state = 'returned' THEN amount ELSE 0 END) AS returned,
        sum(CASE WHEN kind = 'released' THEN amount ELSE 0 END) AS released,
        max(CASE WHEN kind = 'captured' THEN at_ms END) AS captured_ms,
        max(CASE WHEN kind = 'captured' THEN detail END) AS captured_detail,
        max(CASE WHEN kind = 'released' THEN detail END) AS released_detail,
        max(CASE WHEN kind = 'delivered' THEN detail END) AS delivered_detail
    FROM journal WHERE charge_no IS NOT NULL GROUP BY charge_no)
"""

CHARGE_STATES: Final = Check(
    "charge states",
    "charge {0} is {1} of {2}, and by its entries {3}",
    _CHARGE_FACTS
    + """
SELECT no, state, amount, derived FROM (
    SELECT c.no, c.state, c.amount, c.reserved, f.amount AS entered, f.returned, f.released, f.captures,
        CASE WHEN f.charge_no IS NULL THEN 'reserved' WHEN f.releases THEN 'released' WHEN f.returns THEN 'returned'
            WHEN f.captures THEN 'captured' ELSE 'reserved' END AS derived
    FROM charges c LEFT JOIN facts f ON f.charge_no = c.no JOIN payments p ON p.no = c.payment_no)
WHERE state <> derived OR ifnull(captures, 0) > 1
    OR (derived = 'reserved' AND amount <> reserved)
    OR (derived = 'released' AND (released <> reserved OR amount <> reserved))
    OR (derived = 'captured' AND amount <> entered)
    OR (derived = 'returned' AND (amount <> entered OR returned <> entered))""",
)

CHARGE_RESPONSES: Final = Check(
    "deliveries",
    "charge {0}: response {1}, {2} bytes, {3} ms, and its entries say otherwise",
    _CHARGE_FACTS
    + """
SELECT c.no, c.response_status, c.response_bytes, c.latency_ms
FROM charges c JOIN facts f ON f.charge_no = c.no JOIN payments p ON p.no = c.payment_no
WHERE (f.captures AND c.captured_ms <> f.captured_ms)
    OR (f.captures AND NOT f.deliveries AND f.captured_detail <> ifnull(c.response_status, 'None') || ' '
        || ifnull(c.response_bytes, 'None') || ' ' || ifnull(c.latency_ms, 'None'))
    OR (f.deliveries AND f.delivered_detail <> ifnull(c.response_status, 'None') || ' ' || ifnull(c.response_bytes, 'None'))
    OR (f.deliveries AND f.captured_detail NOT LIKE '% % ' || ifnull(c.latency_ms, 'None'))
    OR (f.releases AND f.released_detail NOT LIKE ifnull(c.response_status, 'None') || ' %')
    OR c.delivered <> (f.deliveries > 0)""",
)

ENTRIES_FIT: Final = Check(
    "entries",
    "entry {0} ({1}) names charge {2} of another payment, or none",
    """
SELECT j.no, j.kind, j.charge_no FROM journal j JOIN payments p ON p.no = j.payment_no
LEFT JOIN charges c ON c.no = j.charge_no
WHERE (j.charge_no IS NOT NULL AND (c.no IS NULL OR c.payment_no <> j.payment_no))
    OR (j.charge_no IS NULL AND j.kind IN ('captured', 'returned', 'released', 'delivered'))""",
)

ORPHANS: Final = Check(
    "orphans",
    "{0} {1} belongs to payment {2}, which is not there",
    " UNION ALL ".join(
        f"SELECT '{name}', r.no, r.payment_no FROM {table} r LEFT JOIN payments p ON p.no = r.payment_no "
        f"WHERE p.no IS NULL AND NOT {_ARCHIVED.format(no='r.payment_no')}{extra}"
        for name, table, extra in (
            ("charge", "charges", ""),
            ("refund", "refunds", ""),
            ("entry", "journal", " AND r.kind <> 'purged'"),
        )
    ),
)

REFUND_STATES: Final = Check(
    "refunds",
    "refund {0} of payment {1} is {2}, and by its entries {3}",
    """
WITH entered AS (
    SELECT kind, payment_no, amount, detail, substr(detail, 1, 32) AS id FROM journal
    WHERE kind IN ('refund_due', 'refunded', 'refund_cancelled'))
SELECT no, payment_no, state, derived FROM (
    SELECT r.no, r.payment_no, r.state, r.amount, d.amount AS decided, b.amount AS paid,
        CASE WHEN b.id IS NOT NULL THEN 'paid' WHEN x.id IS NOT NULL THEN 'cancelled' ELSE 'due' END AS derived,
        b.detail AS paid_detail, lower(hex(r.id)) || ' ' || r.transaction_id AS detail
    FROM refunds r JOIN payments p ON p.no = r.payment_no
    LEFT JOIN entered d ON d.kind = 'refund_due' AND d.id = lower(hex(r.id)) AND d.payment_no = r.payment_no
    LEFT JOIN entered b ON b.kind = 'refunded' AND b.id = lower(hex(r.id)) AND b.payment_no = r.payment_no
    LEFT JOIN entered x ON x.kind = 'refund_cancelled' AND x.id = lower(hex(r.id)) AND x.payment_no = r.payment_no)
WHERE CASE state WHEN 'submitted' THEN 'due' ELSE state END <> derived OR decided IS NULL OR decided <> amount
    OR (derived = 'paid' AND (paid <> amount OR paid_detail <> detail))""",
)

EXPOSURES: Final = Check(
    "exposure",
    "payer {0} in {1}: {2} unsettled, and the payments say {3}",
    """
WITH derived AS (
    SELECT payer, asset, sum(drawn) AS drawn FROM payments
    WHERE mode = 'deferred' AND (state = 'held' OR state = 'settling') GROUP BY payer, asset)
SELECT payer, asset, e.unsettled, ifnull(d.drawn, 0) FROM exposures e LEFT JOIN derived d USING (payer, asset)
WHERE e.unsettled <> ifnull(d.drawn, 0)
UNION ALL
SELECT payer, asset, 0, d.drawn FROM derived d LEFT JOIN exposures e USING (payer, asset)
WHERE e.payer IS NULL AND d.drawn > 0""",
)

LOSSES: Final = Check(
    "losses",
    "in {0} the payers owe {1}, and the loss accounts say {2}",
    """
WITH booked AS (
    SELECT asset, sum(amount) AS amount FROM (
        SELECT p.asset, j.amount FROM journal j JOIN payments p ON p.no = j.payment_no WHERE j.kind = 'written_off'
        UNION ALL SELECT asset, debit - credit FROM carried WHERE account LIKE 'loss:%') GROUP BY asset),
owed AS (SELECT asset, sum(lost) AS amount FROM exposures GROUP BY asset)
SELECT asset, ifnull(o.amount, 0), b.amount FROM booked b LEFT JOIN owed o USING (asset)
WHERE b.amount <> ifnull(o.amount, 0)
UNION ALL
SELECT asset, o.amount, 0 FROM owed o LEFT JOIN booked b USING (asset) WHERE b.asset IS NULL AND o.amount > 0""",
)

REPLAY_KNOWN: Final = Check(
    "replay keys",
    "payment {0} could be presented again: its replay key is not in the index",
    """
SELECT p.no FROM payments p WHERE NOT EXISTS (
    SELECT 1 FROM replay_keys k WHERE k.prefix = prefix_of(p.key) AND k.payment_no = p.no)
AND p.no NOT IN (SELECT payment_no FROM replay_tail)""",
)

REPLAY_UNIQUE: Final = Check(
    "replay keys",
    "replay key {0} has {1} payments",
    "SELECT hex(key), count(*) FROM payments GROUP BY key HAVING count(*) > 1",
)

CHECKS: Final = (
    PAYMENT_STATES,
    PAYMENT_SUMS,
    PAYMENT_DRAWN,
    PAYMENT_SETTLEMENTS,
    PAYMENT_REASONS,
    CHARGE_STATES,
    CHARGE_RESPONSES,
    ENTRIES_FIT,
    ORPHANS,
    REFUND_STATES,
    EXPOSURES,
    LOSSES,
    REPLAY_KNOWN,
    REPLAY_UNIQUE,
)
