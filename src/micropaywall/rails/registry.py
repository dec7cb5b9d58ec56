"""Which rails there are. Explicit: a name that is not here is an error at start, and so is a rail that does not load.

A rail's modules are imported when it is asked for, so that a seller does not load a buyer's side, nor one rail the others.
Adding a rail is one folder and one entry here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from micropaywall.clock import Clock
from micropaywall.errors import ConfigurationError, RailError
from micropaywall.rails.port import BuyerRail, Rail

__all__ = ["RAILS", "RailEntry", "names", "open_buyer", "open_rail"]


@dataclass(frozen=True, slots=True)
class RailEntry:
    """Where the two sides of a rail are made, as ``module:function``.

    ``seller(*, pay_to: str | None, options: Mapping[str, object], clock: Clock) -> Rail`` and
    ``buyer(*, options: Mapping[str, object]) -> BuyerRail``; both raise ConfigurationError for options they cannot use.
    """

    seller: str
    buyer: str


RAILS: Final[Mapping[str, RailEntry]] = {
    "sandbox": RailEntry(seller="micropaywall.sandbox.rail:open_rail", buyer="micropaywall.sandbox.rail:open_buyer"),
}


def names() -> tuple[str, ...]:
    """The names of all rails, sorted."""
    return tuple(sorted(RAILS))


def open_rail(
    name: str,
    *,
    pay_to: str | None,
    options: Mapping[str, object],
    clock: Clock,
    rails: Mapping[str, RailEntry] = RAILS,
) -> Rail:
    """The seller's side of the rail ``name``; RailError when there is none, or it cannot be loaded or opened."""
    where = _entry(name, rails).seller
    made = _open(name, where, pay_to=pay_to, options=options, clock=clock)
    if not isinstance(made, Rail):
        raise _broken(name, where, made)
    return made


def open_buyer(name: str, *, options: Mapping[str, object], rails: Mapping[str, RailEntry] = RAILS) -> BuyerRail:
    """The buyer's side of the rail ``name``; RailError when there is none, or it cannot be loaded or opened."""
    where = _entry(name, rails).buyer
    made = _open(name, where, options=options)
    if not isinstance(getattr(made, "scheme", None), str):
        raise _broken(name, where, made)
    return cast("BuyerRail", made)


def _entry(name: str, rails: Mapping[str, RailEntry]) -> RailEntry:
    entry = rails.get(name)
    if entry is None:
        known = ", ".join(sorted(rails))
        raise RailError(f"there is no rail called {name!r}", expected=f"one of: {known}", received=name)
    return entry


def _open(name: str, where: str, **arguments: object) -> object:
    make = _load(name, where)
    try:
        return make(**arguments)
    except ConfigurationError:
        raise
    except (TypeError, ValueError, OSError) as error:
        raise RailError(f"the rail {name!r} cannot be opened: {error}", received=where) from error


def _broken(name: str, where: str, made: object) -> RailError:
    return RailError(f"the rail {name!r} is broken: {where} made {type(made).__name__}", received=where)


def _load(name: str, where: str) -> Callable[..., object]:
    module_name, _, function_name = where.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except ImportError as error:
        raise RailError(
            f"the rail {name!r} cannot be loaded: {error}",
            received=where,
            hint="Install the extra that the rail needs, or take the rail out of the configuration.",
        ) from error
    if not callable(function):
        raise RailError(f"the rail {name!r} is broken: {where} is not a function", received=where)
    return cast("Callable[..., object]", function)
