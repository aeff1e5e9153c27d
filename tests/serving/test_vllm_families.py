"""Families, precisions and prompts are right through vLLM."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.engines import VLLM, Engine, GenerationRequest
from pipelines.engines.transformers import TransformersEngine
from pipelines.engines.vllm import server
from pipelines.engines.vllm.opening import Weights, open_vllm, plan_vllm
from pipelines.models.language_model import load_language_model
from pipelines.values.dataset import Message
from pipelines.values.fixed_prompt import FixedPrompt
from pipelines.values.serving_spec import ServingSpec
from serving.load import EngineConfig, load_engine
from tests.support.listening import Listener
from tests.support.side_by_side import greedy_texts, share_of_same
from tests.support.tiny import (
    CHAT_TEMPLATE,
    make_tiny_base,
    make_tiny_package,
    tiny_manifest,
)
from tests.support.vllm_environment import VLLM_HEAD_SIZE
from tests.support.wide_bases import WIDE_BASES, WideBase

NEW_TOKENS = 10
COUNT = 12
# A tie within rounding may fall either way.
SAME_ANSWERS = 0.95
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def setting(vllm_python: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_VLLM_PYTHON", str(vllm_python))
        # Of a busy machine: what takes how long is not tested here.
        patch.setattr(server, "_SECONDS_TO_START", 600.0)
        yield


@pytest.mark.parametrize("wide", WIDE_BASES, ids=lambda wide: wide.name)
def test_a_family_answers_through_vllm_as_through_transformers(
    wide: WideBase, tmp_path: Path
) -> None:
    folder = wide.make(tmp_path / "base")
    base = tiny_manifest(folder, tmp_path / "home")
    base.write(tmp_path / "manifest.json")
    make_tiny_package(folder, base, tmp_path / "package")
    config = EngineConfig(folder, tmp_path / "manifest.json", tmp_path / "package")
    reference = load_engine(config)
    expected = greedy_texts(reference, COUNT, NEW_TOKENS)
    reference.close()
    assert expected["tuned"] != expected["tiny"]
    engine = load_engine(replace(config, engine=VLLM))
    texts = greedy_texts(engine, COUNT, NEW_TOKENS)
    engine.close()
    assert {spec.engine for spec in engine.specs.values()} == {VLLM}
    assert share_of_same(texts, expected) >= SAME_ANSWERS


def test_a_prompt_in_bfloat16_stands_before_conversations_and_not_before_the_base(
    tmp_path: Path,
) -> None:
    folder = make_tiny_base(tmp_path / "base", VLLM_HEAD_SIZE)
    base = tiny_manifest(folder, tmp_path / "home")
    spec = ServingSpec.of_transformers(base, "bfloat16", NEW_TOKENS)
    specs = {"tuned": spec.with_adapter("0" * 64), "tiny": spec}
    language = load_language_model(base, folder, CHAT_TEMPLATE, "bfloat16")
    prompt = FixedPrompt(system="Answer in one word, and in no other way.")
    prompted = replace(language, encoder=language.encoder.with_prompt(prompt))
    reference = TransformersEngine(prompted, specs)
    question = [Message(role="user", content="Which command lists all files?")]
    asked = {model: tuple(reference.prompt_ids(question, model)) for model in specs}
    expected = {model: texts_of(reference, model, asked[model]) for model in specs}
    reference.close()
    weights = Weights(folder, base.digest, None)
    engine = open_vllm(plan_vllm(prompted, specs, weights), prompted, specs)
    own = {model: tuple(engine.prompt_ids(question, model)) for model in specs}
    texts = {model: texts_of(engine, model, asked[model]) for model in specs}
    engine.close()
    assert own == asked
    assert len(asked["tuned"]) > len(asked["tiny"])
    assert {spec.precision for spec in engine.specs.values()} == {"bfloat16"}
    # Rounded to eight bits, later tokens may differ; the first ones are far enough apart.
    assert texts == expected


def texts_of(engine: Engine, model: str, prompt: tuple[int, ...]) -> str:
    request = GenerationRequest(model, prompt, NEW_TOKENS)
    return Listener(engine, request).rest()[0]
