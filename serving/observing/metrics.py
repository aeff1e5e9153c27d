"""Counts and times in Prometheus's format. Labels are names that are released, never user input."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from pipelines.engines.refusal import Refusal
from serving.feedback_schema import Rating
from serving.observing.answer_facts import AnswerFacts
from serving.observing.engine_metrics import EngineCollector
from serving.observing.exchange import ANSWERING, Exchange
from serving.observing.figures import Source
from serving.observing.origin import Origin

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
"""The label of everything that has no name of its own."""
_ROUTES = ANSWERING | {"/v1/models", "/v1/feedback", "/healthz", "/readyz", "/metrics"}
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_FIRST_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
_BY_RELEASE = ("model", "release")
# Codes of errors are this project's own; should an engine invent some, they end here.
_MOST_CODES = 50


class Metrics:
    """The endpoint's metrics, in a registry of their own."""

    def __init__(self, source: Source) -> None:
        # Not the library's global one: two endpoints of one test would share it.
        self._registry = CollectorRegistry()
        self._is_released = source.is_released
        self._codes: set[str] = set()
        self._running: set[Exchange] = set()
        self._engines = EngineCollector(source.figures)
        self._registry.register(self._engines)
        self._registry.register(_Collected(self))
        self._requests = self._counter(
            "assay_requests",
            "Requests by route and status; 499: the client left.",
            ("route", *_BY_RELEASE, "status"),
        )
        self._errors = self._counter(
            "assay_errors",
            "Answers that were or ended in an error, by its code.",
            (*_BY_RELEASE, "code"),
        )
        self._latency = self._histogram(
            "assay_request_seconds", "Until the last byte of a whole answer.", _SECONDS
        )
        self._first_token = self._histogram(
            "assay_first_token_seconds",
            "Until the first text of a stream.",
            _FIRST_SECONDS,
        )
        self._prompt_tokens = self._counter(
            "assay_prompt_tokens", "Tokens of prompts, as answers count them."
        )
        self._completion_tokens = self._counter(
            "assay_completion_tokens", "Tokens of answers, as answers count them."
        )
        self._events = self._counter(
            "assay_stream_events",
            "Events of streams that count no tokens; about one a token.",
        )
        self._finished = self._counter(
            "assay_finished", "Answers by how they ended.", (*_BY_RELEASE, "reason")
        )
        self._fallbacks = self._counter(
            "assay_fallback_answers",
            "Answers by what stood in for the release that was asked.",
            ("model", "step"),
        )
        self._guarded = self._counter(
            "assay_guardrail_actions",
            "What guardrails found.",
            ("side", "kind", "action"),
        )
        self._ratings = self._counter(
            "assay_feedback", "Ratings of answers.", (*_BY_RELEASE, "score")
        )
        self._rows = self._counter("assay_record_rows", "Rows on disk.", ("store",))
        self._dropped = self._counter(
            "assay_record_rows_dropped",
            "Rows that were not kept, and why.",
            ("store", "reason"),
        )

    def look(self) -> None:
        """Read what engines are now; called in the event loop, which changes it."""
        self._engines.look()

    def expose(self) -> bytes:
        """All of them as text; in any thread, after a look."""
        return generate_latest(self._registry)

    def begin(self, exchange: Exchange) -> None:
        """A request arrives."""
        if exchange.is_answer:
            self._running.add(exchange)

    def end(self, exchange: Exchange, facts: AnswerFacts) -> None:
        """Count a request that has ended."""
        self._running.discard(exchange)
        by_release = self.labels_of(exchange)
        route = _route_of(exchange.path)
        status = str(exchange.status)
        self._requests.labels(route, *by_release, status).inc()
        for action, count in exchange.actions.items():
            labels = action.split(".")
            self._guarded.labels(*labels).inc(count)
        if exchange.is_answer:
            self._count_answer(exchange, facts, by_release)

    def refuse(self, path: str, refusal: Refusal) -> None:
        """Count a request that was refused at the door, where nothing of it had been read."""
        nobodys = OTHER, "none"
        route = _route_of(path)
        status = str(refusal.status)
        self._requests.labels(route, *nobodys, status).inc()
        if path in ANSWERING:
            code = self._bounded(refusal.code or "error")
            self._errors.labels(*nobodys, code).inc()

    def rate(self, rating: Rating, origin: Origin) -> None:
        """Count a rating of an answer."""
        counter = self._ratings.labels(
            origin.model,
            origin.release,
            str(rating.score),
        )
        counter.inc()

    def count_rows(self, store: str, count: int) -> None:
        """Rows were written to a store."""
        counter = self._rows.labels(store)
        counter.inc(count)

    def count_dropped(self, store: str, reason: str, count: int = 1) -> None:
        """Rows were not written to a store."""
        counter = self._dropped.labels(store, reason)
        counter.inc(count)

    def labels_of(self, exchange: Exchange) -> tuple[str, str]:
        """Model and release of a request; what is not released has no name here."""
        if self._is_released(exchange.model):
            return exchange.model, exchange.release or "none"
        return OTHER, "none"

    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests that are answered now, and how many of them wait for their first text."""
        # A copy, which is made at once: in the event loop others begin and end meanwhile.
        running = self._running.copy()
        waiting = sum(exchange.is_waiting for exchange in running)
        return len(running), waiting

    def _count_answer(
        self, exchange: Exchange, facts: AnswerFacts, by_release: tuple[str, str]
    ) -> None:
        if exchange.fallback:
            self._fallbacks.labels(by_release[0], exchange.fallback).inc()
        if facts.error_code is not None:
            code = self._bounded(facts.error_code)
            self._errors.labels(*by_release, code).inc()
            return
        # What was refused or left took as long as its client let it: no time of a model.
        if exchange.status != 200:
            return
        # A stream without text is measured by its end, like any other answer.
        self._latency.labels(*by_release).observe(exchange.seconds)
        first_seconds = exchange.first_seconds
        if exchange.is_stream and first_seconds is not None:
            self._first_token.labels(*by_release).observe(first_seconds)
        reason = self._bounded(facts.finish_reason or "none")
        self._finished.labels(*by_release, reason).inc()
        prompt_tokens = facts.prompt_tokens or 0
        self._prompt_tokens.labels(*by_release).inc(prompt_tokens)
        if facts.completion_tokens is not None:
            self._completion_tokens.labels(*by_release).inc(facts.completion_tokens)
        else:
            self._events.labels(*by_release).inc(exchange.events)

    def _bounded(self, code: str) -> str:
        if code not in self._codes and len(self._codes) >= _MOST_CODES:
            return OTHER
        self._codes.add(code)
        return code

    def _counter(
        self, name: str, text: str, labels: tuple[str, ...] = _BY_RELEASE
    ) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, edges: tuple[float, ...]) -> Histogram:
        return Histogram(
            name, text, _BY_RELEASE, registry=self._registry, buckets=edges
        )


class _Collected:
    """Gauges that are read when somebody asks."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """As the registry asks."""
        registry = CollectorRegistry()
        in_flight, waiting = self._metrics.in_flight
        for name, text, count in (
            ("assay_requests_in_flight", "Requests that are answered now.", in_flight),
            ("assay_requests_waiting", "Of them, those without any text yet.", waiting),
        ):
            gauge = Gauge(name, text, registry=registry)
            gauge.set(count)
        yield from registry.collect()


def _route_of(path: str) -> str:
    # A name of a model in a path is a client's own text.
    if path.startswith("/v1/models/"):
        return "/v1/models"
    return path if path in _ROUTES else OTHER
