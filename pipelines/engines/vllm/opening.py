"""vLLM's server for a loaded model, trusted only where it computes what the model computes."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch

from core.errors import ServingError
from core.log import say
from core.settings import Settings
from pipelines.engines import VLLM, NotTaken
from pipelines.engines.adapter_switch import AdapterSwitch
from pipelines.engines.slot_model import Trial, are_alike
from pipelines.engines.transformers import has_adapter
from pipelines.engines.vllm.asking import Question, ask, open_client
from pipelines.engines.vllm.engine import ServedModels, VllmEngine, WhenLost
from pipelines.engines.vllm.order import MOST_LOGPROBS, AdapterOrder, ServerOrder
from pipelines.engines.vllm.server import Server
from pipelines.models.language_model import LanguageModel
from pipelines.values.serving_spec import ServingSpec

# On a processor a longer step would make each answer slower than a person reads.
_ROWS_ON_A_PROCESSOR, _ROWS = 16, 128
# Keys and values of all answers; one alone always fits.
_CACHE_BYTES = 1 << 30
# Of what one answer needs: the cache is cut into blocks.
_SPARE_SHARE = 1.25
_SHORT, _LONG = 35, 75
# Of each answer that is compared: so long they stream beside each other.
_TOKENS = 8
_ROUNDS = 2


@dataclass(frozen=True)
class Weights:
    """Where the files lie that vLLM reads, and what their digests are."""

    base_folder: Path
    base_digest: str
    # The adapter as peft saved it; None for a base alone and for a prompt.
    adapter_folder: Path | None


@dataclass(frozen=True)
class Expected:
    """What the model itself computed: probabilities of the token behind a row, by name.

    As logarithms, of shape (vocabulary,).
    """

    name: str
    row: tuple[int, ...]
    logarithms: torch.Tensor


@dataclass(frozen=True)
class Plan:
    """A server that may be started, and what it must compute then."""

    order: ServerOrder
    names: Mapping[str, str]
    expected: tuple[Expected, ...]


def plan_vllm(
    language: LanguageModel, specs: Mapping[str, ServingSpec], weights: Weights
) -> Plan:
    """What to start for a loaded model; `NotTaken` where vLLM cannot serve it, with the reason."""
    # It reads the base's own files, which hold other numbers.
    if language.precision == "int8":
        raise NotTaken("it cannot be given weights that Assay rounded to int8")
    python = _find_python()
    is_adapted = has_adapter(language, specs)
    adapter = None
    names = {}
    for model, spec in specs.items():
        names[model] = weights.base_digest
        if spec.adapter_sha256 is not None and is_adapted:
            adapter = _adapter_order(spec.adapter_sha256, weights.adapter_folder)
            names[model] = adapter.name
    expected, bytes_per_token = _compute_expected(language, names, weights.base_digest)
    longest = int(language.context_tokens * bytes_per_token * _SPARE_SHARE)
    is_on_processor = language.device == "cpu"
    order = ServerOrder(
        python=python,
        base_name=weights.base_digest,
        base_folder=weights.base_folder.resolve(),
        precision=language.precision,
        context_tokens=language.context_tokens,
        cache_bytes=max(_CACHE_BYTES, longest),
        rows=_ROWS_ON_A_PROCESSOR if is_on_processor else _ROWS,
        threads=torch.get_num_threads(),
        is_on_processor=is_on_processor,
        adapter=adapter,
    )
    return Plan(order, names, expected)


def open_vllm(
    plan: Plan,
    language: LanguageModel,
    specs: Mapping[str, ServingSpec],
    when_lost: WhenLost = say,
) -> VllmEngine:
    """Start the server, and compare what it computes; the loaded model loses its weights before.

    `when_lost` is called with a sentence where the server ends while it serves. `ServingError`
    where it does not start or computes something else.
    """
    # Two copies of the weights would not fit where one does.
    language.model.to("meta")
    server = Server(plan.order)
    try:
        version = server.wait_until_ready()
        asyncio.run(_check(server, plan.expected, language.precision))
    # BaseException: whatever ends this leaves no server.
    except BaseException:
        server.close()
        raise
    own_specs = {name: spec.in_engine(VLLM, version) for name, spec in specs.items()}
    models = ServedModels(
        specs=own_specs,
        names=plan.names,
        encoder=language.encoder,
        context_tokens=language.context_tokens,
    )
    return VllmEngine(models, server, plan.order.rows, when_lost)


def _find_python() -> Path:
    python = Settings().vllm_python
    if python is None:
        raise NotTaken("ASSAY_VLLM_PYTHON does not name a Python that has vLLM")
    # Not resolved: the link in an environment is what tells Python which one it is.
    python = python.absolute()
    if not python.is_file():
        raise NotTaken(f"ASSAY_VLLM_PYTHON names {python}, and there is no such file")
    return python


def _adapter_order(sha256: str, folder: Path | None) -> AdapterOrder:
    if folder is None:
        raise NotTaken("its adapter has no folder")
    text = (folder / "adapter_config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    ranks = [int(config["r"])]
    of_layers = config.get("rank_pattern") or {}
    ranks += of_layers.values()
    order = AdapterOrder(sha256, folder.resolve(), max(ranks))
    # Asked now: a rank that is too large is found before the weights are given back.
    _ = order.words
    return order


def _compute_expected(
    language: LanguageModel, names: Mapping[str, str], base_name: str
) -> tuple[tuple[Expected, ...], int]:
    """What each model computes behind two rows, and the bytes of keys and values of a token."""
    room = language.context_tokens - _TOKENS
    long = min(_LONG, room)
    trial = Trial.of(language, short=min(_SHORT, long - 1), long=long)
    rows = (tuple(trial.row[: trial.short]), tuple(trial.row))
    different = dict.fromkeys(names.values())
    switch = AdapterSwitch(language.model, has_adapter=len(different) > 1)
    expected = []
    per_token = 0
    try:
        with torch.inference_mode():
            for name in different:
                switch.turn(on=name != base_name)
                logits, shapes = trial.compute_alone(language)
                per_token = sum(head.bytes for pair in shapes for head in pair)
                both = logits.log_softmax(-1).cpu()
                for row, logarithms in zip(rows, both, strict=True):
                    expected.append(Expected(name, row, logarithms))
    # A cache of another kind than keys and values of every token.
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise NotTaken(f"its forward gives no keys and values ({kind})") from error
    finally:
        switch.turn(on=True)
    return tuple(expected), per_token


async def _check(
    server: Server, expected: tuple[Expected, ...], precision: str
) -> None:
    """Return only if every row has the probabilities that it should, all asked at once.

    Twice, since the second time what a row begins with is in the server's cache.
    """
    dtype = getattr(torch, precision)
    async with open_client(server.address) as client:
        for _ in range(_ROUNDS):
            asking = [_compare(server, client, each, dtype) for each in expected]
            await asyncio.gather(*asking)


async def _compare(
    server: Server, client: httpx.AsyncClient, expected: Expected, dtype: torch.dtype
) -> None:
    count = min(MOST_LOGPROBS, len(expected.logarithms))
    question = Question(expected.name, expected.row, _TOKENS, top_logprobs=count)
    try:
        async with aclosing(ask(client, question)) as tokens:
            answer = [token async for token in tokens]
    except (httpx.HTTPError, ServingError) as error:
        kind = type(error).__name__
        raise ServingError(
            server.fault or f"its server did not give a first answer ({kind})"
        ) from error
    if not answer:
        raise ServingError("its server gave an empty answer")
    top = answer[0].top
    ids = [number for number, _ in top]
    computed = torch.tensor([logarithm for _, logarithm in top])
    if not are_alike(computed, expected.logarithms[ids], dtype):
        raise ServingError("it computes other probabilities than the model itself")
