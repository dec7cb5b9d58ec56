"""``micropaywall doctor``: say what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from micropaywall.cli.diagnosis.finding import Finding, show
from micropaywall.cli.exits import ExitCode
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option
from micropaywall.errors import ConfigurationError

if TYPE_CHECKING:
    from micropaywall.cli.diagnosis.offers import Buyer

__all__ = ["doctor"]


@click.command()
@click.argument("what", required=False, metavar="[URL|FILE]")
@click.option("-X", "--method", default="GET", show_default=True, metavar="METHOD", help="Method to ask a URL with.")
@config_option
@json_option
def doctor(out: Output, what: str | None, method: str, config_file: Path | None) -> int:
    """Explain a 402, check a configuration file, or check this installation.

    \b
    micropaywall doctor                          versions, data directory, wallets, books, network, clock
    micropaywall doctor https://example.com/x    what a 402 offers, who can pay it, what is wrong with it
    micropaywall doctor shop.toml                a configuration file, as `serve` would use it
    micropaywall doctor answer.txt               a 402 that was saved with `curl -i`

    Nothing is paid and nothing is changed. The exit code is 1 when something is wrong.
    """  # noqa: D301  (click's mark for lines that are not to be refilled is a real backspace)
    if what is None:
        from micropaywall.cli.diagnosis import installation

        return report(out, "this installation", installation.examine(config_file))
    if "://" in what:
        return report(out, what, _examine_url(what, method.upper()))
    file = Path(what)
    if not file.is_file():
        raise ConfigurationError(
            "that is neither a URL nor a file", expected="http://…, https://… or an existing file", received=what
        )
    if _is_answer(file):
        from micropaywall.cli.diagnosis import challenge
        from micropaywall.cli.diagnosis.answer import read_saved

        return report(out, str(file), challenge.examine(read_saved(file), "", _buyer()))
    from micropaywall.cli.diagnosis import configuration

    return report(out, str(file), configuration.examine(file))


def report(out: Output, subject: str, findings: Sequence[Finding]) -> int:
    """Print the findings; the exit code says whether one of them is bad."""
    wrong = [finding for finding in findings if finding.level == "bad"]
    warnings = [finding for finding in findings if finding.level == "warn"]
    out.document({"subject": subject, "healthy": not wrong, "findings": [finding.document() for finding in findings]})
    if not out.as_json:
        out.line(subject, "bold")
        for finding in findings:
            show(out, finding)
        out.line()
        if wrong:
            out.line(f"{_number(len(wrong), 'thing')} wrong, {_number(len(warnings), 'warning')}", "red")
        else:
            out.line("nothing wrong" + (f", {_number(len(warnings), 'warning')}" if warnings else ""), "green")
    return ExitCode.FOUND_WRONG if wrong else ExitCode.DONE


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _examine_url(url: str, method: str) -> list[Finding]:
    from micropaywall.cli.diagnosis import challenge
    from micropaywall.cli.diagnosis.answer import fetch

    return challenge.examine(fetch(url, method=method), url, _buyer(), method=method)


def _buyer() -> Buyer:
    from micropaywall.cli.diagnosis.offers import Buyer
    from micropaywall.rails import registry

    rails = [registry.open_buyer(name, options={}) for name in registry.names()]
    return Buyer(
        assets=lambda network, asset: next((a for rail in rails if (a := rail.asset_of(network, asset))), None),
        can_pay=lambda offer: any(rail.can_pay(offer) for rail in rails),
    )


def _is_answer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(5) == b"HTTP/"
