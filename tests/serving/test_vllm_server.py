"""vLLM's server refuses to be understood, or ends: one sentence, and every request has its end."""

import os
import queue
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import ServingError
from pipelines.models.chat import ChatEncoder
from serving.engines import Engine, Failed, Finished, GenerationRequest
from serving.engines.vllm import engine as engine_of_vllm
from serving.engines.vllm.engine import ServedModels, VllmEngine
from serving.engines.vllm.order import AdapterOrder, ServerOrder
from serving.engines.vllm.server import Server
from serving.refusal import Refusal
from tests.support.listening import Listener
from tests.support.processes import children_of
from tests.support.running_engine import Served
from tests.support.standin_vllm import FAULTS, standin_python
from tests.support.tiny import CHAT_TEMPLATE, CONTEXT_TOKENS
from tests.support.waiting import SECONDS_AT_MOST, wait_until

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


def test_an_engine_that_is_closed_lost_nothing(
    asking: VllmEngine, lost: "queue.Queue[str]"
) -> None:
    asking.close()
    assert not asking._server.is_running
    assert lost.empty()


def test_every_request_that_is_taken_while_an_engine_closes_has_one_end(
    asking: VllmEngine,
) -> None:
    taken: list[Listener] = []

    def ask_on() -> None:
        while True:
            try:
                taken.append(Listener(asking, replace(REQUEST, max_tokens=2)))
            except Refusal as refused:
                # Others are let in once some are over.
                if refused.code != "overloaded":
                    return

    threads = [threading.Thread(target=ask_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(taken) > ROWS)
    asking.close()
    for thread in threads:
        thread.join(SECONDS_AT_MOST)
    for listener in taken:
        listener.rest()
        assert listener.events.empty()
