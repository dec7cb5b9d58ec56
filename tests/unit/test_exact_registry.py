"""Rails by name: what is unknown, missing or broken stops the start."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from micropaywall.clock import ManualClock
from micropaywall.errors import ConfigurationError, RailError
from micropaywall.rails import registry
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.rails.port import Rail
from micropaywall.rails.registry import RailEntry

CLOCK = ManualClock()


@pytest.fixture
def module(monkeypatch):
    made = ModuleType("rail_under_test")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def open_rail(where="rail_under_test:opening", **options):
    return registry.open_rail("x", pay_to=None, options=options, clock=CLOCK, rails={"x": RailEntry(where, where)})


def open_buyer(where="rail_under_test:opening", **options):
    return registry.open_buyer("x", options=options, rails={"x": RailEntry(where, where)})


@pytest.mark.parametrize("name", ["", "solana", "Sandbox", "os:system", "micropaywall.sandbox.rail"])
def test_an_unknown_rail_stops_the_start_and_names_the_known_ones(name):
    for opening in (
        lambda: registry.open_rail(name, pay_to=None, options={}, clock=CLOCK),
        lambda: registry.open_buyer(name, options={}),
    ):
        with pytest.raises(RailError, match="no rail called") as caught:
            opening()
        assert caught.value.expected == "one of: " + ", ".join(registry.names())


@pytest.mark.parametrize("opening", [open_rail, open_buyer])
def test_a_rail_that_cannot_be_imported_stops_the_start(opening):
    with pytest.raises(RailError, match="cannot be loaded") as caught:
        opening("micropaywall_rail_of_nobody:opening")
    assert "extra" in caught.value.hint


@pytest.mark.parametrize("opening", [open_rail, open_buyer])
def test_a_rail_without_its_function_is_broken(module, opening):
    with pytest.raises(RailError, match="is not a function"):
        opening()
    module.opening = "text"
    with pytest.raises(RailError, match="is not a function"):
        opening()


@pytest.mark.parametrize("opening", [open_rail, open_buyer])
@pytest.mark.parametrize("made", [None, "rail", 5, object()])
def test_a_rail_that_makes_something_else_is_broken(module, opening, made):
    module.opening = lambda **_: made
    with pytest.raises(RailError, match="is broken"):
        opening()


@pytest.mark.parametrize("opening", [open_rail, open_buyer])
@pytest.mark.parametrize("error", [TypeError("no such option"), ValueError("bad"), OSError("no such file")])
def test_a_rail_that_cannot_be_opened_stops_the_start(module, opening, error):
    def raising(**_):
        raise error

    module.opening = raising
    with pytest.raises(RailError, match="cannot be opened"):
        opening()


@pytest.mark.parametrize("opening", [open_rail, open_buyer])
def test_what_a_rail_says_of_its_configuration_is_kept(module, opening):
    said = ConfigurationError("the store is not writable")

    def raising(**_):
        raise said

    module.opening = raising
    with pytest.raises(ConfigurationError) as caught:
        opening()
    assert caught.value is said


def test_a_rail_gets_what_was_configured(module):
    seen = {}

    def opening(**given):
        seen.update(given)
        return Rail(seller=None, settlement=None)

    module.opening = opening
    assert isinstance(open_rail(color="blue"), Rail)
    assert seen == {"pay_to": None, "options": {"color": "blue"}, "clock": CLOCK}
    module.opening = lambda *, options: ExactBuyer([])
    assert open_buyer().scheme == "exact"


@pytest.mark.parametrize("name", registry.names())
def test_every_rail_of_the_registry_opens(name):
    rail = registry.open_rail(name, pay_to=None, options={}, clock=CLOCK)
    assert rail.seller.name == name
    assert registry.open_buyer(name, options={}).scheme == rail.seller.scheme
