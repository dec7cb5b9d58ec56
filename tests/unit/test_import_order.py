"""Any module of the package may be the first that a program imports: no circle of imports depends on who comes first."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
import micropaywall

rooms = tuple(f"micropaywall.{room}." for room in ("cli", "client", "ledger", "sandbox", "seller", "settlement", "spending"))
found = [m.name for m in pkgutil.walk_packages(micropaywall.__path__, "micropaywall.")]
names = [name for name in found if name.startswith(rooms) and ".migrations." not in name]
failed = []
for name in names:
    for loaded in [m for m in sys.modules if m == "micropaywall" or m.startswith("micropaywall.")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed.append(f"{name}: {error}")
print(len(names))
sys.exit("\\n".join(failed) or 0)
"""


def test_every_module_may_be_imported_first() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80
