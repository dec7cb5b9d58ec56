"""Who holds a lease: ``host:pid:token``, one owner for each open paywall; and whether such an owner is still there.

A worker that was killed cannot give back what it held. Another worker on the same host sees that its process is gone, and need
not wait for the lease to run out. Of other hosts, and of process ids used again, nothing is known: there the lease decides.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys


def new_owner() -> str:
    """An owner for this process."""
    return f"{_host()}:{os.getpid()}:{secrets.token_hex(4)}"


def is_dead(owner: str) -> bool:
    """Whether ``owner`` was a process of this host that runs no more; False when that cannot be known."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != _host() or not rest.isdigit():
        return False
    return not _runs(int(rest))


def _host() -> str:
    return socket.gethostname().replace(":", "_")


def _runs(pid: int) -> bool:
    if sys.platform == "win32":  # os.kill would end the process there
        return _runs_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _runs_on_windows(pid: int) -> bool:
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 (mypy knows windll on Windows only)
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(kernel.GetLastError() == 5)  # ERROR_ACCESS_DENIED: it is there, and not ours
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE
