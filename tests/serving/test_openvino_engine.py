"""OpenVINO gives the answers that were scored, or it is not used and says why."""

import json
import random
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.files import write_text
from pipelines.engines import OPENVINO, Engine, Failed, GenerationRequest, NotTaken
from pipelines.engines.openvino.graph import compile_recorded
from pipelines.engines.openvino.opening import check_rows, open_openvino
from pipelines.engines.openvino.paged import BlockShape, PagedSlots, open_paged
from pipelines.engines.openvino.trace import record
from pipelines.engines.row_model import Part, Rows
from pipelines.engines.slot_model import Trial, do_nothing
from pipelines.engines.transformers import TransformersEngine
from pipelines.models.language_model import (
    LanguageModel,
    load_language_model,
)
from serving.load import load_engine
from tests.support.listening import Listener
from tests.support.running_engine import Served
from tests.support.texts_alone import NEW_TOKENS, texts_alone
from tests.support.tiny import CHAT_TEMPLATE

MODELS = ("tuned", "tiny")
BROKEN = 250
"""A token that no prompt of these tests has."""


@pytest.fixture(scope="module")
def compiled(served: Served) -> Iterator[Engine]:
    """The tiny base and its adapter, computed by OpenVINO."""
    made = load_engine(replace(served.config, engine=OPENVINO))
    yield made
    made.close()


def load(served: Served, adapter: Path | None) -> LanguageModel:
    return load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", adapter
    )


def prompts(count: int) -> list[tuple[int, ...]]:
    """Token ids of any lengths: some begin alike, some fill several blocks of the cache."""
    dice = random.Random(3)
    shared = [dice.randrange(3, 250) for _ in range(40)]
    made = []
    for number in range(count):
        length = dice.choice([1, 2, 17, 31, 32, 33, 60, 170])
        tokens = [dice.randrange(3, 250) for _ in range(length)]
        made.append(tuple([*shared, *tokens] if number % 3 == 0 else tokens))
    return made


def texts_at_once(
    engine: Engine, model: str, asked: Sequence[tuple[int, ...]]
) -> list[str]:
    """At most as many at once as the engine has places for."""
    texts = []
    for begin in range(0, len(asked), 16):
        listeners = [
            Listener(engine, GenerationRequest(model, prompt, NEW_TOKENS))
            for prompt in asked[begin : begin + 16]
        ]
        texts += [listener.rest()[0] for listener in listeners]
    return texts


@pytest.mark.ci
def test_32_greedy_answers_at_once_are_those_of_peft_with_the_adapter_and_without(
    compiled: Engine, served: Served
) -> None:
    asked = prompts(32)
    adapters = {"tuned": served.package / "adapter", "tiny": None}
    expected = {
        model: texts_alone(load(served, adapter), asked)
        for model, adapter in adapters.items()
    }
    assert expected["tuned"] != expected["tiny"]
    pairs = [(model, prompt) for prompt in asked for model in MODELS]
    # Adapter and base in turns, so that each streams beside the other.
    for begin in range(0, len(pairs), 16):
        now = pairs[begin : begin + 16]
        listeners = [
            Listener(compiled, GenerationRequest(model, prompt, NEW_TOKENS))
            for model, prompt in now
        ]
        for (model, prompt), listener in zip(now, listeners, strict=True):
            text, _ = listener.rest()
            assert text == expected[model][asked.index(prompt)]


@pytest.mark.ci
def test_what_is_served_says_that_openvino_computed_it(
    compiled: Engine, engine: Engine
) -> None:
    for model in MODELS:
        scored, loaded = engine.specs[model], compiled.specs[model]
        assert loaded.engine == OPENVINO
        assert scored.is_computed_otherwise(loaded)
        assert loaded.fingerprint != scored.fingerprint


@pytest.mark.ci
def test_probabilities_are_those_of_the_reference_engine(
    compiled: Engine, engine: Engine
) -> None:
    request = GenerationRequest(
        "tuned", prompts(1)[0], NEW_TOKENS, top_logprobs=3, scores_prompt=True
    )
    listeners = [Listener(compiled, request), Listener(engine, request)]
    for listener in listeners:
        listener.rest()
    ours, theirs = listeners
    assert [score.id for score in ours.scores] == [score.id for score in theirs.scores]
    pairs = zip(
        (*ours.prompt_scores[1:], *ours.scores),
        (*theirs.prompt_scores[1:], *theirs.scores),
        strict=True,
    )
    for one, other in pairs:
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


def with_alpha(served: Served, folder: Path, alpha: int) -> Path:
    """The adapter with that alpha, whose weights are as they were."""
    adapter = folder / f"alpha-{alpha}"
    shutil.copytree(served.package / "adapter", adapter)
    config = adapter / "adapter_config.json"
    text = config.read_text(encoding="utf-8")
    assert '"lora_alpha": 8' in text
    write_text(config, text.replace('"lora_alpha": 8', f'"lora_alpha": {alpha}'))
    return adapter


@pytest.mark.ci
def test_an_adapter_is_applied_with_its_own_alpha(
    served: Served, engine: Engine, tmp_path: Path
) -> None:
    """A wrong alpha gives wrong answers and no error."""
    asked = prompts(8)
    given = set()
    for alpha in (2, 8, 16):
        language = load(served, with_alpha(served, tmp_path, alpha))
        expected = texts_alone(language, asked)
        rows = open_openvino(language, has_adapter=True)
        made = TransformersEngine(language, engine.specs, compiled=rows)
        try:
            assert texts_at_once(made, "tuned", asked) == expected
        finally:
            made.close()
        given.add(tuple(expected))
    assert len(given) == 3


def check_graph_of(other: LanguageModel, language: LanguageModel) -> None:
    """Whether the graph of `other` may answer for `language`: `NotTaken` where not."""
    trial = Trial.of(language, short=35, long=75)
    with torch.inference_mode():
        _, shapes = trial.compute_alone(language)
    compiled = compile_recorded(record(other.model, shapes), threads=1)
    model, slots = open_paged(compiled, has_adapter=True)
    check_rows(language, trial, Rows(model, slots, switch=model), has_adapter=True)


@pytest.mark.ci
def test_a_graph_with_another_alpha_than_the_adapters_is_not_trusted(
    served: Served, tmp_path: Path
) -> None:
    language = load(served, served.package / "adapter")
    other = load(served, with_alpha(served, tmp_path, 4))
    check_graph_of(other, other)
    with pytest.raises(NotTaken, match="other probabilities"):
        check_graph_of(other, language)


@pytest.mark.ci
def test_logits_that_are_not_finite_fail_their_own_answer_alone(
    served: Served, engine: Engine
) -> None:
    """Also where its prompt is computed in one forward with the others' tokens."""
    language = load(served, None)
    output = language.model.get_output_embeddings()
    output.weight = torch.nn.Parameter(output.weight.detach().clone())
    with torch.no_grad():
        language.model.get_input_embeddings().weight[BROKEN] = torch.nan
    asked = [prompt for prompt in prompts(12) if BROKEN not in prompt]
    expected = texts_alone(language, asked)
    _, shapes = Trial.of(language, short=2, long=3).compute_alone(language)
    compiled = compile_recorded(record(language.model, shapes), threads=1)
    model, slots = open_paged(compiled, has_adapter=False)
    made = TransformersEngine(
        language, {"tiny": engine.specs["tiny"]}, compiled=Rows(model, slots, model)
    )
    broken = GenerationRequest("tiny", (BROKEN,) * 40, NEW_TOKENS)
    try:
        listeners = [
            Listener(made, GenerationRequest("tiny", prompt, NEW_TOKENS))
            for prompt in asked
        ]
        assert isinstance(Listener(made, broken).rest()[1], Failed)
        assert [listener.rest()[0] for listener in listeners] == expected
    finally:
        made.close()


@pytest.mark.ci
def test_a_model_whose_graph_is_not_trusted_keeps_its_adapter(served: Served) -> None:
    """Transformers serves it then: under the tuned name the base must not answer."""
    asked = prompts(4)
    language = load(served, served.package / "adapter")
    expected = texts_alone(language, asked)
    other = load(served, served.package / "adapter")
    with torch.no_grad():
        # So that it is seen while the adapter is off.
        other.model.get_output_embeddings().weight.mul_(2)
    with pytest.raises(NotTaken, match="other probabilities"):
        check_graph_of(other, language)
    assert texts_alone(language, asked) == expected


@pytest.mark.ci
def test_recording_leaves_the_loaded_model_as_it_was(served: Served) -> None:
    language = load(served, served.package / "adapter")
    asked = prompts(4)
    before = texts_alone(language, asked)
    open_openvino(language, has_adapter=True)
    # It ends with the adapter on, as it began.
    assert texts_alone(language, asked) == before


def test_a_slot_that_is_cleared_holds_zeros_and_the_others_what_they_held() -> None:
    slots = PagedSlots([BlockShape("key_cache.0", heads=1, positions=32, size=2)])
    slots.reserve(2, 64)
    (buffer,) = slots.buffers.values()
    buffer[:] = np.nan
    slots.clear(1)
    assert np.isnan(buffer[0]).all()
    assert not buffer[1].any()


@pytest.mark.ci
def test_without_a_place_for_a_file_of_weights_they_stay_in_memory_and_it_serves(
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    language = load(served, None)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        open_openvino(language, has_adapter=False)
    assert "The weights stay in memory twice" in capfd.readouterr().err


@pytest.mark.ci
def test_the_model_lets_go_of_memory_that_is_given_back(served: Served) -> None:
    language = load(served, None)
    _, shapes = Trial.of(language, short=2, long=3).compute_alone(language)
    compiled = compile_recorded(record(language.model, shapes), threads=1)
    model, slots = open_paged(compiled, has_adapter=False)
    part = Part(0, 0, [5, 6, 7])
    slots.reserve(1, 3)
    (before,) = model.compute(slots, [part], do_nothing)
    before = before.clone()
    slots.reserve(1, 1000)
    model.compute(slots, [part], do_nothing)
    held = [weakref.ref(buffer) for buffer in slots.buffers.values()]
    # Those of another adapter's rows change nothing of it.
    other = slots.like()
    other.reserve(1, 1000)
    assert other.shrink()
    assert all(buffer() is not None for buffer in held)
    assert slots.shrink()
    assert all(buffer() is None for buffer in held)
    slots.reserve(1, 3)
    (after,) = model.compute(slots, [part], do_nothing)
    assert torch.equal(after, before)


@pytest.mark.ci
def test_rotary_positions_are_one_operation(served: Served) -> None:
    """Written out they are nine, of which each takes the time to begin it."""
    language = load(served, None)
    _, shapes = Trial.of(language, short=2, long=3).compute_alone(language)
    compiled = compile_recorded(record(language.model, shapes), threads=1)
    computed = compiled.get_runtime_model().get_ops()
    kinds = [operation.get_rt_info()["layerType"] for operation in computed]
    # Of queries and of keys in each layer.
    assert kinds.count("RoPE") == 2 * len(shapes)


@pytest.mark.ci
def test_another_precision_is_left_to_transformers(served: Served) -> None:
    language = load(served, None)
    with pytest.raises(NotTaken, match="float32, not bfloat16"):
        open_openvino(replace(language, precision="bfloat16"), has_adapter=False)


def test_answers_are_held_to_a_schema_as_by_the_other_engine(
    compiled: Engine, engine: Engine
) -> None:
    schema = '{"type": "array", "items": {"type": "boolean"}, "maxItems": 3}'
    texts = []
    for each in (compiled, engine):
        request = GenerationRequest("tuned", (5, 6), 300, form=each.json_form(schema))
        drawn = replace(request, temperature=1.0, seed=2)
        texts.append([Listener(each, one).rest()[0] for one in (request, drawn)])
    assert texts[0] == texts[1]
    assert all(isinstance(json.loads(text), list) for text in texts[0])
