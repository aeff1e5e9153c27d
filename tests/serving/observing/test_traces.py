"""One span a request, with what answered and without any text."""

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_tracer_provider

from core.errors import ServingError
from serving.observing import traces
from serving.observing.figures import Source
from serving.observing.observer import Observer
from serving.observing.traces import Traces, open_exporter
from tests.support.exchanges import completed

TEXT = "Write to joe@example.com"


def test_a_request_is_one_span_of_its_callers_trace_without_any_text() -> None:
    exporter = InMemorySpanExporter()
    before = get_tracer_provider()
    observer = Observer(Source(is_released=lambda _: True))
    observer.add(Traces(exporter, observer.metrics))
    completed(observer, "m", TEXT)
    observer.close()
    (span,) = exporter.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert span.name == "POST /v1/chat/completions"
    assert attributes["assay.release"] == "3"
    assert attributes["gen_ai.request.model"] == "m"
    assert attributes["gen_ai.usage.output_tokens"] == 7
    assert span.parent is not None
    assert format(span.parent.trace_id, "032x") == "1" * 32
    assert "joe" not in span.to_json()
    # Other libraries of this process trace nothing by it.
    assert get_tracer_provider() is before


def test_an_address_that_is_none_is_refused_without_being_quoted() -> None:
    with pytest.raises(ServingError, match="ASSAY_TRACES is no http") as refused:
        open_exporter("collector:4318?key=hunter2")
    assert "hunter2" not in str(refused.value)


class Hanging(SpanExporter):
    """Takes spans, and does not come back before it is let go."""

    def __init__(self) -> None:
        self.is_free = threading.Event()
        self.has_come = threading.Event()
        self.has_left = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has_come.set()
        self.is_free.wait(60)
        self.has_left.set()
        return SpanExportResult.FAILURE


def test_a_collector_that_hangs_keeps_neither_answers_nor_the_end_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traces, "_SECONDS_TO_END", 0.05)
    exporter = Hanging()
    observer = Observer(Source(is_released=lambda _: True))
    observer.add(Traces(exporter, observer.metrics))
    completed(observer, "m", TEXT)
    observer.close()
    # It has come back from there although the collector has not.
    assert exporter.has_come.wait(60)
    assert not exporter.has_left.is_set()
    exporter.is_free.set()
