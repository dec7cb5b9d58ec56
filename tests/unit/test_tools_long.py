"""The page of the long run says what happened, failures first of all."""

from __future__ import annotations

from tools import test_long as long

REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="x" time="1.5"/>
<testcase classname="tests.unit.test_b" name="y" time="2.5"><failure>no</failure></testcase>
<testcase classname="tests.property.test_c" name="z" time="60"/>
<testcase classname="tests.sim.test_d" name="s" time="1"><skipped/></testcase>
</testsuite></testsuites>"""
SAID = (
    "INFO: Seed: 4711\n#8 INITED cov: 10 ft: 20\n#99 DONE cov: 321 ft: 400\nstat::number_of_executed_units: 1234567\n"
)


def test_tests_are_counted_by_tier_and_a_failed_or_skipped_one_shows() -> None:
    rows = {row.what: row for row in long.tiers(REPORT, 5)}
    assert rows["unit"].count == "2 tests"
    assert (rows["unit"].result, rows["unit"].seconds, rows["unit"].seed) == ("**1 failed**", 4.0, "5")
    assert rows["property"].result == "all passed"
    assert rows["sim"].result == "**1 failed**"


def test_the_fuzzer_is_counted_by_inputs_and_saying_nothing_is_no_success() -> None:
    row = long.fuzz_row(SAID, "nothing found", 60)
    assert (row.count, row.result, row.seed) == ("1,234,567 inputs, 321 edges", "nothing found", "4711")
    assert long.fuzz_row("", "nothing found", 60).result == "**no statistics**"
    assert long.fuzz_row(SAID, "**exit status 77** crash-1", 60).result.startswith("**exit status 77**")


def test_the_page_can_be_read_back_and_says_whether_everything_held() -> None:
    rows = [*long.tiers(REPORT, 5), long.fuzz_row(SAID, "nothing found", 60)]
    text = long.page(rows, "abc")
    assert long.rows_of(text) == rows
    assert "**Failed: 2 of 4.**" in text
    assert "**Everything held.**" in long.page(rows[-1:], "abc")
    assert long.rows_of("# nothing") == []
