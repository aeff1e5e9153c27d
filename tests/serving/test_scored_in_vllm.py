"""Rows to score, computed by vLLM: the answers and losses of transformers, or none at all."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import IncompleteGeneration, UnusableBaseModel
from pipelines.engines.engine_rows import EngineRows
from pipelines.engines.installed import installed_version
from pipelines.engines.scored_model import check_takes, open_scored_model
from pipelines.models.asked_rows import Generated, Sampling
from pipelines.models.comparator_bases import PlacedBase
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    measure_completion_losses,
)
from pipelines.values.dataset import Message
from pipelines.values.params import GenerationParams
from tests.support.tiny import (
    CHAT_TEMPLATE,
    make_tiny_adapter,
    make_tiny_base,
    tiny_manifest,
)
from tests.support.vllm_environment import VLLM_HEAD_SIZE, patient_vllm

PARAMS = GenerationParams(max_new_tokens=12, batch_size=4, precision="float32", seed=0)
BY_VLLM = PARAMS.model_copy(update={"engine": "vllm"})
QUESTIONS = ("list files", "copy", "Who are you?", "stop the server now", "a", "mount")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def setting(vllm_python: Path) -> Iterator[None]:
    with patient_vllm(vllm_python):
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> PlacedBase:
    root = tmp_path_factory.mktemp("wide")
    folder = make_tiny_base(root / "base", VLLM_HEAD_SIZE)
    return PlacedBase(tiny_manifest(folder, root / "home"), folder, CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def adapter(base: PlacedBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    make_tiny_adapter(base.folder, base.manifest, folder)
    return folder


def prompts(language: LanguageModel) -> list[list[int]]:
    encode = language.encoder.prompt_ids
    return [encode([Message(role="user", content=text)]) for text in QUESTIONS]


def answers(
    language: LanguageModel, sampling: Sampling | None = None
) -> tuple[Generated, ...]:
    return generate(
        language,
        prompts(language),
        max_new_tokens=PARAMS.max_new_tokens,
        batch_size=PARAMS.batch_size,
        sampling=sampling,
    )


def losses(language: LanguageModel) -> tuple[float, ...]:
    encode = language.encoder.encode_example
    rows = [
        encode([Message(role="user", content=text)], reference)
        for text in QUESTIONS
        for reference in ("yes", f"{text} {text}")
    ]
    return measure_completion_losses(language, rows, batch_size=PARAMS.batch_size)


def test_vllm_answers_and_measures_what_transformers_does(
    base: PlacedBase, adapter: Path
) -> None:
    with open_scored_model(base, PARAMS, adapter) as language:
        expected, nats = answers(language), losses(language)
    with open_scored_model(base, BY_VLLM, adapter) as language:
        assert language.computed_by == ("vllm", installed_version("vllm"))
        assert answers(language) == expected
        for own, other in zip(losses(language), nats, strict=True):
            assert math.isclose(own, other, rel_tol=1e-4)
        drawn = answers(language, Sampling(0.9, 1))
        assert answers(language, Sampling(0.9, 1)) == drawn
        assert answers(language, Sampling(0.9, 2)) != drawn
        # What ends while it is asked leaves no answer behind.
        assert isinstance(language.engine, EngineRows)
        language.engine.engine.close()
        with pytest.raises(IncompleteGeneration, match="vllm"):
            answers(language)


def test_a_base_that_vllm_does_not_take_is_an_error_and_no_other_engine_answers(
    tiny: Path, tmp_path: Path
) -> None:
    small = PlacedBase(tiny_manifest(tiny, tmp_path), tiny, CHAT_TEMPLATE)
    with (
        pytest.raises(UnusableBaseModel, match="cannot be scored in vllm"),
        open_scored_model(small, BY_VLLM),
    ):
        pass


def test_a_base_that_vllm_takes_without_adapters_alone_is_refused_before_training(
    base: PlacedBase, tmp_path: Path
) -> None:
    """Of GPT-2 it has no layers with adapters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = Path(shutil.copytree(base.folder, tmp_path / "base"))
    config = GPT2Config(
        vocab_size=259, n_embd=2 * VLLM_HEAD_SIZE, n_head=2, n_layer=2, n_positions=512
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    gpt2 = PlacedBase(tiny_manifest(folder, tmp_path), folder, CHAT_TEMPLATE)
    with open_scored_model(gpt2, BY_VLLM) as language:
        assert language.computed_by[0] == "vllm"
    with pytest.raises(UnusableBaseModel, match="does not support LoRA"):
        check_takes(gpt2, BY_VLLM)
