"""From ``module:attribute`` to an ASGI application: import it, tell ASGI from WSGI, put the paywall around it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

from micropaywall.errors import ConfigurationError

__all__ = ["kind_of", "load_object"]


def load_object(name: str) -> Any:
    """The object that ``module:attribute`` (or ``module:factory()``) names; modules of the working directory are found.

    Raises ConfigurationError when there is none. An error inside the module comes out as it is.
    """
    module_name, _, attribute = name.partition(":")
    call = attribute.endswith("()")
    here = os.getcwd()  # noqa: PTH109  a string is what sys.path takes
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        raise ConfigurationError(
            f"there is no module {module_name!r}",
            expected="module:attribute",
            received=name,
            hint=f"Looked in {here} too.",
        ) from None
    value: Any = found
    for part in attribute.removesuffix("()").split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ConfigurationError(
                f"{module_name!r} has no attribute {part!r}", expected="module:attribute", received=name
            ) from None
    return value() if call else value


def kind_of(app: Callable[..., Any], name: str) -> Literal["asgi", "wsgi"]:
    """Whether ``app`` is called as ASGI (scope, receive, send) or as WSGI (environ, start_response)."""
    if not callable(app):
        raise ConfigurationError("what --app names is no application", expected="ASGI or WSGI", received=name)
    target = app if inspect.isroutine(app) else type(app).__call__
    if inspect.iscoroutinefunction(target):
        return "asgi"
    try:
        parameters = [
            parameter
            for parameter in inspect.signature(app).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and parameter.default is parameter.empty
        ]
    except (TypeError, ValueError):
        parameters = []
    if len(parameters) == 2:
        return "wsgi"
    if len(parameters) == 3:
        return "asgi"
    raise ConfigurationError(
        "whether the application is ASGI or WSGI cannot be told",
        expected="a callable of (scope, receive, send) or of (environ, start_response)",
        received=name,
    )
