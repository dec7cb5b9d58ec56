"""Arguments in, exit code out: the root command, and the one place where errors become words."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import click

from micropaywall.cli.exits import ExitCode, exit_code
from micropaywall.cli.lazy import LazyGroup, Member
from micropaywall.cli.output import Output
from micropaywall.errors import PROBLEM_BASE, MicropaywallError

__all__ = ["root", "run"]

_C: Final = "micropaywall.cli"
_MEMBERS: Final = {
    "demo": Member(f"{_C}.demo:demo", "Play seller and buyer, step by step; no account, key or network needed.", "Try"),
    "sandbox": Member(f"{_C}.sandbox:sandbox", "Look at the sandbox network, mine blocks, make trouble.", "Try"),
    "serve": Member(f"{_C}.serve:serve", "Put a price on an application, or on sample resources.", "Sell"),
    "ledger": Member(f"{_C}.ledger:ledger", "The seller's book: payments, balances, proof, export, backup.", "Sell"),
    "refund": Member(f"{_C}.refund:refund", "Give a payment back, wholly or in part.", "Sell"),
    "worker": Member(f"{_C}.worker:worker", "Settle and recover in the background, apart from the server.", "Sell"),
    "get": Member(f"{_C}.get:get", "Request a URL and pay for it when it asks.", "Buy"),
    "wallet": Member(f"{_C}.wallet:wallet", "Create, import, list and fund wallets.", "Buy"),
    "budget": Member(f"{_C}.budget:budget", "What may be spent, and what was.", "Buy"),
    "payments": Member(f"{_C}.payments:payments", "What was bought: the buyer's own log.", "Buy"),
    "doctor": Member(f"{_C}.doctor:doctor", "Explain a 402, check a configuration or this installation.", "Check"),
    "config": Member(f"{_C}.config:config", "Show the settings in force and where each came from.", "Check"),
}


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from micropaywall.cli.version import versions

        click.echo(f"micropaywall {versions()['micropaywall']}")
        context.exit()


@click.group(
    cls=LazyGroup,
    members=_MEMBERS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `micropaywall demo`. Every command takes --json and --help.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def root(context: click.Context) -> None:
    """Put a price on any HTTP endpoint, and let any program pay it, exactly once."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return the exit code; what went wrong is on standard error."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    words = list(arguments)
    out = Output(as_json="--json" in (words[: words.index("--")] if "--" in words else words))
    try:
        code: Any = root.main(args=words, prog_name="micropaywall", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        return ExitCode.USAGE
    except click.UsageError as error:
        out.problem(_usage(error))
        return ExitCode.USAGE
    except click.ClickException as error:
        out.problem(_problem("failed", "The command failed", error.format_message()))
        return ExitCode.FAILED
    except MicropaywallError as error:
        out.problem(error.problem())
        return exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        out.remark("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _let_go_of_output()
        return ExitCode.FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        out.problem(_problem("system_error", "The system refused", f"{where}{error.strerror or error}"))
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001  the top frame: whatever arrives here is a defect, and is told as one
        out.problem(_defect(error))
        return ExitCode.FAILED


def _problem(code: str, title: str, detail: str, **more: object) -> dict[str, object]:
    members: dict[str, object] = {
        "type": PROBLEM_BASE + code,
        "title": title,
        "status": 0,
        "detail": detail,
        "code": code,
        "side": "operator",
        "retryable": False,
        "moneyMoved": "no",
    }
    return members | more


def _usage(error: click.UsageError) -> dict[str, object]:
    text = error.format_message()
    detail = text[:1].lower() + text[1:].rstrip()
    command = error.ctx.command_path if error.ctx else "micropaywall"
    return _problem("usage", "The command line cannot be understood", detail, hint=f"{command} --help")


def _defect(error: Exception) -> dict[str, object]:
    """A defect, without a traceback unless one is asked for: its end is enough to report it."""
    if os.environ.get("MICROPAYWALL_DEBUG"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return _problem(
        "defect",
        "micropaywall has a defect",
        f"{type(error).__name__} at {where}: {error}",
        hint="Please report it. MICROPAYWALL_DEBUG=1 shows the whole traceback.",
        moneyMoved="unknown",
    )


def _never_fail_to_encode(stream: TextIO) -> None:
    """A character that the terminal's code page lacks must not end a command (Windows consoles, LANG=C)."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _let_go_of_output() -> None:
    """The reader of our output left (``| head``); keep the interpreter from complaining about it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
