"""One span a request, with what answered and without any text."""

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_tracer_provider

from core.errors import ServingError
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
