"""The process that libFuzzer takes over; started by `tests.fuzz.fuzz_wire` with libFuzzer's flags."""

from __future__ import annotations

import shlex
import sys

import atheris

# msgspec and coincurve are C and stay as they are; what is instrumented is ours.
with atheris.instrument_imports(include=["micropaywall.proto", "micropaywall.rails", "micropaywall.crypto"]):
    from tests.fuzz import target

from tests.fuzz.mutator import mutate


def _mutate(data: bytes, size_max: int, seed: int) -> bytes:
    """Half of the time by structure, half as libFuzzer does with bytes."""
    return mutate(data, size_max, seed) if seed % 2 else atheris.Mutate(data, size_max)


if __name__ == "__main__":
    # When it merges, libFuzzer starts its own command again through a shell, by the first argument.
    command = f"{shlex.quote(sys.executable)} -m tests.fuzz.libfuzzer"
    atheris.Setup([command, *sys.argv[1:]], target.run, custom_mutator=_mutate)
    atheris.Fuzz()
