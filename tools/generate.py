"""Run every generator of the project: each ``tools/generate_*.py`` writes its files, or checks them with ``--check``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """The number of generators that failed, at most 1."""
    failed = False
    here = Path(__file__).resolve().parent
    for generator in sorted(here.glob("generate_*.py")):
        print(f"{generator.name} {' '.join(arguments)}".rstrip(), flush=True)
        failed |= subprocess.run([sys.executable, generator, *arguments], cwd=here.parent, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
