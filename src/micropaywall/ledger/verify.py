# ruff: noqa: S608
"""The proof: a SQLite book against its journal, its hash chain and the rules of double entry. Reads only.

    report = verify(path)         every finding, or none; in one snapshot, while the seller goes on

Whoever can write to the file can also write a chain that fits: keep `Report.head` somewhere else now and then, and give it
to `verify` as ``expect``. Rows of the last seconds have no seal yet; their number is in the report.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from micropaywall.errors import LedgerCorrupt, StoreUnavailable
from micropaywall.ledger.accounts import ENTRY_KINDS, account
from micropaywall.ledger.archive import ARCHIVE_OF, EMPTY_DIGEST, carried_digest
from micropaywall.ledger.sqlite import files
from micropaywall.ledger.sqlite.replay import prefix_of
from micropaywall.ledger.verify_chain import check_chain
from micropaywall.ledger.verify_rows import CHECKS, Check

__all__ = ["Finding", "Report", "verify"]

FINDINGS_PER_CHECK_MAX: Final = 20
"""A book that is wrong everywhere is not listed row by row."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up: which check, which row, what was expected and what is there."""

    check: str
    what: str


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong. ``head`` is the hash of the newest checkpoint, in hex ("" when there is none)."""

    path: Path
    payments: int = 0
    charges: int = 0
    entries: int = 0
    seals: int = 0
    unsealed_rows: int = 0
    head: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def require(self) -> None:
        """LedgerCorrupt when something is wrong."""
        if self.findings:
            raise LedgerCorrupt(
                f"the book {self.path} does not add up: {self.findings[0].what}",
                received=[f"{finding.check}: {finding.what}" for finding in self.findings],
                hint="Stop the seller, keep the file as it is, and compare it with a backup.",
            )


def verify(path: Path, *, expect: str = "") -> Report:
    """Prove the book at ``path``. ``expect``: the `Report.head` of an earlier proof, which the chain must still contain.

    Raises ConfigurationError for what is no book of this version, StoreUnavailable for what cannot be read.
    """
    report = Report(path)
    try:
        connection = files.connect(path, read_only=True)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the book {path} cannot be opened: {error}") from error
    try:
        files.check_version(path, connection)
        connection.create_function("prefix_of", 1, prefix_of, deterministic=True)
        connection.execute("BEGIN")  # one snapshot for all checks
        _count(connection, report)
        for name, findings in _all_checks(connection, report, expect):
            report.findings += [Finding(name, what) for what in islice(findings, FINDINGS_PER_CHECK_MAX)]
    except sqlite3.DatabaseError as error:
        report.findings.append(Finding("database", str(error)))
    finally:
        connection.close()
    return report


def _count(connection: sqlite3.Connection, report: Report) -> None:
    for table in ("payments", "charges", "seals"):
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        setattr(report, table, count)
    (report.entries,) = connection.execute("SELECT count(*) FROM journal WHERE amount > 0").fetchone()


def _all_checks(connection: sqlite3.Connection, report: Report, expect: str) -> Iterator[tuple[str, Iterator[str]]]:
    yield "database", _database(connection)
    chain = check_chain(connection, expect)
    yield "chain", chain.findings
    report.unsealed_rows, report.head = chain.unsealed_rows, chain.head
    for check in CHECKS:
        yield check.name, _rows(connection, check)
    yield "zero sum", _zero_sum(connection)
    yield "archived", _carried(connection)


def _database(connection: sqlite3.Connection) -> Iterator[str]:
    for (text,) in connection.execute("PRAGMA quick_check(20)"):
        if text != "ok":
            yield text


def _rows(connection: sqlite3.Connection, check: Check) -> Iterator[str]:
    for row in connection.execute(check.sql):
        yield check.what.format(*row)


# In halves: a sum of 64-bit amounts does not fit into 64 bits.
_MOVEMENTS: Final = """
SELECT j.kind, p.rail, p.network, p.asset, p.payee, sum(j.amount >> 32), sum(j.amount & 0xFFFFFFFF)
FROM journal j JOIN payments p ON p.no = j.payment_no WHERE j.amount > 0
GROUP BY j.kind, p.rail, p.network, p.asset, p.payee"""


def _zero_sum(connection: sqlite3.Connection) -> Iterator[str]:
    """All accounts of an asset add up to zero, and no wallet has given more than it got."""
    nets: dict[tuple[str, str], int] = {}
    for kind, rail, network, asset, payee, high, low in connection.execute(_MOVEMENTS):
        for sign, side in zip((1, -1), ENTRY_KINDS.get(kind, ()), strict=False):
            name = account(side, rail=rail, network=network, payer="*", payee=payee)
            nets[asset, name] = nets.get((asset, name), 0) + sign * ((high << 32) + low)
    for name, asset, debit, credit in connection.execute("SELECT account, asset, debit, credit FROM carried"):
        nets[asset, name] = nets.get((asset, name), 0) + debit - credit
    sums: dict[str, int] = {}
    for (asset, name), net in nets.items():
        sums[asset] = sums.get(asset, 0) + net
        if name.startswith("wallet:") and net < 0:
            yield f"{name} holds {net} of {asset}"
    for asset, total in sums.items():
        if total:
            yield f"the accounts of {asset} add up to {total}, not to zero"


def _carried(connection: sqlite3.Connection) -> Iterator[str]:
    """The sums of what was archived are those that the journal has sealed; an archive has archived nothing itself."""
    if connection.execute("SELECT 1 FROM meta WHERE name = ?", (ARCHIVE_OF,)).fetchone() is None:
        row = connection.execute(
            "SELECT detail FROM journal WHERE kind = 'purged' ORDER BY at_ms DESC, no DESC LIMIT 1"
        ).fetchone()
        if carried_digest(connection) != (row[0] if row else EMPTY_DIGEST):
            yield "what was carried over from archived payments was changed"
