"""``micropaywall ledger balance|backup|restore|prune``: the seller's book as a whole."""

from __future__ import annotations

import time
from pathlib import Path

import click

from micropaywall.cli.exits import ExitCode
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option, local_time
from micropaywall.cli.screen import Column
from micropaywall.cli.times import MOMENT
from micropaywall.core.export import rfc3339
from micropaywall.errors import StoreUnavailable

__all__ = ["backup", "balance", "prune", "restore", "verify"]


def book_file(config_file: Path | None) -> Path:
    """The file of the configured book."""
    from micropaywall.ledger import path_of
    from micropaywall.settings import load_settings

    return path_of(load_settings(config_file).settings.ledger.url)


@click.command()
@config_option
@json_option
def balance(out: Output, config_file: Path | None) -> None:
    """What every account comes to: wallets (what came in), credit (what payers may still draw), income, losses.

    A negative credit was delivered and is not settled yet. Wallets and losses together are credits and income together.
    """
    from micropaywall.ledger.balances import balances

    found = balances(book_file(config_file))
    out.document(
        [
            {"account": b.account, "asset": b.asset.id, "amountAtomic": str(b.amount_atomic), "amount": str(b)}
            for b in found
        ]
    )
    if not found:
        out.say("Nothing has moved yet.")
        return
    out.table(
        [Column("account", keep="both", least=20), Column("balance", right=True, rigid=True)],
        [(b.account, str(b)) for b in found],
    )


@click.command()
@click.argument("to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@config_option
@json_option
def backup(out: Output, to: Path, config_file: Path | None) -> None:
    """Copy the book to FILE, as it is at one moment, while servers go on. FILE must not exist."""
    from micropaywall.ledger.backup import backup as copy

    book = book_file(config_file)
    copy(book, to)
    size = to.stat().st_size
    out.document({"book": str(book), "backup": str(to.absolute()), "bytes": size})
    out.check(True, f"the book is in {to}, {size:,} bytes")


@click.command()
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE")
@config_option
@json_option
def restore(out: Output, source: Path, config_file: Path | None) -> None:
    """Put the backup FILE in the place of the book. No server may be running; the book that was there is kept beside it.

    A restored book has forgotten what happened after it was copied. The command says until when such a payment could be
    presented once more, and that a seller had better wait until then.
    """
    from micropaywall.ledger.backup import restore as put_back

    book = book_file(config_file)
    now_ms = time.time_ns() // 1_000_000
    done = put_back(source, book, now_ms=now_ms)
    waits = done.safe_from_ms > now_ms
    out.document(
        {
            "book": str(book),
            "from": str(source.absolute()),
            "kept": str(done.kept) if done.kept else None,
            "forgotten": done.forgotten,
            "safeFrom": rfc3339(done.safe_from_ms) if waits else None,
        }
    )
    out.check(True, f"the book {book} is the one of {source}")
    items = [("kept", str(done.kept))] if done.kept else []
    forgotten = "not known" if done.forgotten is None else str(done.forgotten)
    items.append(("forgotten payments", forgotten))
    out.pairs(items)
    if waits and done.forgotten != 0:
        out.say(
            f"Start sellers after {local_time(done.safe_from_ms)}: until then a payment that the book has forgotten could be "
            "presented again and be served a second time.",
            indent="  ",
        )


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="[FILE]")
@click.option(
    "--expect", default="", metavar="HASH", help="The head that an earlier proof named: it must still be there."
)
@config_option
@json_option
def verify(out: Output, file: Path | None, expect: str, config_file: Path | None) -> int:
    """Prove the book, or the backup or archive FILE: rows, double entry, hash chain. Servers may go on.

    Whoever can write to the file can write a chain that fits. Keep the head that this prints somewhere else now and then, and
    give it to --expect later: a book that was rewritten does not contain it. The exit code is 1 when something is wrong.
    """
    from micropaywall.ledger.verify import verify as prove

    book = file or book_file(config_file)
    if not book.is_file():
        raise StoreUnavailable(f"there is no book at {book} yet", hint="micropaywall serve --sandbox")
    report = prove(book, expect=expect)
    out.document(
        {
            "book": str(book),
            "ok": report.ok,
            "payments": report.payments,
            "deliveries": report.charges,
            "entries": report.entries,
            "seals": report.seals,
            "unsealedRows": report.unsealed_rows,
            "head": report.head or None,
            "findings": [{"check": finding.check, "what": finding.what} for finding in report.findings],
        }
    )
    for finding in report.findings:
        out.check(False, f"{finding.check}: {finding.what}")
    if report.ok:
        out.check(True, "the book adds up, and the hash chain is whole")
    out.pairs(
        [
            ("book", str(book)),
            ("rows", f"{report.payments:,} payments, {report.charges:,} deliveries, {report.entries:,} entries"),
            ("chain", f"{report.seals:,} seals; {report.unsealed_rows:,} rows of the last seconds have none yet"),
            ("head", report.head or "none yet"),
        ]
    )
    return ExitCode.DONE if report.ok else ExitCode.FOUND_WRONG


@click.command()
@click.option(
    "--archive-to",
    "archive_to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also move finished payments into this archive, which is a book of its own.",
)
@click.option("--before", type=MOMENT, metavar="TIME", help="Archive what is older. Default: `ledger.retention_days`.")
@config_option
@json_option
def prune(out: Output, archive_to: Path | None, before: int | None, config_file: Path | None) -> None:
    """Erase stored responses that are older than `ledger.response_retention_s`, while servers go on.

    What was paid and delivered stays in the book, and a payment stays used; only its response is not sent again. Responses
    of payments whose outcome is still open are kept. With --archive-to, payments that are finished and old move into another
    file; the book keeps what proves them and what keeps them from being spent again.
    """
    from micropaywall.ledger.prune import prune as erase
    from micropaywall.settings import load_settings

    settings, now_ms = load_settings(config_file).settings.ledger, time.time_ns() // 1_000_000
    if before is None and settings.retention_days:
        before = now_ms - settings.retention_days * 86_400_000
    if archive_to is not None and before is None:
        raise click.UsageError("--archive-to needs --before, or ledger.retention_days in the configuration.")
    book = book_file(config_file)
    done = erase(book, now_ms=now_ms, keep_responses_s=settings.response_retention_s)
    moved = None
    if archive_to is not None and before is not None:
        from micropaywall.ledger.archive import archive

        moved = archive(book, archive_to, before_ms=before)
    out.document(
        {
            "book": str(book),
            "responses": done.responses,
            "bytes": done.bytes,
            "archived": None if moved is None else {"payments": moved.payments, "deliveries": moved.charges},
        }
    )
    out.check(True, f"{done.responses:,} responses erased, {done.bytes:,} bytes; the file reuses the space")
    if moved is not None:
        out.check(True, f"{moved.payments:,} payments and {moved.charges:,} deliveries moved to {archive_to}")
