"""Events as OpenTelemetry span events and counters; needs the extra ``micropaywall[opentelemetry]``.

Each event is added to the span of the request in which it happened, with all its facts (a span is one request's, so ids may
stand there), and counted in ``micropaywall.events`` with the few attributes that cannot be multiplied by strangers.
"""

from __future__ import annotations

from opentelemetry import metrics, trace

from micropaywall.observe.events import Event, Served

__all__ = ["OpenTelemetryObserver"]

_BOUNDED = ("route", "rail", "asset")


class OpenTelemetryObserver:
    """Reports to the providers given, or to the process's own."""

    def __init__(self, meter_provider: metrics.MeterProvider | None = None) -> None:
        meter = metrics.get_meter("micropaywall", meter_provider=meter_provider)
        self._events = meter.create_counter("micropaywall.events", "1", "What happened to payments.")
        self._amounts = meter.create_counter("micropaywall.amount_atomic", "1", "Atomic units of the asset.")
        self._handler = meter.create_histogram("micropaywall.handler.duration", "s", "Handlers of paid requests.")

    def notify(self, event: Event, /) -> None:
        """Count one, and write it into the current span."""
        facts = event.facts()
        trace.get_current_span().add_event(
            f"micropaywall.{event.name}", {f"micropaywall.{k}": v for k, v in facts.items()}
        )
        bounded = {"event": event.name, **{name: facts[name] for name in _BOUNDED if name in facts}}
        self._events.add(1, bounded)
        if "amount_atomic" in facts:
            self._amounts.add(int(facts["amount_atomic"]), bounded)
        if isinstance(event, Served):
            self._handler.record(event.latency_ms / 1000, {"route": event.route})
