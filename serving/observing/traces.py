"""One span for each request that asks a model, sent by OTLP over HTTP. It holds no text.

Nothing of OpenTelemetry's global state is used: other libraries of the process trace nothing by it.
"""

import threading
from typing import TYPE_CHECKING, Any

from core.errors import ServingError
from core.extras import describe_missing
from serving.feedback_schema import Rating
from serving.observing.answer_facts import AnswerFacts
from serving.observing.exchange import Exchange
from serving.observing.metrics import Metrics
from serving.observing.origin import Origin

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_NANOSECONDS = 1_000_000_000
# Spans that wait for the collector: more are dropped, and no request waits for it.
_MOST_WAITING = 2_048
_SECONDS_TO_END = 2.0
_SERVER_ERROR = 500


class Traces:
    """Sends spans to an exporter, in a thread of its own."""

    def __init__(self, exporter: "SpanExporter", metrics: Metrics) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import (
            TraceContextTextMapPropagator,
        )

        self._metrics = metrics
        self._propagator = TraceContextTextMapPropagator()
        resource = Resource({"service.name": "assay-endpoint"})
        # Not at exit: `close` does it, with a limit.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        processor = BatchSpanProcessor(exporter, max_queue_size=_MOST_WAITING)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("assay")

    def wants_texts(self) -> bool:
        """A span has none."""
        return False

    def end(self, exchange: Exchange, facts: AnswerFacts) -> None:
        """Make its span."""
        if not exchange.is_answer:
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode

        # Made once it is over: only then is it known what answered.
        began = int(exchange.began_at * _NANOSECONDS)
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.path}",
            context=self._context_of(exchange),
            kind=SpanKind.SERVER,
            attributes=self._attributes(exchange, facts),
            start_time=began,
        )
        if facts.error_code is not None or exchange.status >= _SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        span.end(began + int(exchange.seconds * _NANOSECONDS))

    def rate(self, rating: Rating, origin: Origin) -> None:
        """A rating has no span."""

    def close(self) -> None:
        """Send what waits, for a moment."""
        # The library waits half a minute and more for a collector that hangs, whatever limit it
        # is given; a daemon, because Python would wait for the thread as well.
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_SECONDS_TO_END)

    def _context_of(self, exchange: Exchange) -> Any:
        """The caller's span, where its header `traceparent` names one."""
        headers = {
            name.decode("latin-1"): content.decode("latin-1")
            for name, content in exchange.trace_headers
        }
        return self._propagator.extract(headers)

    def _attributes(self, exchange: Exchange, facts: AnswerFacts) -> dict[str, Any]:
        model, release = self._metrics.labels_of(exchange)
        # Names of OpenTelemetry's conventions where there are some.
        attributes = {
            "http.request.method": exchange.method,
            "http.route": exchange.path,
            "http.response.status_code": exchange.status,
            "gen_ai.request.model": model,
            "gen_ai.response.id": facts.id,
            "gen_ai.usage.input_tokens": facts.prompt_tokens,
            "gen_ai.usage.output_tokens": facts.completion_tokens,
            "gen_ai.response.finish_reasons": facts.finish_reason,
            "error.type": facts.error_code,
            "assay.release": release,
            "assay.fingerprint": exchange.fingerprint or None,
            "assay.fallback": exchange.fallback or None,
            "assay.first_token_seconds": exchange.first_seconds,
        }
        return {name: each for name, each in attributes.items() if each is not None}


def open_exporter(url: str) -> "SpanExporter":
    """An exporter to a collector at `http(s)://HOST:4318/v1/traces`.

    `ServingError` where the extra is not installed or the address is none.
    """
    if not url.startswith(("http://", "https://")):
        raise ServingError(
            "ASSAY_TRACES is no http(s) address. Give that of a collector of OTLP over HTTP, "
            "such as http://127.0.0.1:4318/v1/traces."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter,
        )
    except ModuleNotFoundError as error:
        raise ServingError(str(describe_missing(error))) from error
    exporter: SpanExporter = OTLPSpanExporter(endpoint=url)
    return exporter
