"""vLLM on a GPU gives the answers of transformers, base and adapter each by its name.

    ASSAY_TEST_VLLM_PYTHON=/opt/vllm/bin/python pytest --noconftest tests/gpu/test_vllm_on_gpu.py

Three servers, one after the other. Nobody has run this yet: what fails here is what to find out.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator

from pipelines.engines import VLLM, Engine, Finished, GenerationRequest
from pipelines.values.base_manifest import BaseModelManifest
from serving.load import EngineConfig, load_engine
from tests.support.listening import Listener
from tests.support.side_by_side import greedy_texts, share_of_same
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest

PYTHON = os.environ.get("ASSAY_TEST_VLLM_PYTHON", "")
HEAD_SIZE = 64
COUNT, NEW_TOKENS = 16, 8
SAME_ANSWERS = 0.9
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": -9, "maximum": 99}},
    "required": ["age"],
    "additionalProperties": False,
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA"),
    pytest.mark.skipif(
        not PYTHON, reason="ASSAY_TEST_VLLM_PYTHON does not name a Python with vLLM"
    ),
]


@dataclass(frozen=True)
class Files:
    folder: Path
    base: BaseModelManifest
    root: Path

    @property
    def tuned(self) -> EngineConfig:
        """The base and its adapter, in float32."""
        return replace(self.alone, package=self.root / "package")

    @property
    def alone(self) -> EngineConfig:
        return EngineConfig(self.folder, self.root / "manifest.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root = tmp_path_factory.mktemp("wide")
    folder = make_tiny_base(root / "base", HEAD_SIZE)
    base = tiny_manifest(folder, root / "home")
    base.write(root / "manifest.json")
    make_tiny_package(folder, base, root / "package")
    return Files(folder, base, root)


@pytest.fixture(autouse=True)
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", PYTHON)


@pytest.fixture
def tuned(files: Files, python: None) -> Iterator[Engine]:
    engine = load_engine(replace(files.tuned, engine=VLLM, has_stand_in=False))
    yield engine
    engine.close()


def answers_of(config: EngineConfig) -> dict[str, list[str]]:
    engine = load_engine(config)
    try:
        return greedy_texts(engine, COUNT, NEW_TOKENS)
    finally:
        engine.close()


def test_base_and_adapter_answer_side_by_side_as_transformers_does(
    files: Files,
) -> None:
    expected = answers_of(files.tuned)
    assert expected["tuned"] != expected["tiny"]
    texts = answers_of(replace(files.tuned, engine=VLLM, has_stand_in=False))
    share = share_of_same(texts, expected)
    print(f"float32, base and adapter: {share:.2f} of the answers are the same")
    assert share >= SAME_ANSWERS


def test_a_base_in_bfloat16_answers_as_transformers_does(files: Files) -> None:
    config = replace(files.alone, precision="bfloat16")
    expected = answers_of(config)
    texts = answers_of(replace(config, engine=VLLM, has_stand_in=False))
    share = share_of_same(texts, expected)
    print(f"bfloat16, the base: {share:.2f} of the answers are the same")
    assert share >= SAME_ANSWERS


def test_json_is_held_to_its_schema(tuned: Engine) -> None:
    form = tuned.json_form(json.dumps(SCHEMA))
    greedy = GenerationRequest("tuned", (5, 6, 7), 200, form=form)
    drawn = [replace(greedy, temperature=1.5, seed=seed) for seed in range(15)]
    listeners = [Listener(tuned, each) for each in (greedy, *drawn)]
    answers = [listener.rest() for listener in listeners]
    assert all(isinstance(end, Finished) for _, end in answers)
    whole = [text for text, end in answers if end != Finished("length", 200)]
    assert whole
    for text in whole:
        Draft202012Validator(SCHEMA).validate(json.loads(text))
