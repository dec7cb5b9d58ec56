"""``micropaywall demo``: seller and buyer, played for real, every claim checked while one looks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from micropaywall.cli.exits import ExitCode
from micropaywall.cli.output import Output, json_option

__all__ = ["demo"]


@click.command()
@json_option
def demo(out: Output) -> int:
    """Play seller and buyer, step by step. Needs no account, key or network; takes a few seconds.

    A seller is started as a process of its own on this machine, a buyer pays it over HTTP with play money, and then things go
    wrong on purpose. Everything lives in a temporary directory. The exit code is 0 when every step held; --json gives the
    steps with what was measured.
    """
    from micropaywall.cli.demo.play import play
    from micropaywall.cli.demo.stage import Stage

    stage = Stage(out)
    with tempfile.TemporaryDirectory(prefix="micropaywall-demo-", ignore_cleanup_errors=True) as directory:
        play(stage, Path(directory))
    return ExitCode.DONE if stage.finish() else ExitCode.FOUND_WRONG
