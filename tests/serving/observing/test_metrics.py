"""What `/metrics` prints of requests: by released names alone, and nothing of their texts."""

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Scope

from core.errors import ServingError
from pipelines.engines.refusal import Refusal
from serving.feedback_schema import Rating
from serving.observing.exchange import Exchange
from serving.observing.figures import EngineFigures, Figures, Share, Source
from serving.observing.metrics import Metrics
from serving.observing.metrics_route import MetricsServer
from serving.observing.observer import Observer
from serving.observing.origin import Origin

CHAT = "/v1/chat/completions"
RELEASE = {"model": "m", "release": "3"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def scope(path: str = CHAT, method: str = "POST") -> Scope:
    return {"type": "http", "method": method, "path": path, "headers": []}


def observer(figures: Figures | None = None) -> Observer:
    return Observer(Source(lambda: figures or Figures(), lambda name: name == "m"))


def answer(
    exchange: Exchange, body: bytes, *, status: int = 200, kind: str = "json"
) -> None:
    """What a released version sends."""
    headers = [
        (b"content-type", f"{kind}".encode()),
        (b"x-assay-release", b"3"),
    ]
    exchange.take({"type": "http.response.start", "status": status, "headers": headers})
    exchange.take({"type": "http.response.body", "body": body})


def completion(**fields: object) -> bytes:
    choice = {"message": {"content": "a secret text"}, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice], **fields}).encode()


def exposed(metrics: Metrics) -> str:
    return metrics.expose().decode()


def count(text: str, sample: str, **labels: str) -> float:
    """The sum of all samples of that name whose labels are these, and perhaps others."""
    found = [
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    return sum(found)


def watched(
    name: str, body: bytes, *, status: int = 200, kind: str = "application/json"
) -> str:
    """What is printed after one request."""
    seen = observer()
    exchange = seen.begin(scope())
    exchange.model = name
    answer(exchange, body, status=status, kind=kind)
    seen.end(exchange)
    return exposed(seen.metrics)


def test_an_answer_is_counted_with_its_tokens_by_model_and_release() -> None:
    text = watched("m", completion(usage=USAGE))
    assert count(text, "assay_requests_total", route=CHAT, status="200", **RELEASE) == 1
    assert count(text, "assay_prompt_tokens_total", **RELEASE) == 5
    assert count(text, "assay_completion_tokens_total", **RELEASE) == 7
    assert count(text, "assay_request_seconds_count", **RELEASE) == 1
    assert count(text, "assay_finished_total", reason="stop", **RELEASE) == 1
    assert count(text, "assay_requests_in_flight") == 0


def test_no_text_and_no_name_that_a_client_made_up_is_printed() -> None:
    for name in ("m", "made-up-name", "a" * 100):
        text = watched(name, completion())
        assert "a secret text" not in text
        assert "made-up-name" not in text
        assert "aaaa" not in text


def test_what_is_not_released_and_routes_that_are_not_there_share_a_label() -> None:
    seen = observer()
    for path in ("/v1/models/x", "/v1/models/y", "/admin.php", "/x", CHAT):
        exchange = seen.begin(scope(path, "GET"))
        exchange.model = path
        answer(exchange, b"", status=404)
        seen.end(exchange)
    text = exposed(seen.metrics)
    unnamed = {"model": "other", "release": "none"}
    assert count(text, "assay_requests_total", **unnamed) == 5
    assert count(text, "assay_requests_total", route="/v1/models", **unnamed) == 2
    assert count(text, "assay_requests_total", route="other", **unnamed) == 2


def test_an_error_is_counted_by_its_code_also_at_the_end_of_a_stream() -> None:
    error = {"error": {"message": "no", "code": "engine_lost"}}
    whole = watched("m", json.dumps(error).encode(), status=503)
    stream = f'data: {{"choices": []}}\n\ndata: {json.dumps(error)}\n\n'
    streamed = watched("m", stream.encode(), kind="text/event-stream")
    for text in (whole, streamed):
        assert count(text, "assay_errors_total", code="engine_lost", **RELEASE) == 1


def test_codes_of_errors_are_bounded() -> None:
    seen = observer()
    for number in range(200):
        exchange = seen.begin(scope())
        error = {"error": {"code": f"made_up_{number}"}}
        answer(exchange, json.dumps(error).encode(), status=500)
        seen.end(exchange)
    text = exposed(seen.metrics)
    assert text.count("assay_errors_total{") == 51
    assert count(text, "assay_errors_total", code="other") == 150


def test_a_stream_is_timed_to_its_first_text_and_its_events_are_counted() -> None:
    choice = {"delta": {"content": "ha"}, "finish_reason": "length"}
    stream = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"
    text = watched("m", stream.encode(), kind="text/event-stream; charset=utf-8")
    assert count(text, "assay_first_token_seconds_count", **RELEASE) == 1
    assert count(text, "assay_stream_events_total", **RELEASE) == 2
    assert count(text, "assay_finished_total", reason="length", **RELEASE) == 1


def test_a_request_that_waits_is_seen_and_one_whose_client_left_is_counted() -> None:
    seen = observer()
    exchange = seen.begin(scope())
    text = exposed(seen.metrics)
    assert count(text, "assay_requests_in_flight") == 1
    assert count(text, "assay_requests_waiting") == 1
    seen.end(exchange)
    text = exposed(seen.metrics)
    assert count(text, "assay_requests_in_flight") == 0
    assert count(text, "assay_requests_total", status="499") == 1


def test_a_long_stream_keeps_its_end_and_little_memory() -> None:
    exchange = Exchange(scope())
    headers = [(b"content-type", b"text/event-stream")]
    exchange.take({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(1_000):
        body = b"data: " + b"x" * 1_000 + b"\n\n"
        exchange.take({"type": "http.response.body", "body": body, "more_body": True})
    assert len(exchange.response) < 20_000
    assert exchange.events == 1_000


def test_engines_shares_and_processes_are_read_when_somebody_asks() -> None:
    engine = EngineFigures(
        "m", "3", "release", True, False, requests=2, ends=1, pid=0, engine="openvino"
    )
    figures = Figures(
        engines=(engine, replace(engine, engine="transformers")),
        shares=(Share("m", "3", 90.0), Share("m", "4", 10.0)),
        generation=12,
        alarms=1,
    )
    text = exposed(observer(figures).metrics)
    # Two engines of one version are one series.
    labels = {**RELEASE, "role": "release"}
    assert count(text, "assay_engine_ready", **labels) == 2
    assert count(text, "assay_engine_requests", **labels) == 4
    assert count(text, "assay_engine_restarts_total", **labels) == 2
    assert text.count("assay_engine_ready{") == 1
    assert count(text, "assay_engine_computes", **labels, engine="openvino") == 1
    assert count(text, "assay_share_percent", release="4") == 10
    assert count(text, "assay_ledger_generation") == 12
    assert count(text, "assay_alarms") == 1
    assert count(text, "assay_process_resident_bytes", process="endpoint") > 1_000_000


def test_two_observers_share_nothing() -> None:
    one, other = observer(), observer()
    rating = Rating(id="x", score=-1)
    one.rate(rating, Origin("m", "3", "f"))
    counts = [
        count(exposed(each.metrics), "assay_feedback_total", score="-1", **RELEASE)
        for each in (one, other)
    ]
    assert counts == [1, 0]


def test_a_sink_that_fails_stops_neither_answers_nor_other_sinks() -> None:
    class Broken:
        def wants_texts(self) -> bool:
            return False

        def end(self, *_: object) -> None:
            raise ValueError("a secret text")

        def rate(self, *_: object) -> None:
            return

        def close(self) -> None:
            return

    seen = observer()
    seen.add(Broken())
    exchange = seen.begin(scope())
    exchange.model = "m"
    answer(exchange, completion())
    seen.end(exchange)
    text = exposed(seen.metrics)
    assert count(text, "assay_requests_total", status="200", **RELEASE) == 1


def test_requests_may_begin_and_engines_come_while_somebody_reads() -> None:
    class Interrupted(Exchange):
        """One that is asked while another request begins."""

        @property
        def is_waiting(self) -> bool:
            seen.begin(scope())
            return super().is_waiting

    seen = observer()
    for _ in range(3):
        seen.metrics.begin(Interrupted(scope()))
    assert count(exposed(seen.metrics), "assay_requests_in_flight") == 3


def test_engines_are_read_by_a_look_and_not_by_whoever_collects() -> None:
    generations = iter([7])
    metrics = Metrics(Source(lambda: Figures(generation=next(generations))))
    metrics.look()
    assert count(exposed(metrics), "assay_ledger_generation") == 7


def test_who_is_refused_at_the_door_is_counted_without_any_name() -> None:
    metrics = observer().metrics
    for status, code in ((401, "invalid_api_key"), (429, "rate_limit_exceeded")):
        refusal = Refusal("no", status=status, code=code)
        for path in (CHAT, "/v1/models/somebodys-name", "/made/up"):
            metrics.refuse(path, refusal)
        text = exposed(metrics)
        labels = {"status": str(status), "model": "other", "release": "none"}
        for route in (CHAT, "/v1/models", "other"):
            assert count(text, "assay_requests_total", route=route, **labels) == 1
        assert count(text, "assay_errors_total", code=code) == 1


@pytest.mark.parametrize(
    "address", ["127.0.0.1", ":9464", "127.0.0.1:65536", "127.0.0.1:٣٠", "127.0.0.1:-1"]
)
def test_an_address_without_a_port_is_said_with_the_settings_name(address: str) -> None:
    with pytest.raises(ServingError, match="ASSAY_METRICS_ADDRESS"):
        MetricsServer(Metrics(Source()), address)
