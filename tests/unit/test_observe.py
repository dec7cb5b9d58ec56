"""Events and their adapters: nothing secret, nothing forged, nothing disturbed."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import logging
import subprocess
import sys
import typing
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest

from micropaywall import observe
from micropaywall.observe import events, logs
from micropaywall.observe.opentelemetry import OpenTelemetryObserver
from micropaywall.observe.prometheus import CODES_MAX, PrometheusObserver
from micropaywall.observe.together import Together

ALL = [
    kind
    for _, kind in inspect.getmembers(events, inspect.isclass)
    if issubclass(kind, events.Event) and kind is not events.Event
]
SERVED = observe.Served(payment_id="pay_1", route="GET /a", status=200, amount_atomic=1000, asset="usdc", latency_ms=12)
REJECTED = observe.Rejected(payment_id="pay_1", rail="sandbox", code="insufficient_funds", detail='no\n"money"')


def example(kind: type[events.Event]) -> events.Event:
    hints = typing.get_type_hints(kind)
    return kind(
        **{f.name: 7 if hints[f.name] in (int, int | None) else f"<{f.name}>" for f in dataclasses.fields(kind)}
    )


# -- events


def test_every_event_is_public_frozen_and_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in ALL}) == len(ALL) == 15
    for kind in ALL:
        assert getattr(observe, kind.__name__) is kind
        assert kind.name == kind.__name__.lower()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(example(kind), dataclasses.fields(kind)[0].name, "x")


def test_events_hold_only_plain_facts_and_nothing_that_could_move_money() -> None:
    allowed = {
        "amount_atomic", "asset", "code", "count", "detail", "host", "latency_ms", "network", "payee", "payer", "payment_id",
        "price", "rail", "reason", "route", "status", "transaction", "what",
    }  # fmt: skip
    for kind in ALL:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            assert field.name in allowed, f"{kind.__name__}.{field.name}: is it safe to log?"
            assert hints[field.name] in (str, int, int | None)


def test_facts_leave_out_what_is_empty() -> None:
    assert observe.Refused(route="GET /a", code="offer_mismatch").facts() == {
        "route": "GET /a",
        "code": "offer_mismatch",
    }
    assert observe.Recovered(what="x", count=0).facts() == {"what": "x", "count": 0}


def test_an_observer_that_raises_disturbs_neither_the_others_nor_the_payment(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[events.Event] = []

    class Broken:
        def notify(self, event: events.Event, /) -> None:
            raise RuntimeError("metrics are down")

    class Keeping:
        def notify(self, event: events.Event, /) -> None:
            seen.append(event)

    Together(Broken(), observe.SILENT, Keeping()).notify(SERVED)
    assert seen == [SERVED]
    assert "observer Broken failed" in caplog.text


def test_the_port_loads_no_adapter_and_no_library() -> None:
    code = "import sys, micropaywall.observe; print([m for m in sys.modules if m.startswith(('prometheus', 'opentelemetry'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    logger = logging.getLogger("micropaywall")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield io.StringIO()
    logger.handlers[:] = before[2]
    logger.setLevel(before[0])
    logger.propagate = before[1]


@pytest.mark.parametrize("kind", ALL)
def test_every_event_becomes_one_line_in_both_formats(kind: type[events.Event], stream: io.StringIO) -> None:
    logs.set_up("debug", "json", stream)
    logs.LogObserver().notify(example(kind))
    (line,) = stream.getvalue().splitlines()
    parsed = json.loads(line)
    assert parsed["event"] == kind.name
    assert parsed["level"] == kind.severity
    assert {name: parsed[name] for name in example(kind).facts()} == example(kind).facts()
    logs.set_up("debug", "text", stream)
    logs.LogObserver().notify(example(kind))
    (_, line) = stream.getvalue().splitlines()
    assert f" {kind.severity} {kind.name} " in line


def test_what_a_rail_says_cannot_forge_a_line_or_a_key(stream: io.StringIO) -> None:
    logs.set_up("info", "text", stream)
    evil = "x\n2027-01-01T00:00:00.000Z info settled payment_id=pay_evil\u2028\x1b[31m"
    logs.LogObserver().notify(observe.Unknown(payment_id="pay_1", rail="sandbox", detail=evil))
    (line,) = stream.getvalue().splitlines()
    assert 'detail="x\\n2027' in line
    assert "\x1b" not in line
    logging.getLogger("micropaywall").warning("plain %s", evil)
    assert len(stream.getvalue().splitlines()) == 2


def test_a_long_detail_is_cut(stream: io.StringIO) -> None:
    for style in ("text", "json"):
        logs.set_up("info", style, stream)
        logs.LogObserver().notify(observe.Unknown(payment_id="pay_1", rail="sandbox", detail="x" * 100_000))
    assert all(len(line) < logs.VALUE_CHARS_MAX + 300 for line in stream.getvalue().splitlines())


def test_below_the_level_nothing_is_written_and_setting_up_twice_writes_once(stream: io.StringIO) -> None:
    logs.set_up("info", "text", stream)
    logs.set_up("warning", "text", stream)
    logs.LogObserver().notify(SERVED)
    logs.LogObserver().notify(REJECTED)
    assert len(stream.getvalue().splitlines()) == 1


def test_an_exception_stays_on_the_line_of_its_record(stream: io.StringIO) -> None:
    for style in ("text", "json"):
        logs.set_up("info", style, stream)
        try:
            raise ValueError("one\ntwo")
        except ValueError:
            logging.getLogger("micropaywall").exception("it failed")
    text, json_line = stream.getvalue().splitlines()
    assert "it failed" in text
    assert "ValueError: one" in text
    assert "ValueError: one\ntwo" in json.loads(json_line)["exception"]


# -- Prometheus


def test_prometheus_counts_events_amounts_and_handler_times() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for event in (SERVED, SERVED, REJECTED, *map(example, ALL)):
        observer.notify(event)
    text = generate_latest(registry).decode()
    assert 'micropaywall_events_total{code="",event="served",rail="",route="GET /a"} 2.0' in text
    assert 'micropaywall_events_total{code="insufficient_funds",event="rejected",rail="sandbox",route=""} 1.0' in text
    assert 'micropaywall_amount_atomic_total{asset="usdc",event="served"} 2000.0' in text
    assert 'micropaywall_handler_seconds_sum{route="GET /a"} 0.024' in text


def test_strangers_cannot_multiply_prometheus_series() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for number in range(CODES_MAX * 3):
        observer.notify(
            observe.Rejected(payment_id=f"pay_{number}", rail="sandbox", code=f"reason_{number}", detail=str(number))
        )
        observer.notify(
            observe.Refused(route="GET /a", code="offer_mismatch", payment_id=f"pay_{number}", payer=f"0x{number}")
        )
        observer.notify(observe.Declined(host=f"host{number}.example", code="host_denied"))
    series = [
        line for line in generate_latest(registry).decode().splitlines() if line.startswith("micropaywall_events_total")
    ]
    assert len(series) <= CODES_MAX + 3
    assert 'code="other"' in "".join(series)


# -- OpenTelemetry


def test_opentelemetry_writes_into_the_span_and_counts() -> None:
    reader = InMemoryMetricReader()
    observer = OpenTelemetryObserver(MeterProvider([reader]))
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        observer.notify(SERVED)
        observer.notify(REJECTED)
    added = {event.name: dict(event.attributes or {}) for event in span.events}  # type: ignore[attr-defined]
    assert added["micropaywall.served"]["micropaywall.payment_id"] == "pay_1"
    assert added["micropaywall.rejected"]["micropaywall.detail"] == 'no\n"money"'
    data = json.loads(reader.get_metrics_data().to_json())
    metrics = {m["name"]: m["data"]["data_points"] for m in data["resource_metrics"][0]["scope_metrics"][0]["metrics"]}
    assert {tuple(sorted(point["attributes"])) for point in metrics["micropaywall.events"]} == {
        ("asset", "event", "route"),
        ("event", "rail"),
    }
    assert metrics["micropaywall.amount_atomic"][0]["value"] == 1000
    assert metrics["micropaywall.handler.duration"][0]["sum"] == 0.012
