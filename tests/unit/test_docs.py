"""What the documents say is what the code does: generated pages are current, names exist, links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tools import generate_docs

from micropaywall import errors
from micropaywall.cli.frame import root as command_line
from micropaywall.core import lives
from micropaywall.settings.model import RAIL_SETTINGS, Settings

ROOT = generate_docs.ROOT
REFERENCE = ROOT / "docs" / "reference"
_LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
_ANCHOR = re.compile(r'<a id="([^"]+)">')


def pages() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    return [ROOT / name for name in listed] or [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def sources() -> Iterator[Path]:
    yield from sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("path", [*generate_docs.PAGES, *(path for path, _ in generate_docs.PARTS)])
def test_every_generated_page_is_current(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == generate_docs.render(ROOT)[path], "run `make generate`"


def test_a_stale_page_is_noticed_and_writing_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "docs").mkdir()
    marks = "".join(mark.format(name="lives") for mark in generate_docs._MARKS)
    (tmp_path / "docs" / "concepts.md").write_text(f"before\n{marks}after\n")
    monkeypatch.setattr(generate_docs, "ROOT", tmp_path)
    assert generate_docs.main(["--check"]) == 1
    assert generate_docs.main([]) == 0
    assert generate_docs.main(["--check"]) == 0
    assert (tmp_path / "docs" / "concepts.md").read_text().startswith("before\n")
    (tmp_path / "docs" / "reference" / "errors.md").write_text("old")
    capsys.readouterr()
    assert generate_docs.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/reference/errors.md is stale: run `make generate`\n"


@pytest.mark.parametrize("text", ["", "{0}", "{1}{0}", "{0}{1}{0}{1}"])
def test_marks_that_do_not_stand_once_in_order_are_refused(text: str) -> None:
    opening, closing = (mark.format(name="x") for mark in generate_docs._MARKS)
    with pytest.raises(SystemExit, match="do not stand once"):
        generate_docs.between_marks(text.format(opening, closing), "x", "content")


# -- everything is documented


def test_error_codes_are_unique_and_each_is_an_anchor_of_the_errors_page() -> None:
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    codes = {code for code, kind in errors.all_errors().items() if kind.__module__ == errors.__name__}
    codes -= {errors.MicropaywallError.code}
    assert set(_ANCHOR.findall(text)) == codes


def test_a_code_used_twice_is_noticed() -> None:
    class Twice(errors.BuyerError):
        code = "buyer_error"

    try:
        with pytest.raises(AssertionError, match="'buyer_error' is used by"):
            errors.all_errors()
    finally:
        Twice.code = "twice"  # the class stays known to its base for the rest of the process


def test_every_error_that_the_package_can_raise_is_in_the_one_tree() -> None:
    names = {kind.__name__ for kind in errors.all_errors().values()}
    for file in sources():
        if file.name == "errors.py" and file.parent.name == "micropaywall":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                assert not bases & names, f"{file}: {node.name} belongs into micropaywall/errors.py"


def test_every_setting_is_in_the_configuration_page() -> None:
    text = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    for name, kind in [*Settings.SECTIONS.items(), *((f"rails.{rail}", kind) for rail, kind in RAIL_SETTINGS.items())]:
        section = text.partition(f"## `[{name}]`")[2].partition("\n## `")[0]
        assert section, name
        for field in kind.__struct_fields__:
            assert f"| `{field}` |" in section, f"{name}.{field}"


def test_every_command_is_in_the_command_line_page() -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    found = list(generate_docs._commands(command_line, click.Context(command_line, info_name="micropaywall")))
    assert found
    for context, _ in found:
        assert f"# `{context.command_path}`\n" in text


def test_every_step_of_both_lives_is_drawn() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    for life in (lives.PAYMENT_LIFE, lives.CHARGE_LIFE):
        for state, steps in life.items():
            for event, after in steps.items():
                assert f"    {state.value} --> {after.value}: {event.value.replace('_', ' ')}\n" in text


# -- names and links


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = []
    for page in pages():
        for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
            file = (page.parent / target).resolve() if target else page
            if not file.exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
            elif anchor and file.suffix == ".md" and anchor[1:] not in anchors(file):
                broken.append(f"{page.relative_to(ROOT)}: {target}{anchor}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
    return slugs | set(_ANCHOR.findall(text))


def test_every_document_and_source_that_the_package_names_exists() -> None:
    named = re.compile(r"\b(?:docs|tests|tools|vectors|examples|requirements)/[\w/.-]+\.(?:md|py|toml|txt|json)\b")
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in sources()
        for name in named.findall(file.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert missing == set()


def test_every_make_verb_in_the_documents_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = {
        (page.name, verb)
        for page in pages()
        for verb in re.findall(r"`make ([a-z-]+)[^`]*`", page.read_text(encoding="utf-8"))
    }
    assert {(page, verb) for page, verb in used if verb not in verbs} == set()


def test_no_loose_ends_stand_in_the_tree() -> None:
    words = ["TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error", "pragma: no " + "cover"]
    pattern = re.compile("|".join(rf"\b{word}\b" for word in words))
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for folder in ("src", "tests", "tools", "benchmarks", "examples")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if "node_modules" not in file.parts
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
