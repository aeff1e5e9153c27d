"""vLLM's server refuses to be understood, or ends: one sentence, and every request has its end."""

import os
import queue
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import ServingError
from pipelines.engines import Engine, Event, Failed, Finished, GenerationRequest
from pipelines.engines.engine_rows import SCORED, EngineRows
from pipelines.engines.refusal import Refusal
from pipelines.engines.vllm import engine as engine_of_vllm
from pipelines.engines.vllm.engine import ServedModels, VllmEngine
from pipelines.engines.vllm.order import AdapterOrder, ServerOrder
from pipelines.engines.vllm.server import Server
from pipelines.models.asked_rows import Generated, InMemory
from pipelines.models.chat import ChatEncoder
from tests.support.listening import Listener
from tests.support.processes import children_of
from tests.support.running_engine import Served
from tests.support.standin_vllm import FAULTS, standin_python
from tests.support.tiny import CHAT_TEMPLATE, CONTEXT_TOKENS
from tests.support.waiting import SECONDS_AT_MOST

ROWS = 8
REQUEST = GenerationRequest("tuned", (5, 6), 400)

pytestmark = pytest.mark.ci


def order(python: Path) -> ServerOrder:
    return ServerOrder(
        python=python,
        base_name="base",
        base_folder=Path("/base"),
        precision="float32",
        context_tokens=CONTEXT_TOKENS,
        cache_bytes=1 << 20,
        rows=ROWS,
        threads=1,
        is_on_processor=True,
        adapter=AdapterOrder("adapter", Path("/adapter"), 4),
    )


@pytest.fixture
def lost() -> "queue.Queue[str]":
    """What the engine said where it lost its server."""
    return queue.Queue()


@pytest.fixture
def asking(
    tmp_path: Path, served: Served, engine: Engine, lost: "queue.Queue[str]"
) -> Iterator[VllmEngine]:
    """An engine on a server that streams tokens for as long as it is listened to."""
    server = Server(order(standin_python(tmp_path)))
    server.wait_until_ready()
    models = ServedModels(
        specs=engine.specs,
        names={"tuned": "adapter", "tiny": "base"},
        encoder=ChatEncoder.load(served.base_folder, CHAT_TEMPLATE),
        context_tokens=CONTEXT_TOKENS,
    )
    made = VllmEngine(models, server, ROWS, lost.put)
    yield made
    made.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_is_not_understood_is_one_sentence(
    tmp_path: Path, fault: str
) -> None:
    server = Server(order(standin_python(tmp_path, fault)))
    try:
        with pytest.raises(ServingError) as raised:
            server.wait_until_ready()
    finally:
        server.close()
    assert str(raised.value) == FAULTS[fault]


def test_an_engine_that_loses_its_server_ends_what_it_answers_and_says_so(
    asking: VllmEngine, lost: "queue.Queue[str]"
) -> None:
    listeners = [Listener(asking, REQUEST) for _ in range(8)]
    for listener in listeners:
        listener.first()
    [server] = children_of(asking._server.pid)
    os.kill(server.pid, signal.SIGKILL)
    ends = [listener.rest()[1] for listener in listeners]
    # As one that is closed does: the endpoint gives such requests to another engine.
    assert all(isinstance(end, Finished) for end in ends)
    assert {end.reason for end in ends if isinstance(end, Finished)} == {"cancelled"}
    assert lost.get(timeout=SECONDS_AT_MOST) == "vLLM's server ended with code 137"
    assert not asking.is_ready
    with pytest.raises(Refusal):
        Listener(asking, REQUEST)
    assert lost.empty()


def test_json_that_a_server_does_not_hold_to_its_schema_is_no_answer(
    asking: VllmEngine,
) -> None:
    form = asking.json_form('{"type": "object"}')
    text, end = Listener(asking, replace(REQUEST, form=form)).rest()
    assert text == ""
    assert isinstance(end, Failed)
    assert end.param == "response_format"


def test_what_vllm_does_not_hold_to_json_is_refused(
    asking: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = asking.json_form("{}")
    with pytest.raises(Refusal, match="leave logprobs or response_format out"):
        Listener(asking, replace(REQUEST, form=form, top_logprobs=0))
    monkeypatch.setattr(engine_of_vllm, "_MOST_SECONDS_TO_COMPILE", 0.0)
    with pytest.raises(Refusal, match="compiles it for each answer"):
        asking.json_form('{"type": "integer"}')


def test_as_many_rows_are_scored_at_once_as_the_engine_takes(
    asking: VllmEngine,
) -> None:
    """A row that ends leaves its place to the next one before anybody hears of its end."""
    asking._names = {SCORED: "adapter"}
    at_once = ROWS + engine_of_vllm.QUEUE_LENGTH
    by_vllm = EngineRows("vllm", "0.0.0", asking, at_once)
    answers: InMemory[Generated] = InMemory()
    prompts = [(5, 6)] * (3 * at_once)
    by_vllm.answer_into(
        answers,
        prompts,
        max_new_tokens=2,
        sampling=None,
        advance=lambda _: None,
    )
    assert {len(answer.ids) for answer in answers.in_order(len(prompts))} == {2}


def test_an_engine_that_is_closed_lost_nothing(
    asking: VllmEngine, lost: "queue.Queue[str]"
) -> None:
    asking.close()
    assert not asking._server.is_running
    assert lost.empty()


@dataclass(frozen=True)
class Held(GenerationRequest):
    """A request that is looked at while an engine takes it, and goes on when it may."""

    reached: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def __getattribute__(self, name: str) -> Any:
        # Of an answer that is made for a request, behind the look whether its engine is ready.
        if name == "stop":
            self.reached.set()
            self.may_go_on.wait(SECONDS_AT_MOST)
        return super().__getattribute__(name)


def test_a_request_in_the_instant_of_closing_is_refused_or_has_its_end(
    asking: VllmEngine,
) -> None:
    held = Held("tuned", (5, 6), 400)
    is_submitted = threading.Event()
    events: queue.Queue[Event] = queue.Queue()
    refusals: list[Refusal] = []

    def submit() -> None:
        try:
            asking.submit(held, events.put)
        except Refusal as refused:
            refusals.append(refused)
        is_submitted.set()

    def hold_closing(event: Event) -> None:
        if isinstance(event, Finished):
            held.may_go_on.set()
            is_submitted.wait(SECONDS_AT_MOST)

    asking.submit(REQUEST, hold_closing)
    submitting = threading.Thread(target=submit)
    submitting.start()
    assert held.reached.wait(SECONDS_AT_MOST)
    asking.close()
    submitting.join(SECONDS_AT_MOST)
    ends = [each for each in tuple(events.queue) if isinstance(each, Finished | Failed)]
    assert len(ends) + len(refusals) == 1
