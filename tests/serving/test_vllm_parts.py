"""What is asked of vLLM's server, what is believed of it, and that it ends with its owner."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from core.errors import ServingError
from pipelines.engines import GenerationRequest, NotTaken, TokenScore
from pipelines.engines.vllm import guard
from pipelines.engines.vllm.asking import Question, _read_event
from pipelines.engines.vllm.order import AdapterOrder, Address, ServerOrder
from pipelines.engines.vllm.prompt_scores import score_prompt
from tests.support.processes import children_of, state_of
from tests.support.waiting import wait_until

ENDED = {psutil.STATUS_ZOMBIE}
ADDRESS = Address(Path("/run/socket"), "secret")
QUESTION = Question("adapter", (1, 2), 4)


def order(rank: int) -> ServerOrder:
    return ServerOrder(
        python=Path("/other/python"),
        base_name="base",
        base_folder=Path("/base"),
        precision="float32",
        context_tokens=512,
        cache_bytes=1 << 30,
        rows=16,
        threads=1,
        is_on_processor=True,
        adapter=AdapterOrder("adapter", Path("/package/adapter"), rank),
    )


def test_an_adapter_has_room_for_its_rank_and_one_place_stays_empty() -> None:
    words = order(17).command(ADDRESS)
    assert words[words.index("--max-lora-rank") + 1] == "32"
    assert words[words.index("--max-loras") + 1] == "2"


def test_a_rank_that_vllm_does_not_take_is_named() -> None:
    with pytest.raises(NotTaken, match=r"rank 513, and vLLM takes 512 at most"):
        order(513).command(ADDRESS)


def test_the_server_is_told_no_setting_and_no_secret_but_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("ASSAY_LEDGER_URL", "postgresql://name:password@host/ledger")
    monkeypatch.setenv("ASSAY_OUTLIVES", "endpoint")
    told = order(8).environment(ADDRESS)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in told
    assert "VLLM_SERVER_DEV_MODE" not in told
    assert "ASSAY_LEDGER_URL" not in told
    # By this the supervisor leaves it where the endpoint alone has died.
    assert told["ASSAY_OUTLIVES"] == "endpoint"
    # Everybody on the machine may read a command line.
    assert ADDRESS.token not in order(8).command(ADDRESS)


@pytest.mark.parametrize("seed", [None, -1, 2**63 - 1, -(2**63)])
def test_every_request_has_a_seed_that_vllm_takes_for_one(seed: int | None) -> None:
    request = GenerationRequest("tuned", (1,), 4, temperature=1.0, seed=seed)
    sent = Question.of(request, "adapter", (2,)).body
    assert 0 <= sent["seed"] < 2**63


def event(model: str, logprob: float | None) -> dict[str, object]:
    scores = {"token_logprobs": [logprob], "top_logprobs": [{"token_id:7": logprob}]}
    return {"model": model, "choices": [{"token_ids": [7], "logprobs": scores}]}


def test_a_token_comes_with_its_probability() -> None:
    [token] = _read_event(event("adapter", -0.5), QUESTION)
    assert (token.id, token.logprob, token.top) == (7, -0.5, ((7, -0.5),))


def test_an_answer_by_another_model_than_the_one_asked_for_is_none() -> None:
    with pytest.raises(ServingError, match="another model"):
        _read_event(event("base", -0.5), QUESTION)


@pytest.mark.parametrize("logprob", [math.nan, math.inf, None])
def test_an_answer_without_finite_numbers_is_none(logprob: float | None) -> None:
    with pytest.raises(ServingError, match="not finite"):
        _read_event(event("adapter", logprob), QUESTION)


@pytest.mark.parametrize(
    ("logprob", "fault"),
    [(-9998.5, None), (-9999.0, "no probability"), (math.nan, "not finite")],
)
def test_a_token_that_cannot_follow_has_no_made_up_loss(
    logprob: float, fault: str | None
) -> None:
    """For a logarithm of zero vLLM writes -9999."""
    line = f"data: {json.dumps(event('adapter', logprob))}\n\n"
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=line))

    async def score() -> list[TokenScore]:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://v"
        ) as client:
            asked = replace(QUESTION, prompt=(1, 7))
            return await score_prompt(client, asked, 1, lambda _: "x")

    if fault is None:
        assert asyncio.run(score()) == [TokenScore(7, "x", logprob)]
        return
    with pytest.raises(ServingError, match=fault):
        asyncio.run(score())


def test_a_server_that_cannot_be_started_leaves_no_folder(tmp_path: Path) -> None:
    folder, python = tmp_path / "run", tmp_path / "python"
    folder.mkdir()
    # A file, and no program.
    python.touch()
    command = [sys.executable, "-I", guard.__file__, str(folder), str(python)]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert ended.returncode != 0
    # By this the engine process says why.
    assert b"PermissionError: " in ended.stderr
    assert not folder.exists()


@pytest.mark.ci
@pytest.mark.parametrize("ended", ["owner", "server", "guard"])
def test_a_server_ends_with_its_owner_and_what_it_started_ends_with_it(
    tmp_path: Path, ended: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    started = (
        "import subprocess, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)"
    )
    command = [sys.executable, "-I", guard.__file__, str(folder)]
    command += [sys.executable, "-c", started]
    # An owner that holds the other end of the guard's stdin, and can be killed.
    owning = (
        "import json, subprocess, sys\n"
        "child = subprocess.Popen(json.loads(sys.argv[1]), stdin=subprocess.PIPE)\n"
        "child.wait()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", owning, json.dumps(command)])
    try:
        # The guard, the server and what that started.
        wait_until(lambda: len(children_of(owner.pid, recursive=True)) == 3)
        processes = children_of(owner.pid, recursive=True)
        [its_guard] = children_of(owner.pid)
        [server] = children_of(its_guard.pid)
        pids = {"owner": owner.pid, "server": server.pid, "guard": its_guard.pid}
        # To a guard as Ctrl-C and `timeout` send it to a whole group.
        number = signal.SIGTERM if ended == "guard" else signal.SIGKILL
        os.kill(pids[ended], number)
        wait_until(lambda: {state_of(each.pid) for each in processes} == ENDED)
        assert not folder.exists()
    finally:
        owner.kill()
        owner.wait()
