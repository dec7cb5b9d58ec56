"""The configuration: one TOML file, overridden by the environment and by flags. See ``docs/reference/configuration.md``."""

from __future__ import annotations

from micropaywall.settings.check import routes
from micropaywall.settings.load import load_settings
from micropaywall.settings.model import (
    RAIL_SETTINGS,
    BudgetSettings,
    BuyerSettings,
    LedgerSettings,
    LogSettings,
    RailSettings,
    RouteSettings,
    SandboxRail,
    SellerSettings,
    ServerSettings,
    Settings,
)
from micropaywall.settings.origin import Loaded, Origin
from micropaywall.settings.show import Line, lines

__all__ = [
    "RAIL_SETTINGS",
    "BudgetSettings",
    "BuyerSettings",
    "LedgerSettings",
    "Line",
    "Loaded",
    "LogSettings",
    "Origin",
    "RailSettings",
    "RouteSettings",
    "SandboxRail",
    "SellerSettings",
    "ServerSettings",
    "Settings",
    "lines",
    "load_settings",
    "routes",
]
