"""Events as Prometheus metrics; needs the extra ``micropaywall[prometheus]``.

    micropaywall_events_total{event, route, rail, code}          how often what happened
    micropaywall_amount_atomic_total{event, asset}               reserved, served, settled, refunded, paid
    micropaywall_handler_seconds{route}                          how long handlers of paid requests took

Labels take values from the operator's configuration and from closed lists only: never a payment, a payer or a host, which
strangers could multiply without end. A rail's own reasons are kept to `CODES_MAX` different ones.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from micropaywall.observe.events import Event, Served

__all__ = ["PrometheusObserver"]

CODES_MAX: Final = 64
"""Different codes that are told apart; further ones count as ``other``."""
_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class PrometheusObserver:
    """Counts events in ``registry`` (the process's own by default). One per registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._events = Counter(
            "micropaywall_events", "What happened to payments.", ("event", "route", "rail", "code"), registry=registry
        )
        self._amounts = Counter(
            "micropaywall_amount_atomic", "Atomic units of the asset.", ("event", "asset"), registry=registry
        )
        self._handler = Histogram(
            "micropaywall_handler_seconds",
            "Handlers of paid requests.",
            ("route",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._codes: set[str] = set()

    def notify(self, event: Event, /) -> None:
        """Count one."""
        facts = event.facts()
        self._events.labels(
            event.name, str(facts.get("route", "")), str(facts.get("rail", "")), self._code(str(facts.get("code", "")))
        ).inc()
        if "amount_atomic" in facts:
            self._amounts.labels(event.name, str(facts["asset"])).inc(int(facts["amount_atomic"]))
        if isinstance(event, Served):
            self._handler.labels(event.route).observe(event.latency_ms / 1000)

    def _code(self, code: str) -> str:
        if code not in self._codes:
            if len(self._codes) >= CODES_MAX:
                return "other"
            self._codes.add(code)
        return code
