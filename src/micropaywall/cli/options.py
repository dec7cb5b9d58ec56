"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["config_option", "yes_option"]

F = TypeVar("F", bound=Callable[..., Any])


def config_option(command: F) -> F:
    """``--config FILE``, as the parameter ``config_file``."""
    option = click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The configuration file (TOML). Default: MICROPAYWALL_CONFIG, else the user's own.",
    )
    return option(command)


def yes_option(what: str) -> Callable[[F], F]:
    """``--yes``: do not ask before ``what``."""
    option = click.option("--yes", "-y", is_flag=True, help=f"Do not ask before {what}.")
    return option
