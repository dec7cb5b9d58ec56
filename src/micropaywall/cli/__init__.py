"""The command line: ``micropaywall``, ``mpw`` and ``python -m micropaywall``.

Every command has a module of its own, imported when it is called, so that help and completion are quick. What all share:
`frame` (arguments in, exit code out), `output` (people or programs), `screen` (colour, width), `parts` (settings to objects).
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit with its code."""
    from micropaywall.cli.frame import run

    sys.exit(run(sys.argv[1:]))
