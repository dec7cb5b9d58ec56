"""What people see: tables that fit, colour only where it is wanted, no control character that came from elsewhere."""

from __future__ import annotations

import io

import pytest

from micropaywall.cli.screen import Column, Screen, plain, screen_of, width_of


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


COLUMNS = (Column("payment", keep="both"), Column("amount", right=True), Column("endpoint"))
ROWS = [
    ("pay_0123456789abcdef0123456789abcdef01234567", "0.001 USDC", "GET /api/resource?with=a-long-query-that-goes-on"),
    ("pay_1", "1000.25 USDC", "POST /日本語"),
]


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_a_table_is_never_wider_than_the_terminal(columns: int) -> None:
    lines = Screen(columns).table(COLUMNS, ROWS)
    assert max(map(width_of, lines)) <= columns
    assert len(lines) == 3


def test_a_table_in_a_file_is_not_cut() -> None:
    assert ROWS[0][0] in Screen(None).table(COLUMNS, ROWS)[1]


def test_amounts_are_aligned_to_the_right() -> None:
    first, second = Screen(None).table(COLUMNS, ROWS)[1:]
    assert first.index("0.001 USDC") + len("0.001 USDC") == second.index("1000.25 USDC") + len("1000.25 USDC")


def test_the_middle_of_an_id_is_what_gives_way() -> None:
    assert Screen(80).fit("0x0123456789abcdef", 9, keep="both") == "0x01…cdef"


def test_control_characters_never_reach_the_terminal() -> None:
    assert plain("a\x1b[2Jb\r\nc\u202ed\x00") == "a [2Jb  c d "
    assert all("\x1b" not in line for line in Screen(80).table([Column("x")], [["\x1b[31mred"]]))


@pytest.mark.parametrize(
    ("environ", "colour"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(environ: dict[str, str], colour: bool) -> None:
    assert screen_of(Terminal(), environ).colour is colour


def test_a_pipe_has_no_colour_and_no_width_unless_asked() -> None:
    assert screen_of(io.StringIO(), {}) == Screen(None, False, False)
    assert screen_of(io.StringIO(), {"FORCE_COLOR": "1", "COLUMNS": "90"}).colour
    assert screen_of(io.StringIO(), {"COLUMNS": "90"}).columns == 90


def test_a_code_page_without_our_signs_gets_ascii() -> None:
    class Latin(io.StringIO):
        encoding = "cp1252"

    screen = screen_of(Latin(), {})
    assert screen.text("✓ a → b …") == "ok a -> b ..."


def test_pairs_are_aligned_and_wrapped_under_themselves() -> None:
    lines = Screen(40).pairs([("a", "one two three four five six seven eight nine"), ("long", "x")])
    assert [line[:8] for line in lines] == ["  a     ", "        ", "  long  "]
