"""Resolve the dependencies into ``requirements/``: exact versions with hashes, for every platform, naming no registry.

Run it by `make lock` after a change of the dependencies in ``pyproject.toml``, or to take newer versions.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
COMMON: Final = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-annotate",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--custom-compile-command=make lock",
    "--quiet",
)


def main(arguments: list[str]) -> int:
    """Write both files; ``--upgrade`` takes the newest versions instead of keeping the locked ones."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    uv = Path(sysconfig.get_path("scripts")) / ("uv.exe" if sys.platform == "win32" else "uv")
    for name, extra in (
        ("runtime", ()),
        ("dev", ("--all-extras", *(f"--group={group}" for group in groups))),
    ):
        target = ROOT / "requirements" / f"{name}.txt"
        subprocess.run(
            [uv, "pip", "compile", "pyproject.toml", *extra, *COMMON, *arguments, f"--output-file={target}"],
            cwd=ROOT,
            check=True,
        )
        count = sum(line[:1].isalnum() for line in target.read_text(encoding="utf-8").splitlines())
        print(f"requirements/{name}.txt: {count} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
