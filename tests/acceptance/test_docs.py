"""Every command and every snippet of the documents is run, and what they show is what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.documents import ROOT, Runner, blocks, demo_lines, missing, normal

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docs" / "start.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_block_of_the_document_runs(document: Path, tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    try:
        for block in blocks(document):
            try:
                runner.run(block)
            except AssertionError as error:
                raise AssertionError(f"{document.name}:{block.line}: {error}") from error
    finally:
        runner.close()


def test_the_picture_of_the_demo_is_its_real_output(tmp_path: Path) -> None:
    picture = next(block for block in blocks(ROOT / "README.md") if block.note.startswith("demo:"))
    assert missing(picture.text.splitlines(), demo_lines(tmp_path)) is None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_link_of_the_document_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
        assert (document.parent / target).exists(), target


def test_every_block_that_is_not_run_says_why() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.note.startswith("not run"):
                assert len(block.note.removeprefix("not run").strip(": ")) > 10, f"{document.name}:{block.line}"


# -- the runner itself can fail ---------------------------------------------------------------------------------------


def test_a_line_that_does_not_come_is_found() -> None:
    assert missing(["a", "…", "c"], ["a", "b", "c"]) is None
    assert missing(["a", "c"], ["a", "b", "c"]) == "c"
    assert missing(["…", "d"], ["a", "b", "c"]) == "d"
    assert missing(["✓ paid 0.001 USDC"], ["✓ paid 0.002 USDC"]) == "✓ paid 0.001 USDC"


def test_what_changes_from_run_to_run_is_taken_out_and_nothing_else() -> None:
    assert normal("  payment  pay_" + "0a" * 20 + " (settled)") == "payment pay_ID (settled)"
    assert normal("from 0x413de4C78dCc19bBe669Fe8e6a36437DFf0C7332") == "from 0xHEX"
    assert normal("http://localhost:3000/x") == "http://localhost:PORT/x"
    assert normal("All 26 checks held, in 3.2 s.") == "All 26 checks held, in N s."


def test_a_program_that_fails_fails_the_document(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("```python\nraise SystemExit(3)\n```\n")
    runner = Runner(tmp_path / "run")
    with pytest.raises(AssertionError):
        runner.run(next(blocks(document)))
