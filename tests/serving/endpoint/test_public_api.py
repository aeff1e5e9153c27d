"""The endpoint as its clients see it: prompts, keys, kept answers, other origins, TLS, overload."""

import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serving.endpoint.api_keys import create_key, revoke_key
from tests.support.certificates import write_certificate
from tests.support.endpoint_system import MODEL, QUESTION, Home, Running, endpoint
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.ci

BASE = "tiny"
ORIGIN = "https://chat.example"


@pytest.fixture(scope="module")
def running(shared: Home) -> Iterator[Running]:
    """An endpoint with version 1, which keeps answers; no test makes a key or a release."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ASSAY_ANSWER_CACHE_MB", "8")
        environment.setenv("ASSAY_ALLOWED_ORIGINS", ORIGIN)
        with endpoint(shared) as running:
            shared.release("1")
            yield running


def complete(running: Running, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": "list files", "max_tokens": 6, **fields}
    return httpx.post(
        f"{running.url}/v1/completions", json=body, timeout=SECONDS_AT_MOST
    )


def test_texts_go_on_under_both_names_and_say_what_answered(
    running: Running, shared: Home
) -> None:
    tuned, base = complete(running), complete(running, model=BASE)
    assert tuned.headers["x-assay-release"] == "1"
    assert base.headers["x-assay-release"] == "base"
    for response in (tuned, base):
        said = response.json()
        assert said["object"] == "text_completion"
        assert said["system_fingerprint"] == response.headers["x-assay-fingerprint"]
    assert tuned.json()["system_fingerprint"] == shared.specs["1"].fingerprint
    assert tuned.json()["choices"][0]["text"] != base.json()["choices"][0]["text"]
    assert tuned.headers["x-assay-prompt-tokens"] == str(len("list files"))


def test_a_prompt_is_scored_and_streamed_through_the_endpoint(
    running: Running,
) -> None:
    fields: dict[str, Any] = {"echo": True, "logprobs": 2, "model": MODEL}
    whole = running.client.completions.create(
        prompt="list files", max_tokens=6, **fields
    ).choices[0]
    assert whole.logprobs is not None
    assert len(whole.logprobs.token_logprobs or ()) == len("list files") + 6
    stream = running.client.completions.create(
        prompt="list files", max_tokens=6, stream=True, **fields
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.text


def test_what_a_prompt_may_not_hold_is_said_by_the_engine(running: Running) -> None:
    refused = complete(running, prompt=[10**6])
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "prompt"
    assert complete(running, prompt=None).json()["error"]["param"] == "prompt"


def test_several_answers_come_through_the_endpoint(running: Running) -> None:
    answer = running.client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        n=3,
        temperature=1.2,
        max_tokens=6,
        logprobs=True,
        top_logprobs=2,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.logprobs for choice in answer.choices)


def test_a_request_that_is_repeated_is_answered_from_memory_and_says_so(
    running: Running,
) -> None:
    first, second = (running.ask(seed=91, temperature=0.8) for _ in range(2))
    assert [each.headers["x-assay-cache"] for each in (first, second)] == [
        "miss",
        "hit",
    ]
    told, again = first.json(), second.json()
    assert told.pop("id") != again.pop("id")
    told.pop("created"), again.pop("created")
    assert told == again
    for name in ("x-assay-release", "x-assay-fingerprint", "content-type"):
        assert first.headers[name] == second.headers[name]
    # It can be rated, as every answer.
    rating = {"id": second.json()["id"], "score": 1}
    rated = httpx.post(f"{running.url}/v1/feedback", json=rating)
    assert rated.status_code == 200
    for fields in ({"temperature": 0.8}, {"seed": 91, "stream": True}):
        assert "x-assay-cache" not in running.ask(**fields).headers
    # The base has the same words to answer, and answers by itself.
    other = running.ask(model=BASE, seed=91, temperature=0.8)
    assert other.headers["x-assay-cache"] == "miss"


def test_json_comes_through_the_endpoint_and_is_kept_for_its_own_schema(
    running: Running,
) -> None:
    def ask(*names: str) -> httpx.Response:
        properties = {name: {"type": "boolean"} for name in names}
        schema = {"type": "object", "properties": properties, "required": names}
        closed = {**schema, "additionalProperties": False}
        described = {"name": "switches", "schema": closed, "strict": True}
        form = {"type": "json_schema", "json_schema": described}
        return running.ask(max_tokens=200, response_format=form)

    answers = [ask("a", "b"), ask("b", "a"), ask("a", "b")]
    kept = [each.headers["x-assay-cache"] for each in answers]
    assert kept == ["miss", "miss", "hit"]
    texts = [each.json()["choices"][0]["message"]["content"] for each in answers]
    assert [list(json.loads(text)) for text in texts] == [
        ["a", "b"],
        ["b", "a"],
        ["a", "b"],
    ]
    refused = running.ask(response_format={"type": "grammar"})
    assert refused.json()["error"]["param"] == "response_format"


def test_what_is_refused_is_not_kept(running: Running) -> None:
    for _ in range(2):
        refused = running.ask(max_tokens=0)
        assert refused.status_code == 400
        # Neither given from memory nor kept there.
        assert "x-assay-cache" not in refused.headers


def test_a_page_of_an_allowed_origin_may_ask_and_another_may_not(
    running: Running,
) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    url = f"{running.url}/v1/chat/completions"
    for origin, allowed in ((ORIGIN, True), ("https://evil.example", False)):
        headers = {**asked, "origin": origin}
        answer = httpx.options(url, headers=headers, timeout=SECONDS_AT_MOST)
        assert (answer.status_code == 200) is allowed
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
    shown = httpx.get(f"{running.url}/v1/models", headers={"origin": ORIGIN})
    assert "x-assay-release" in shown.headers["access-control-expose-headers"]


def test_the_document_lists_every_route_with_its_statuses(running: Running) -> None:
    document = httpx.get(f"{running.url}/openapi.json").json()
    unknown = httpx.get(f"{running.url}/nowhere").json()["error"]["message"]
    served = unknown.partition("There are ")[2].rstrip(".").split(", ")
    assert sorted([*document["paths"], "/openapi.json"]) == sorted(set(served))
    for path in document["paths"].values():
        for operation in path.values():
            assert {"200", "400", "421", "503"} <= set(operation["responses"])


def test_more_requests_than_an_engine_holds_are_told_when_to_come_again(
    running: Running,
) -> None:
    """Nothing is lost: each one is answered, or refused with the time to try again."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(running.ask(temperature=1.0, max_tokens=60))

    threads = [threading.Thread(target=ask) for _ in range(90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_AT_MOST)
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 503}
    assert sum(statuses.values()) == len(threads)
    assert statuses[200] >= 32
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "overloaded"
    assert running.ask().status_code == 200


def test_clients_that_are_slow_or_vanish_hinder_nobody(running: Running) -> None:
    """Slow heads, slow bodies, readers that do not read, and clients that leave."""
    host, _, port = running.url.removeprefix("http://").partition(":")
    body = json.dumps({"model": MODEL, "messages": QUESTION, "stream": True}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    quiet = _slowest_of(running, 10)
    with ExitStack() as stack:
        for sent in (head[:40], head + body[:10], head + body):
            for _ in range(60):
                client = socket.create_connection((host, int(port)), SECONDS_AT_MOST)
                stack.enter_context(client)
                client.sendall(sent)
        for _ in range(60):
            with socket.create_connection((host, int(port)), SECONDS_AT_MOST) as client:
                client.sendall(head + body)
        # A loose bound: the machine has other work. Without limits this would take minutes.
        assert _slowest_of(running, 10) < max(20.0, 20 * quiet)


def _slowest_of(running: Running, count: int) -> float:
    """Seconds of the slowest of some requests, which are tried again where told to."""
    seconds = []
    for _ in range(count):
        began = time.monotonic()
        while running.ask(max_tokens=4, temperature=1.0).status_code == 503:
            time.sleep(0.2)
        seconds.append(time.monotonic() - began)
    return max(seconds)


def test_an_answer_is_kept_for_one_release_and_one_tenant_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_ANSWER_CACHE_MB", "8")
    with endpoint(home) as running:
        home.release("1")
        running.ask()
        assert running.ask().headers["x-assay-cache"] == "hit"
        home.release("2")
        fresh = running.ask()
        assert fresh.headers["x-assay-release"] == "2"
        assert fresh.headers["x-assay-cache"] == "miss"
        ann, ben = (create_key(home.path, name) for name in ("ann", "ben"))
        assert running.ask().status_code == 401
        assert _ask_with(running, ann.text).headers["x-assay-cache"] == "miss"
        assert _ask_with(running, ben.text).headers["x-assay-cache"] == "miss"
        assert _ask_with(running, ann.text).headers["x-assay-cache"] == "hit"
        revoke_key(home.path, ann.key.id)
        assert _ask_with(running, ann.text).status_code == 401
        # What the endpoint asks itself, as before a release, needs no key.
        home.release("3")
        assert _ask_with(running, ben.text).headers["x-assay-release"] == "3"
        with pytest.raises(openai.AuthenticationError):
            running.client.models.list()


def _ask_with(running: Running, key: str) -> httpx.Response:
    return httpx.post(
        f"{running.url}/v1/chat/completions",
        json={"model": MODEL, "messages": QUESTION, "max_tokens": 8},
        headers={"authorization": f"Bearer {key}"},
        timeout=SECONDS_AT_MOST,
    )


def test_streams_count_against_the_tokens_of_a_day(home: Home) -> None:
    key = create_key(home.path, "ann", tokens_per_day=60)
    with endpoint(home) as running:
        home.release("1")
        client = running.client.with_options(api_key=key.text)

        def stream() -> int:
            chunks = client.chat.completions.create(
                model=MODEL, messages=QUESTION, max_tokens=8, stream=True
            )
            return sum(1 for _ in chunks)

        # Each takes a prompt of 39 tokens and the tokens of its answer.
        assert stream() > 4
        assert stream() > 4

        waits: list[int] = []

        def is_refused() -> bool:
            try:
                stream()
            except openai.RateLimitError as error:
                waits.append(int(error.response.headers["retry-after"]))
            return bool(waits)

        # A stream is charged once its client has read the end of it.
        wait_until(is_refused)
        assert waits[-1] > 3600


def test_over_tls_clients_are_answered_as_without(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_certificate(tmp_path / "tls")
    monkeypatch.setenv("ASSAY_TLS_CERTIFICATE", str(certificate))
    monkeypatch.setenv("ASSAY_TLS_KEY", str(key))
    trust = ssl.create_default_context(cafile=str(certificate))
    with endpoint(home) as running:
        assert running.url.startswith("https://127.0.0.1:")
        home.release("1")
        body = {"model": MODEL, "messages": QUESTION, "max_tokens": 8, "stream": True}
        streamed = httpx.post(
            f"{running.url}/v1/chat/completions",
            json=body,
            verify=trust,
            timeout=SECONDS_AT_MOST,
        )
        assert streamed.text.count("data: {") > 4
        assert streamed.text.endswith("data: [DONE]\n\n")
        with pytest.raises(httpx.HTTPError):
            httpx.get(running.url.replace("https", "http"), timeout=SECONDS_AT_MOST)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.url}/healthz", timeout=SECONDS_AT_MOST)
