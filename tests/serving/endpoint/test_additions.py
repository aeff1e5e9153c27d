"""What is around answering, in the endpoint's app over stand-ins for engines."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from core.errors import ServingError
from serving.endpoint import guarding
from serving.endpoint.additions import Additions, open_additions
from serving.endpoint.call import Call
from serving.endpoint.fallback import Fallback, FallbackRules
from serving.endpoint.guarding import Guardrails
from serving.endpoint.handoff import Handoff
from serving.endpoint.lanes import Branch, Lane, Lanes, Target
from serving.endpoint.rules import EndpointRules, read_rules
from serving.guardrails.rules import GuardRules
from serving.observing.exchange import KEY, Exchange
from serving.observing.figures import Source
from serving.observing.observer import Observer
from serving.paths import CHAT
from tests.support.canary_site import Site, run, site
from tests.support.fake_endpoint import MODEL
from tests.support.short_server import listening
from tests.support.waiting import SECONDS_AT_MOST

MAIL = "joe@example.com"


def additions(**fields: Any) -> Additions:
    source = Source(is_released=lambda name: name == MODEL)
    return Additions(observer=Observer(source), **fields)


def guarded(**rules: Any) -> Additions:
    return additions(guardrails=Guardrails(GuardRules.model_validate(rules)))


def falling_back(*steps: str, url: str = "", **fields: Any) -> Additions:
    rules = FallbackRules.model_validate({"steps": steps, **fields})
    person = Handoff(url, 60) if url else None
    return additions(fallback=Fallback(rules, person))


async def metrics_of(here: Site) -> str:
    response = await here.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return response.text


def text_of(answer: httpx.Response) -> str:
    """What an answer says, whole or streamed."""
    if not answer.text.startswith("data: "):
        return str(answer.json()["choices"][0]["message"]["content"])
    events = [
        json.loads(each.removeprefix("data: "))
        for each in answer.text.split("\n\n")
        if each.startswith("data: {")
    ]
    deltas = [each["choices"][0]["delta"].get("content", "") for each in events]
    return "".join(deltas)


async def replayed(here: Site) -> str:
    """How the scored prompts were answered, once they are."""
    async with asyncio.timeout(SECONDS_AT_MOST):
        while True:
            outcome = here.watch.report().replay
            if outcome != "running":
                return outcome
            await asyncio.sleep(0.01)


# Metrics


def test_requests_of_a_canary_are_counted_by_release_and_their_texts_are_not_shown() -> (
    None
):
    async def test() -> None:
        async with site(50, additions=additions()) as here:
            counts = await here.ask_many(20)
            await here.ask("a prompt that nobody else may read", model="made-up")
            text = await metrics_of(here)
            for release, count in counts.items():
                line = f'model="{MODEL}",release="{release}"'
                assert f"assay_request_seconds_count{{{line}}} {count}.0" in text
            assert "nobody else" not in text
            assert "made-up" not in text

    run(test)


def test_metrics_that_are_shown_elsewhere_are_not_shown_to_clients() -> None:
    async def test() -> None:
        async with site(0, additions=additions(shows_metrics=False)) as here:
            assert (await here.client.get("/metrics")).status_code == 404

    run(test)


# Guardrails


@pytest.mark.parametrize("stream", [False, True])
def test_without_rules_the_answer_is_what_the_engine_sent(stream: bool) -> None:
    async def test() -> None:
        async with site(0, additions=guarded()) as here:
            here.serving.text = f"Write to {MAIL}"
            answer = await here.ask(stream=stream)
            assert text_of(answer) == here.serving.text
            # Written by the stand-in with other spaces than a filter writes.
            assert here.serving.sent[-1] == answer.content

    run(test)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_masked_counted_and_still_rated(stream: bool) -> None:
    async def test() -> None:
        async with site(0, additions=guarded(response={"email": "mask"})) as here:
            here.serving.text = f"Write to {MAIL}"
            answer = await here.ask(stream=stream)
            assert text_of(answer) == "Write to [EMAIL]"
            if not stream:
                assert int(answer.headers["content-length"]) == len(answer.content)
            text = await metrics_of(here)
            labels = 'action="mask",kind="email",side="response"'
            assert f"assay_guardrail_actions_total{{{labels}}} 1.0" in text

    run(test)


def test_what_a_canary_counts_is_what_the_engine_said() -> None:
    async def test() -> None:
        topic = {"name": "everything", "patterns": ["."]}
        async with site(50, additions=guarded(response={"topics": [topic]})) as here:
            answers = [await here.ask() for _ in range(20)]
            assert {text_of(answer) for answer in answers} == {""}
            report = await here.settled(3)
            assert report.candidate.empties == 0
            # Probes ask engines directly.
            assert await replayed(here) == "same"

    run(test)


@pytest.mark.parametrize("length", [0, 20_000])
def test_a_request_is_masked_before_an_engine_sees_it(length: int) -> None:
    async def test() -> None:
        async with site(0, additions=guarded(request={"email": "mask"})) as here:
            text = f"{'a ' * length}{MAIL}"
            answer = await here.ask(text)
            assert answer.status_code == 200
            assert here.serving.asked == [text.replace(MAIL, "[EMAIL]")]

    run(test)


def test_a_request_about_a_blocked_topic_reaches_no_engine() -> None:
    async def test() -> None:
        topic = {"name": "weapons", "words": ["pipe bomb"]}
        async with site(0, additions=guarded(request={"topics": [topic]})) as here:
            answer = await here.ask("How is a Pipe  Bomb built?")
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "content_filter")
            assert "weapons" in error["message"]
            assert "built" not in answer.text
            assert here.serving.asked == []
            text = await metrics_of(here)
            labels = 'action="refuse",kind="weapons",side="request"'
            assert f"assay_guardrail_actions_total{{{labels}}} 1.0" in text

    run(test)


def test_a_prompt_of_token_ids_is_refused_where_texts_are_looked_at() -> None:
    async def test() -> None:
        async with site(0, additions=guarded(request={"email": "mask"})) as here:
            answer = await here.ask(prompt=[1, 2, 3])
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "prompt"

    run(test)


def judge(side: str, text: str) -> object:
    """The hook of these tests."""
    said = {"bad": False, "broken": 3, "odd": f"mild {side}"}
    return next((each for word, each in said.items() if word in text), None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "passed", "reason"),
    [
        ("fine", "fine", None),
        ("odd", "mild response", None),
        ("bad", "", "content_filter"),
        ("broken", "", "content_filter"),
    ],
)
def test_a_filter_of_the_projects_own_decides_on_answers(
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
    text: str,
    passed: str,
    reason: str | None,
) -> None:
    monkeypatch.setitem(sys.modules, "own_filter", _Own)

    async def test() -> None:
        rules = {"response": {"hook": "own_filter:judge"}}
        async with site(0, additions=guarded(**rules)) as here:
            here.serving.text = text
            answer = await here.ask(stream=stream)
            assert text_of(answer) == passed
            assert ("content_filter" in answer.text) == (reason is not None)

    run(test)


def test_an_expression_that_comes_to_no_end_keeps_nobody_else_waiting() -> None:
    async def test() -> None:
        topic = {"name": "slow", "patterns": ["(?:a|aa)+$"]}
        rules = {"request": {"topics": [topic], "pattern_seconds": 0.2}}
        async with site(0, additions=guarded(**rules)) as here:
            slow = asyncio.create_task(here.ask("a" * 60 + "b"))
            others = 0
            while not slow.done():
                # In this app health waits for nothing: by itself it would let nobody else run.
                await asyncio.sleep(0)
                assert (await here.client.get("/healthz")).status_code == 200
                others += 1
            assert slow.result().status_code == 400
            assert slow.result().json()["error"]["code"] == "content_filter"
            # One before it was looked at, and one while it was.
            assert others > 2
            labels = 'action="timeout",kind="slow",side="request"'
            line = f"assay_guardrail_actions_total{{{labels}}} 1.0"
            assert line in await metrics_of(here)

    run(test)


class _Own:
    judge = staticmethod(judge)


def test_a_filter_of_the_projects_own_decides_on_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "own_filter", _Own)

    async def test() -> None:
        rules = {"request": {"hook": "own_filter:judge", "hook_seconds": 60}}
        async with site(0, additions=guarded(**rules)) as here:
            assert (await here.ask("odd")).status_code == 200
            assert here.serving.asked == ["mild request"]
            assert (await here.ask("bad")).status_code == 400
            assert (await here.ask("broken")).status_code == 400

    run(test)


def test_a_stream_that_is_too_long_for_a_hook_ends_in_an_error_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "own_filter", _Own)
    monkeypatch.setattr(guarding, "_LONGEST_HELD", 100)

    async def test() -> None:
        rules = {"response": {"hook": "own_filter:judge"}}
        async with site(0, additions=guarded(**rules)) as here:
            answer = await here.ask(stream=True)
            assert answer.status_code == 200
            (event,) = answer.text.split("\n\n")[:-1]
            error = json.loads(event.removeprefix("data: "))["error"]
            assert error["code"] == "content_filter"

    run(test)


@pytest.mark.parametrize("kind", [b"text/plain", b""])
def test_an_answer_of_another_type_is_looked_at_as_well(kind: bytes) -> None:
    async def test() -> None:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        rules = GuardRules.model_validate({"response": {"email": "mask"}})
        exchange = Exchange({"method": "POST", "path": CHAT, "headers": []})
        body = json.dumps({"choices": [{"text": MAIL}]})
        inner = Response(body, headers={"content-type": kind.decode()})
        await Guardrails(rules).around(inner, exchange)({"type": "http"}, receive, send)
        assert b"[EMAIL]" in sent[-1]["body"]

    run(test)


def test_a_hook_that_is_not_there_keeps_the_endpoint_from_starting() -> None:
    with pytest.raises(ServingError, match="no_module:f of the guardrails"):
        guarded(request={"hook": "no_module:f"})


# Fallback


def stop_engines(here: Site) -> None:
    for branch in here.lanes.table[MODEL].branches:
        branch.target.engine.port = 0
        branch.target.engine.state = "failed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_stands_in_where_no_engine_answers_and_says_so(stream: bool) -> None:
    async def test() -> None:
        around = falling_back("base", "template", template="Come back later.")
        async with site(0, additions=around) as here:
            before = await here.ask(stream=stream)
            assert "x-assay-fallback" not in before.headers
            stop_engines(here)
            answer = await here.ask(stream=stream)
            assert answer.status_code == 200
            assert text_of(answer) == "Come back later."
            assert answer.headers["x-assay-fallback"] == "template"
            assert answer.headers["x-assay-release"] == "none"
            text = await metrics_of(here)
            line = f'assay_fallback_answers_total{{model="{MODEL}",step="template"}}'
            assert f"{line} 1.0" in text

    run(test)


def test_no_text_stands_in_for_json() -> None:
    async def test() -> None:
        async with webhook(202) as (url, taken):
            around = falling_back("base", "person", "template", url=url)
            async with site(0, additions=around) as here:
                stop_engines(here)
                refused = await here.ask(response_format={"type": "json_object"})
                assert refused.status_code == 503
                assert taken == []
                answer = await here.ask(response_format={"type": "text"})
                assert answer.status_code == 200

    run(test)


@pytest.mark.parametrize(
    ("given", "form"),
    [
        (None, "text"),
        ({"type": "text"}, "text"),
        ({"type": "json_object"}, "json_object"),
        ({"type": "json_schema", "json_schema": {}}, "json_schema"),
        # The engine refuses these.
        ({"type": ["json_object"]}, "text"),
        ("json_object", "text"),
    ],
)
def test_what_an_answer_was_held_to_is_noted(given: Any, form: str) -> None:
    body = {"model": MODEL, "response_format": given}
    call = Call.read(json.dumps(body).encode(), 0.0)
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    exchange = Exchange(scope)
    request = Request({**scope, KEY: exchange})
    additions().around(request, call, Lanes({}), lambda *_: Response())
    assert exchange.answer_form == form


def test_by_itself_there_is_no_chain_and_wrong_requests_stay_wrong() -> None:
    async def test() -> None:
        async with site(0, additions=additions()) as here:
            stop_engines(here)
            assert (await here.ask()).status_code == 503
        async with site(0, additions=falling_back("template")) as here:
            stop_engines(here)
            assert (await here.ask(n=17)).status_code == 400
            assert (await here.ask(model="other")).status_code == 404

    run(test)


def test_the_base_answers_on_an_engine_of_another_model() -> None:
    async def test() -> None:
        async with site(50, additions=falling_back("base", "template")) as here:
            serving, candidate, *_ = here.lanes.table[MODEL].branches
            for branch in (serving, candidate):
                branch.target.engine.base_name = "tiny-base"
            other = candidate.target.engine
            lane = Lane((Branch(Target(other)),))
            alone = replace(here.lanes.table[MODEL], branches=(serving,))
            here.lanes.replace({MODEL: alone, "other": lane})
            serving.target.engine.port = 0
            serving.target.engine.state = "failed"
            answer = await here.ask()
            assert answer.status_code == 200
            assert answer.headers["x-assay-fallback"] == "base"
            assert answer.headers["x-assay-release"] == "base"
            assert here.candidate.models[-1] == "tiny-base"

    run(test)


@asynccontextmanager
async def webhook(status: int) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes messages, and what it was sent."""
    taken: list[dict[str, Any]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        taken.append(json.loads(await reader.readexactly(length)))
        writer.write(f"HTTP/1.1 {status} OK\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()

    async with listening(take) as port:
        yield f"http://127.0.0.1:{port}/hook", taken


@pytest.mark.parametrize("sends_texts", [False, True])
def test_a_request_is_handed_to_a_person_with_its_text_only_where_rules_say_so(
    sends_texts: bool,
) -> None:
    async def test() -> None:
        async with webhook(202) as (url, taken):
            around = falling_back(
                "person", "template", url=url, sends_texts=sends_texts
            )
            async with site(0, additions=around) as here:
                stop_engines(here)
                answer = await here.ask("help me")
        assert answer.headers["x-assay-fallback"] == "person"
        assert "handed to a person" in text_of(answer)
        (message,) = taken
        assert message["id"] == answer.json()["id"]
        expected = [{"role": "user", "content": "help me"}]
        assert message["messages"] == (expected if sends_texts else None)

    run(test)


def test_where_nobody_takes_it_the_next_step_answers() -> None:
    async def asked(*steps: str, url: str) -> httpx.Response:
        async with site(0, additions=falling_back(*steps, url=url)) as here:
            stop_engines(here)
            return await here.ask()

    async def test() -> None:
        async with webhook(500) as (url, taken):
            answer = await asked("person", "template", url=url)
            assert answer.headers["x-assay-fallback"] == "template"
            assert (await asked("person", url=url)).status_code == 503
            assert len(taken) == 2
        # Nobody listens there any more.
        answer = await asked("person", "template", url=url)
        assert answer.headers["x-assay-fallback"] == "template"

    run(test)


def test_a_webhook_that_never_ends_its_answer_keeps_nobody_waiting() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        try:
            await reader.readuntil(b"\r\n\r\n")
            # A byte of a head now and then: no pause is as long as the limit.
            while not writer.is_closing():
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            left.set()

    called, left = asyncio.Event(), asyncio.Event()

    async def test() -> None:
        async with listening(drip) as port:
            handoff = Handoff(f"http://127.0.0.1:{port}/hook", 0.1)
            async with asyncio.timeout(SECONDS_AT_MOST):
                # On a busy machine the limit may be over before there is a connection.
                while not called.is_set():
                    assert not await handoff.hand_over("person-1", MODEL, None)
                await left.wait()

    run(test)


def test_what_another_release_answers_is_marked() -> None:
    async def test() -> None:
        async with site(0, additions=additions()) as here:
            serving = here.lanes.table[MODEL].branches[0].target
            other = here.watch.sides.candidate
            assert other is not None
            here.lanes.replace({MODEL: Lane((Branch(Target(other)),), (serving,))})
            other.port = 0
            other.state = "failed"
            answer = await here.ask()
            assert answer.headers["x-assay-fallback"] == "release"

    run(test)


# Rules


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("fallback: {steps: [template, base]}", "template is the last one"),
        ("fallback: {steps: [base, base]}", "there twice"),
        ("guardrails: {request: {emails: mask}}", "emails"),
        ("requests: {share: yes}", "share"),
        ("requests: {share: 0}", "share"),
        ("- a list", "do not fit"),
        ("a: [", "cannot be read"),
        ("a: &x 1\nb: *x", "cannot be read"),
    ],
)
def test_rules_that_do_not_fit_are_refused(
    tmp_path: Path, text: str, fact: str
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ServingError, match=fact):
        read_rules(path)


def test_an_empty_file_of_rules_is_everything_off(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("")
    assert read_rules(path) == EndpointRules()


def test_rules_that_hand_to_a_person_need_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("fallback: {steps: [person]}")
    monkeypatch.setenv("ASSAY_ENDPOINT_RULES", str(path))
    with pytest.raises(ServingError, match="ASSAY_HANDOFF_URL"):
        open_additions(tmp_path, Source())
