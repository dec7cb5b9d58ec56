"""Coverage-guided fuzzing of everything that is read from strangers (needs atheris: Linux or macOS).

    python -m tests.fuzz.fuzz_wire --seconds 1800 [--keep]

Starts from ``tests/fuzz/corpus`` and the committed vectors. With ``--keep`` the corpus is replaced by the smallest set of
inputs that reaches all code that was reached. Exits 0 when nothing was found; else the input that broke an invariant is in
``--findings``, and `python -m tests.fuzz.fuzz_wire --replay FILE` runs it again.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import kinds

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
DICTIONARY = HERE / "x402.dict"
ROOT = HERE.parents[1]
INPUT_BYTES_MAX = 9_000
"""A little above the header's limit, so that the limit itself is reached."""
MEMORY_MB_MAX = 1_024


def main(arguments: list[str] | None = None) -> int:
    """Run, keep, or replay; the exit status is libFuzzer's."""
    parser = argparse.ArgumentParser(description="Fuzz what sellers and buyers read from strangers.")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--keep", action="store_true", help="keep what reached new code in tests/fuzz/corpus")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()), help="where a finding is written")
    parser.add_argument("--replay", type=Path, help="run one input and nothing else")
    options = parser.parse_args(arguments)
    if options.replay:
        return _libfuzzer(str(options.replay.resolve()))
    CORPUS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="micropaywall-fuzz-") as directory:
        seeds, found, smallest = (Path(directory) / name for name in ("seeds", "found", "smallest"))
        for path in (seeds, found, smallest):
            path.mkdir()
        for seed in vectors():
            (seeds / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
        options.findings.mkdir(parents=True, exist_ok=True)
        status = _libfuzzer(
            str(found),
            str(CORPUS),
            str(seeds),
            f"-max_total_time={options.seconds}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-dict={DICTIONARY}",
            f"-artifact_prefix={options.findings.resolve()}/",
            "-timeout=10",
            f"-rss_limit_mb={MEMORY_MB_MAX}",
            "-print_final_stats=1",
        )
        if status == 0 and options.keep:
            inputs = (str(path) for path in (smallest, CORPUS, seeds, found))
            status = _libfuzzer("-merge=1", f"-max_len={INPUT_BYTES_MAX}", *inputs)
            if status == 0:
                for old in CORPUS.iterdir():
                    old.unlink()
                for new in smallest.iterdir():
                    shutil.copy(new, CORPUS / new.name)
        return status


def _libfuzzer(*flags: str) -> int:
    """libFuzzer takes over its process and ends it, so it gets one of its own."""
    return subprocess.run([sys.executable, "-m", "tests.fuzz.libfuzzer", *flags], cwd=ROOT, check=False).returncode


def vectors() -> Iterator[bytes]:
    """The committed vectors as inputs: every header as it is, and as the JSON in it."""
    refusals = json.loads((ROOT / "vectors" / "refusals.json").read_text(encoding="utf-8"))["refusals"]
    payments = json.loads((ROOT / "vectors" / "payments.json").read_text(encoding="utf-8"))["payments"]
    http = json.loads((ROOT / "vectors" / "http.json").read_text(encoding="utf-8"))
    for name, value in [
        *((case["header"], case["value"]) for case in refusals),
        *(("PAYMENT-SIGNATURE" if case["dialect"] == "x402/2" else "X-PAYMENT", case["header"]) for case in payments),
    ]:
        raw, text = (
            (kinds.SIGNATURE_RAW, kinds.SIGNATURE_JSON)
            if name == "PAYMENT-SIGNATURE"
            else (kinds.PAYMENT_RAW, kinds.PAYMENT_JSON)
        )
        yield bytes([raw]) + value.encode()
        try:
            yield bytes([text]) + base64.b64decode(value, validate=True)
        except ValueError:
            continue
    yield bytes([kinds.CHALLENGE_JSON]) + base64.b64decode(http["paymentRequired"])
    yield bytes([kinds.BODY]) + json.dumps({"x402Version": 1, "accepts": http["v1Accepts"], "error": "no"}).encode()
    for receipt in http["receipts"]:
        yield bytes([kinds.RECEIPT_JSON]) + base64.b64decode(receipt["value"])


if __name__ == "__main__":
    sys.exit(main())
