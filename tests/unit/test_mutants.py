"""The tool that takes guards out, on a project of its own; and the project's real lists, which must fit the sources."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tools import mutants

GUARD = "    if amount > balance:\n        raise ValueError(amount)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "src" / "till").mkdir(parents=True)
    (root / "tests" / "mutants.d").mkdir(parents=True)
    (root / "src" / "till" / "__init__.py").write_text("")
    (root / "src" / "till" / "pay.py").write_text(
        f"def pay(balance, amount):\n{GUARD}    return balance - amount\n\n\ndef spin():\n    return False\n"
    )
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["src"]\ntimeout = 60\n')
    (root / "tests" / "test_pay.py").write_text(
        textwrap.dedent("""
        import pytest
        from till import pay

        def test_no_overdraft():
            with pytest.raises(ValueError):
                pay.pay(1, 2)

        def test_says_nothing():
            assert pay.pay(3, 1) == 2

        def test_ends():
            while pay.spin():
                pass

        def test_fails():
            assert False

        def test_skips():
            pytest.skip("nothing to see")
        """)
    )
    return root


def write(root: Path, *entries: dict[str, object], file: str = "mutants.toml") -> None:
    full = [
        {"name": "guard", "file": "src/till/pay.py", "find": GUARD, "replace": "", "why": "overdraft", **e}
        for e in entries
    ]
    lines = []
    for entry in full:
        lines.append("[[mutant]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    (root / "tests" / file).write_text("\n".join(lines))


def verdicts(root: Path, *names: str) -> dict[str, str]:
    chosen = mutants.select(mutants.read_lists(root), money=False, only=names)
    return {result.name: result.verdict for result in mutants.run(chosen, root, jobs=2, report=False)}


TEST = "tests/test_pay.py::test_no_overdraft"


def test_each_fate_of_a_mutant_is_told_apart_and_the_working_tree_stays_as_it_was(project: Path) -> None:
    write(
        project,
        {"name": "noticed", "test": TEST},
        {"name": "survives", "test": "tests/test_pay.py::test_says_nothing"},
        {"name": "same-size-noticed", "test": TEST, "find": "amount > balance", "replace": "balance < 0 == 1"},
        {
            "name": "hangs",
            "test": "tests/test_pay.py::test_ends",
            "find": "return False",
            "replace": "return True",
            "timeout_s": 4,
        },
        {"name": "syntax", "test": TEST, "find": "raise ValueError(amount)", "replace": "raise ValueError("},
        {"name": "absent", "test": TEST, "find": "no such text"},
        {"name": "twice", "test": TEST, "find": "amount", "replace": "x"},
        {"name": "no-file", "test": TEST, "file": "src/till/nope.py"},
        {"name": "no-test", "test": "tests/test_pay.py::test_nope"},
        {"name": "failing", "test": ["tests/test_pay.py::test_fails", TEST]},
        {"name": "skipping", "test": "tests/test_pay.py::test_skips"},
    )
    (project / "tests" / "conftest.py").write_text((Path(__file__).parents[1] / "conftest.py").read_text())
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert verdicts(project) == {
        "noticed": "noticed",
        "survives": "survived",
        "same-size-noticed": "noticed",
        "hangs": "timed out",
        "syntax": "does not run",
        "absent": "does not apply",
        "twice": "does not apply",
        "no-file": "does not apply",
        "no-test": "does not apply",
        "failing": "test fails unmutated",
        "skipping": "test fails unmutated",
    }
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("entry", "status", "says"),
    [
        ({"test": "tests/test_pay.py::test_says_nothing"}, 1, "SURVIVED: guard"),
        ({"test": TEST, "find": "no such text"}, 2, "DOES NOT APPLY: guard"),
        ({"test": TEST}, 0, "1 noticed, 0 not"),
    ],
)
def test_the_exit_status_tells_whether_every_guard_is_tested(project, capsys, entry, status, says) -> None:
    write(project, entry)
    assert mutants.main(["--root", str(project), "--jobs", "1"]) == status
    assert says in capsys.readouterr().out


def test_selecting_nothing_is_an_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"test": TEST})
    assert mutants.main(["--root", str(project), "--money"]) == 2
    assert mutants.main(["--root", str(project), "--only", "other*"]) == 2
    assert "none selected" in capsys.readouterr().err


def test_money_and_only_select(project: Path) -> None:
    write(
        project,
        {"name": "a-1", "test": TEST, "money": True},
        {"name": "a-2", "test": TEST},
        {"name": "b", "test": TEST},
    )
    found = mutants.read_lists(project)
    assert [m.name for m in mutants.select(found, money=True, only=())] == ["a-1"]
    assert [m.name for m in mutants.select(found, money=False, only=("a-*",))] == ["a-1", "a-2"]


def test_json_has_every_verdict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {"test": TEST})
    assert mutants.main(["--root", str(project), "--json", "--jobs", "1"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["name"], entry["verdict"], entry["why"]) == ("guard", "noticed", "overdraft")


def test_lists_in_the_folder_are_read_too_and_a_name_may_be_used_once(project: Path) -> None:
    write(project, {"name": "a", "test": TEST})
    write(project, {"name": "b", "test": TEST}, file="mutants.d/more.toml")
    assert [m.name for m in mutants.read_lists(project)] == ["a", "b"]
    write(project, {"name": "a", "test": TEST}, file="mutants.d/more.toml")
    with pytest.raises(mutants.ListError, match="used twice"):
        mutants.read_lists(project)


@pytest.mark.parametrize(
    "entry",
    [
        {"test": ""},
        {"test": []},
        {"test": "tests/test_pay.py"},
        {"test": TEST, "why": ""},
        {"test": TEST, "find": ""},
        {"test": TEST, "replace": GUARD},
        {"test": TEST, "timeout_s": 0},
        {"test": TEST, "surprise": 1},
    ],
)
def test_an_incomplete_entry_is_refused(project: Path, entry: dict[str, object]) -> None:
    write(project, entry)
    with pytest.raises(mutants.ListError):
        mutants.read_lists(project)


def test_the_mutated_copy_is_what_the_test_and_its_programs_import(project: Path) -> None:
    (project / "tests" / "test_where.py").write_text(
        "import subprocess, sys, till.pay\n"
        "def test_where():\n"
        "    out = subprocess.run([sys.executable, '-c', 'import till.pay as p; print(p.pay(1, 2))'], capture_output=True)\n"
        "    assert b'ValueError' in out.stderr\n"
    )
    write(project, {"test": "tests/test_where.py::test_where"})
    assert verdicts(project) == {"guard": "noticed"}


# -- the project's own lists


def test_every_mutant_of_the_project_fits_the_sources_and_names_tests_that_exist() -> None:
    found = mutants.read_lists(mutants.ROOT)
    assert found
    assert {mutant.name: why for mutant in found if (why := mutants.does_not_apply(mutant, mutants.ROOT))} == {}
    assert any(mutant.money for mutant in found)


def test_the_list_can_be_printed() -> None:
    script = mutants.ROOT / "tools" / "mutants.py"
    printed = subprocess.run([sys.executable, script, "--list"], capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == len(mutants.read_lists(mutants.ROOT))
