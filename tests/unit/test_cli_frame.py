"""The frame of the command line: exit codes, errors in words and in JSON, lazy commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from micropaywall import errors
from micropaywall.cli import frame
from micropaywall.cli.exits import MEANINGS, ExitCode, exit_code
from micropaywall.cli.lazy import LazyGroup


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, LazyGroup):
        context = click.Context(command)
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            yield from commands(member, (*path, name))


LEAVES = [(path, command) for path, command in commands(frame.root) if not isinstance(command, click.Group)]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_command_has_help_and_json(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert "--json" in [name for option in options for name in option.opts]
    assert all(option.help for option in options), "every option is documented"


def test_the_short_help_needs_no_command_to_be_imported() -> None:
    code = (
        "import sys\nfrom micropaywall.cli.frame import run\nrun(['--help'])\n"
        "loaded = {m for m in sys.modules if m.startswith('micropaywall.')}\n"
        "assert not loaded & {'micropaywall.settings', 'micropaywall.ledger', 'micropaywall.cli.demo'}, loaded\n"
        "assert not {'asyncio', 'sqlite3', 'msgspec', 'cryptography'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_slip_of_the_fingers_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(["walet"]) == ExitCode.USAGE
    assert "Did you mean 'wallet'?" in capsys.readouterr().err


def test_errors_are_a_problem_on_standard_error_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(["config", "show", "--json", "--config", "no-such-file.toml"]) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    problem = json.loads(captured.err)
    assert problem["code"] == "configuration_invalid"
    assert problem["received"] == "no-such-file.toml"


def test_a_usage_error_is_a_problem_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(["config", "show", "--json", "--nonsense"]) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().err)["code"] == "usage"


def test_json_after_the_double_dash_is_not_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(["config", "show", "--nonsense", "--", "--json"]) == ExitCode.USAGE
    assert not capsys.readouterr().err.startswith("{")


def test_an_error_says_what_was_expected_what_came_and_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise errors.PaymentOutcomeUnknown(
            "sent, \x1b[2Jno answer", expected=["a", "b"], received="c", hint="Run it again."
        )

    monkeypatch.setattr(frame.root, "main", fail)
    assert frame.run(["get", "http://x"]) == ExitCode.OUTCOME_UNKNOWN
    shown = capsys.readouterr().err
    assert "sent,  [2Jno answer" in shown
    for line in (
        "expected     a, b",
        "received     c",
        "money moved  not known yet",
        "what next    Run it again.",
        "payment_outcome_unknown",
    ):
        assert line in shown


def test_a_defect_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(frame.root, "main", fail)
    assert frame.run([]) == ExitCode.FAILED
    shown = capsys.readouterr().err
    assert "ZeroDivisionError at test_cli_frame.py:" in shown
    assert "Traceback" not in shown


def test_a_reader_that_leaves_is_no_defect() -> None:
    code = "import sys; from micropaywall.cli import main; sys.argv[1:] = ['config', 'show']; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError(), 2),
        (errors.RailError(), 2),
        (errors.BudgetExceeded(), 3),
        (errors.KillSwitchOn(), 3),
        (errors.SignatureRefused(), 3),
        (errors.PaymentNotAccepted(), 4),
        (errors.PaymentOutcomeUnknown(), 5),
        (errors.NoAcceptableOffer(), 6),
        (errors.StoreUnavailable(), 6),
        (errors.LedgerCorrupt(), 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: errors.MicropaywallError, code: int) -> None:
    assert exit_code(error) == code


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)
