"""Answers and losses do not depend on how rows are batched, or on what they share."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from core.errors import UnusableBaseModel, UnusableRow
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    load_language_model,
    measure_completion_losses,
)
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message
from tests.support.tiny import CHAT_TEMPLATE

TEXTS = ("a", "how are you?", "sort a file by its second column", "list", "é à 日本")


@pytest.fixture(scope="module")
def language(tiny: Path, manifest: BaseModelManifest) -> LanguageModel:
    return load_language_model(manifest, tiny, CHAT_TEMPLATE, "float32")


@pytest.fixture(scope="module")
def prompts(language: LanguageModel) -> list[list[int]]:
    return [
        language.encoder.prompt_ids((Message(role="user", content=text),))
        for text in TEXTS
    ]


def test_a_batch_answers_what_each_prompt_alone_is_answered(
    language: LanguageModel, prompts: list[list[int]]
) -> None:
    together = generate(language, prompts, max_new_tokens=8, batch_size=len(prompts))
    alone = [
        generate(language, [prompt], max_new_tokens=8, batch_size=1)[0]
        for prompt in prompts
    ]
    assert list(together) == alone


def test_an_answer_is_what_transformers_generates(
    language: LanguageModel, prompts: list[list[int]]
) -> None:
    answer = generate(language, prompts[:1], max_new_tokens=8, batch_size=1)[0]
    plain = language.model.generate(
        torch.tensor(prompts[:1]),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=language.encoder.end_ids,
    )
    generated = plain[0, len(prompts[0]) :].tolist()
    assert list(answer.ids) == [
        token for token in generated if token not in language.encoder.end_ids
    ]


def test_losses_equal_those_of_a_plain_forward_pass(language: LanguageModel) -> None:
    rows = [
        language.encoder.encode_example((Message(role="user", content=asked),), answer)
        for asked, answer in zip(TEXTS, reversed(TEXTS), strict=True)
    ]
    found = measure_completion_losses(language, rows, batch_size=3)
    for (prompt, completion), loss in zip(rows, found, strict=True):
        ids = torch.tensor([[*prompt, *completion]])
        logits = language.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        plain = torch.nn.functional.cross_entropy(
            logits, torch.tensor(completion), reduction="sum"
        ).item()
        assert loss == pytest.approx(plain, rel=1e-4)


def test_nothing_is_asked_of_no_prompts(language: LanguageModel) -> None:
    assert generate(language, [], max_new_tokens=8, batch_size=4) == ()
    assert measure_completion_losses(language, [], batch_size=4) == ()


def test_a_prompt_over_the_context_is_refused_and_not_cut(
    language: LanguageModel,
) -> None:
    fits = [1] * (language.context_tokens - 4)
    assert len(generate(language, [fits], max_new_tokens=4, batch_size=1)) == 1
    with pytest.raises(
        UnusableRow, match="needs 513 tokens, the model's context holds 512"
    ):
        generate(language, [fits], max_new_tokens=5, batch_size=1)


def test_weights_of_another_size_than_the_config_says_are_one_line(
    tiny: Path, manifest: BaseModelManifest, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 10}))
    with pytest.raises(UnusableBaseModel, match=r"^tiny does not load: [^\n]*$"):
        load_language_model(manifest, other, CHAT_TEMPLATE, "float32")


def test_weights_that_do_not_load_are_one_line(
    tiny: Path, manifest: BaseModelManifest, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(UnusableBaseModel, match=r"^tiny does not load: [^\n]*$"):
        load_language_model(manifest, tmp_path, CHAT_TEMPLATE, "float32")
