"""Writing a transaction log to standard output or into a file, for both sides' ``export`` commands."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from micropaywall.core.export import FORMATS

__all__ = ["export_options", "writing"]

F = TypeVar("F", bound=Callable[..., Any])


def export_options(command: F) -> F:
    """``--format`` and ``--output``, as the parameters ``form`` and ``output``."""
    form = click.option(
        "--format",
        "form",
        type=click.Choice(list(FORMATS)),
        default="json",
        show_default=True,
        help="One JSON array, JSON Lines, or CSV that no spreadsheet runs.",
    )
    output = click.option(
        "--output",
        "-o",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write there instead of to standard output; the file appears when it is complete.",
    )
    return form(output(command))


@contextmanager
def writing(output: Path | None) -> Iterator[Callable[[str], object]]:
    """A function that takes the next piece. UTF-8 and line ends as they are, on every system."""
    if output is None:
        sys.stdout.flush()
        yield lambda text: sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return
    # Beside the target, so that it can be put in its place in one step: nobody reads half a log.
    descriptor, name = tempfile.mkstemp(dir=output.absolute().parent, prefix=f".{output.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield lambda text: file.write(text.encode())
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
