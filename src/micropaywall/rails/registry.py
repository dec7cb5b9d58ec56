"""Which rails there are. Explicit: a name that is not here is an error at start, and so is a rail that does not load.

A rail's modules are imported when it is asked for, so that a seller of one rail does not load the others. Adding a rail is
one folder and one entry here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from micropaywall.errors import ConfigurationError, RailError

__all__ = ["RAILS", "RailEntry", "factory", "names", "open_part"]

Part = Literal["seller", "buyer", "settlement"]


@dataclass(frozen=True, slots=True)
class RailEntry:
    """Where the parts of a rail are made, as ``module:function``. Each function takes keyword options.

    ``seller`` makes a `rails.port.SellerRail`, ``buyer`` a `BuyerRail`, ``settlement`` a `Settlement`.
    """

    seller: str
    buyer: str
    settlement: str


RAILS: Final[Mapping[str, RailEntry]] = {
    "sandbox": RailEntry(
        seller="micropaywall.sandbox.rail:seller",
        buyer="micropaywall.sandbox.rail:buyer",
        settlement="micropaywall.sandbox.rail:settlement",
    ),
}


def names() -> tuple[str, ...]:
    """The names of all rails, sorted."""
    return tuple(sorted(RAILS))


def factory(name: str, part: Part, *, rails: Mapping[str, RailEntry] = RAILS) -> Callable[..., Any]:
    """What makes ``part`` of the rail ``name``; RailError when there is no such rail, or it cannot be imported."""
    entry = rails.get(name)
    if entry is None:
        raise RailError(
            f"there is no rail called {name!r}", expected=", ".join(sorted(rails)) or "a rail", received=name
        )
    where: str = getattr(entry, part)
    module_name, _, function = where.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), function)
    except ImportError as error:
        raise RailError(
            f"the rail {name!r} cannot be loaded: {error}",
            received=where,
            hint="Install the extra that the rail needs, or take the rail out of the configuration.",
        ) from error
    except AttributeError as error:
        raise RailError(f"the rail {name!r} is broken: {where} does not exist", received=where) from error
    if not callable(made):
        raise RailError(f"the rail {name!r} is broken: {where} is not a function", received=where)
    return made  # type: ignore[no-any-return]


def open_part(name: str, part: Part, *, rails: Mapping[str, RailEntry] = RAILS, **options: object) -> Any:
    """``part`` of the rail ``name``, made with ``options``; RailError when it cannot be, ConfigurationError as the rail says."""
    make = factory(name, part, rails=rails)
    try:
        return make(**options)
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        raise RailError(f"the rail {name!r} does not take these options: {error}", received=sorted(options)) from error
