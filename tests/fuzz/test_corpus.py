"""Every input that fuzzing ever kept, and every vector, in each test run."""

from __future__ import annotations

import json

import pytest

from micropaywall.limits import CREDENTIAL_HEADER_BYTES_MAX
from tests.fuzz import fuzz_wire, kinds, target

INPUTS = sorted(fuzz_wire.CORPUS.iterdir())


def test_the_corpus_is_there():
    assert len(INPUTS) > 100


def test_kept_inputs_are_read_or_refused():
    for path in INPUTS:
        target.run(path.read_bytes())


def test_vectors_are_read_or_refused():
    for seed in fuzz_wire.vectors():
        target.run(seed)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b'"' * 100_000,
        b'{"x402Version":2,"a":"' + b'\\"' * 3_000,
        b"[{" * 20 + b'"\\"' * 2_000 + b"\\",
        b"9" * 6_000,
        b'{"x402Version":' + b"9" * 5_000 + b"}",
        b'{"x402Version":1e999999}',
        b'{"x402Version":2,"accepts":[' + b"{}," * 2_000 + b"{}]}",
        json.dumps({"x402Version": 2, "payload": {}, "accepted": {}, "extensions": [[[[[[]]]]]] * 200}).encode(),
    ],
    ids=range(10),
)
def test_inputs_made_to_hurt_are_refused_in_bounded_time(text):
    for kind in range(kinds.COUNT):
        target.run(bytes([kind]) + text)


def test_a_header_at_the_limit_is_read_and_one_above_is_refused():
    for size in (CREDENTIAL_HEADER_BYTES_MAX, CREDENTIAL_HEADER_BYTES_MAX + 1):
        target.run(bytes([kinds.SIGNATURE_RAW]) + b"A" * size)


@pytest.mark.parametrize("broken", [ValueError("anything"), RecursionError(), KeyError("accepted")])
def test_the_target_lets_no_other_error_pass(monkeypatch, broken):
    def raising(*_, **__):
        raise broken

    monkeypatch.setattr(target.x402, "read_credential", raising)
    with pytest.raises(type(broken)):
        target.run(bytes([kinds.SIGNATURE_RAW]) + b"e30=")
