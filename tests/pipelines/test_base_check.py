"""Before training a base is asked rows of the user's, and what would fail later fails there."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import ParameterError, UnusableBaseModel, UnusableRow
from pipelines.models.asked_rows import Generated
from pipelines.models.base_check import check_base
from pipelines.models.batching import Batching, choose_batching, cut_into_batches
from pipelines.models.conformance import MOST_NEW_TOKENS, Asked
from pipelines.models.conformance import _Answers as Answers
from pipelines.models.conformance import _check_batches as check_batches
from pipelines.models.conformance import _check_losses as check_losses
from pipelines.models.conformance import _count_new_tokens as count_new_tokens
from pipelines.models.language_model import LanguageModel, generate, load_language_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Row
from tests.support.tiny import CHAT_TEMPLATE
from tests.support.workshop import PARAMS, Workshop, params


def row(
    number: int, question: str, answer: str = "an answer", role: str = "user"
) -> Row:
    return Row(
        id=f"{number:016x}",
        number=number,
        messages=(Message.model_validate({"role": role, "content": question}),),
        completion=answer,
        group=question,
    )


def rows(count: int, words: int = 2) -> tuple[Row, ...]:
    return tuple(row(number, f"question {number} " * words) for number in range(count))


@pytest.fixture(scope="module")
def language(tiny: Path, manifest: BaseModelManifest) -> LanguageModel:
    return load_language_model(manifest, tiny, CHAT_TEMPLATE, "float32")


def test_the_check_shows_the_prompt_the_ends_and_how_many_answers_end(
    language: LanguageModel, manifest: BaseModelManifest
) -> None:
    found = check_base(manifest, language, {"train": rows(40)}, PARAMS)
    assert found.example.startswith("<|im_start|>user\nquestion")
    assert found.end_tokens == ("<|im_end|>",)
    assert found.ends_are_written
    # The tiny base's token of that name begins each turn: one stands in front.
    assert found.bos_tokens == 1
    assert found.asked == 12
    assert found.largest_loss_difference < 1e-5
    assert f"{found.ended} of 12 end by themselves" in found.text


def test_a_base_that_never_ends_an_answer_is_said_aloud(
    language: LanguageModel, manifest: BaseModelManifest
) -> None:
    found = check_base(manifest, language, {"train": rows(3)}, PARAMS)
    assert "never ends an answer" in found.model_copy(update={"ended": 0}).text
    assert "never ends an answer" not in found.model_copy(update={"ended": 1}).text


def test_without_rows_it_is_asked_questions_of_its_own(
    language: LanguageModel, manifest: BaseModelManifest
) -> None:
    assert check_base(manifest, language, {}, PARAMS).asked == 12


@pytest.mark.parametrize("split", ["train", "dev", "held_out"])
def test_a_row_that_the_template_refuses_is_named_with_the_number_of_others(
    tiny: Path, manifest: BaseModelManifest, language: LanguageModel, split: str
) -> None:
    strict = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system here') }}{% endif %}{% endfor %}"
    )
    refusing = load_language_model(manifest, tiny, strict + CHAT_TEMPLATE, "float32")
    bad = [row(7, "be kind", role="system"), row(9, "be brief", role="system")]
    data = {"train": rows(20), "dev": rows(5), "held_out": rows(5)}
    data[split] = (*data[split], *bad)
    sentence = (
        rf"Row 7 \(0+7\) of {split}: The chat template refuses a conversation of system"
    )
    with pytest.raises(UnusableRow, match=sentence) as raised:
        check_base(manifest, refusing, data, PARAMS)
    assert str(raised.value).endswith(f"Refused in all: 2 rows of {split}.")


def test_a_held_out_prompt_that_would_not_fit_after_training_is_refused_before(
    language: LanguageModel, manifest: BaseModelManifest
) -> None:
    # With its own answer it fits, and with the longest that may be written it does not.
    long = row(3, "long " * 92)
    data = {"train": rows(20), "dev": rows(5), "held_out": (long,)}
    with pytest.raises(
        UnusableRow, match=r"Held-out prompt .* the model's context holds 512"
    ):
        check_base(manifest, language, data, PARAMS)


def test_a_row_over_the_context_is_named_and_none_is_asked(
    language: LanguageModel, manifest: BaseModelManifest
) -> None:
    data = {"train": (*rows(3), row(7, "long " * 200))}
    with pytest.raises(UnusableRow, match=r"Row 7 .* the model's context holds 512"):
        check_base(manifest, language, data, PARAMS)
    short = replace(language, context_tokens=40)
    with pytest.raises(UnusableBaseModel, match="holds not one question of the check"):
        check_base(manifest, short, {}, PARAMS)


def test_examples_that_would_not_fit_after_training_are_refused_before(
    language: LanguageModel, manifest: BaseModelManifest
) -> None:
    data = {"train": rows(20, words=24), "dev": rows(5), "held_out": rows(5, words=24)}
    with pytest.raises(UnusableRow, match="Not one training example fits"):
        check_base(manifest, language, data, PARAMS)


def test_batches_that_change_answers_are_refused_and_one_row_a_batch_is_not(
    tiny_windowed: tuple[LanguageModel, BaseModelManifest],
) -> None:
    language, manifest = tiny_windowed
    data = {"train": [row(n, f"{'word ' * n}what?") for n in range(1, 13)]}
    assert language.batching is Batching.LEFT_PADDING
    assert check_base(manifest, language, data, PARAMS).asked == 12
    # Padding behind a shared prefix stands inside the window.
    wrong = replace(language, batching=Batching.SHARED_PREFIX)
    with pytest.raises(UnusableBaseModel, match=r"Set generation\.batch_size=1"):
        check_base(manifest, wrong, data, PARAMS)
    single = PARAMS.generation.model_copy(update={"batch_size": 1})
    alone = PARAMS.model_copy(update={"generation": single})
    assert check_base(manifest, wrong, data, alone).asked == 12


@pytest.fixture(scope="module")
def tiny_windowed(
    tiny: Path, manifest: BaseModelManifest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LanguageModel, BaseModelManifest]:
    folder = Path(shutil.copytree(tiny, tmp_path_factory.mktemp("windowed") / "base"))
    config = json.loads((folder / "config.json").read_text())
    windowed = {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "sliding_window": 16,
    }
    (folder / "config.json").write_text(json.dumps({**config, **windowed}))
    return load_language_model(manifest, folder, CHAT_TEMPLATE, "float32"), manifest


def test_a_model_that_looks_ahead_is_refused(
    manifest: BaseModelManifest, language: LanguageModel
) -> None:
    from transformers import BertConfig, BertLMHeadModel

    sizes: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4}
    config = BertConfig(
        vocab_size=300,
        num_hidden_layers=2,
        intermediate_size=64,
        is_decoder=False,
        **sizes,
    )
    encoder = replace(language, model=BertLMHeadModel(config).train(mode=False))
    with pytest.raises(UnusableBaseModel, match="looks ahead"):
        check_base(manifest, encoder, {"train": rows(12)}, PARAMS)


def test_a_model_whose_cache_changes_its_answers_is_refused(
    manifest: BaseModelManifest,
    language: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers.cache_utils import DynamicLayer

    update = DynamicLayer.update

    def forget(layer: Any, keys: Any, values: Any, *rest: Any) -> Any:
        # What was said before is halved as soon as there is something to remember.
        remembered = 0.5 if layer.get_seq_length() else 1.0
        keys, values = update(layer, keys, values, *rest)
        return keys * remembered, values * remembered

    monkeypatch.setattr(DynamicLayer, "update", forget)
    single = PARAMS.generation.model_copy(update={"batch_size": 1})
    alone = PARAMS.model_copy(update={"generation": single})
    with pytest.raises(UnusableBaseModel, match="without its key-value cache"):
        check_base(manifest, language, {"train": rows(12)}, alone)


def test_weights_that_are_no_numbers_are_refused(
    tiny: Path, manifest: BaseModelManifest
) -> None:
    broken = load_language_model(manifest, tiny, CHAT_TEMPLATE, "float32")
    with torch.no_grad():
        broken.model.get_input_embeddings().weight[9] = float("nan")
    with pytest.raises(UnusableBaseModel, match="that are no numbers"):
        check_base(manifest, broken, {"train": rows(12)}, PARAMS)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_loss_that_is_no_number_is_refused_wherever_it_stands(
    asked: Asked, bad: float
) -> None:
    good = (1.0, 2.0, 3.0)
    for place in range(3):
        losses = (*good[:place], bad, *good[place + 1 :])
        for both in ((losses, good), (good, losses)):
            with pytest.raises(UnusableBaseModel, match="that are no numbers"):
                check_losses(asked, Answers((), (), *both))
    check_losses(asked, Answers((), (), good, good))


@pytest.fixture(scope="module")
def asked(language: LanguageModel) -> Asked:
    encoder = language.encoder
    questions = [(Message(role="user", content="word " * n),) for n in (1, 5, 9)]
    examples = [encoder.encode_example(question, "yes") for question in questions]
    return Asked("tiny", (), language, examples)


def answered(asked: Asked) -> tuple[Generated, ...]:
    prompts = [prompt for prompt, _ in asked.examples]
    return generate(asked.language, prompts, max_new_tokens=4, batch_size=1)


def test_a_batch_is_refused_for_its_answers_alone_and_for_its_losses_alone(
    asked: Asked,
) -> None:
    right = answered(asked)
    other = replace(right[1], ids=(right[1].ids[0] ^ 1, *right[1].ids[1:]))
    wrong = (right[0], other, right[2])
    for answers, difference, size, sentence in (
        (wrong, 0.0, 64, r"answers 1 of 3 prompts .*Set generation\.batch_size=1"),
        (right, 0.1, 64, r"answers 0 of 3 prompts .* differ by 0\.1 of their size"),
        (right, float("nan"), 64, "differ by nan"),
        (wrong, 0.0, 1, "in a way of its own: take another model"),
    ):
        both = Answers(answers, right, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
        with pytest.raises(UnusableBaseModel, match=sentence):
            check_batches(asked, both, difference, size)
    check_batches(asked, Answers(right, right, (), ()), 0.0, 64)


def test_answers_have_the_room_that_the_longest_prompt_leaves(asked: Asked) -> None:
    longest = max(len(prompt) for prompt, _ in asked.examples)
    tight = replace(asked.language, context_tokens=longest + 3)
    assert count_new_tokens(replace(asked, language=tight), PARAMS.generation) == 3
    assert count_new_tokens(asked, PARAMS.generation) == MOST_NEW_TOKENS


def test_the_first_rows_by_id_and_the_longest_one_are_asked(
    language: LanguageModel, manifest: BaseModelManifest
) -> None:
    many = [*reversed(rows(20)), row(90, "long " * 60)]
    found = check_base(manifest, language, {"train": many}, PARAMS)
    assert "question 0" in found.example
    # With the longest one among them, less room is left for answers.
    tight = replace(language, context_tokens=342)
    assert check_base(manifest, tight, {"train": many}, PARAMS).new_tokens < 48


@pytest.mark.parametrize(
    ("batching", "expected"),
    [
        (Batching.SHARED_PREFIX, [[2, 4], [0, 1], [3]]),
        (Batching.LEFT_PADDING, [[2, 4], [0, 1], [3]]),
        (Batching.EQUAL_LENGTHS, [[2, 4], [0], [1, 3]]),
    ],
)
def test_rows_of_unequal_length_share_a_batch_only_where_padding_is_allowed(
    batching: Batching, expected: list[list[int]]
) -> None:
    assert list(cut_into_batches([4, 3, 9, 3, 9], 2, batching)) == expected
    assert list(cut_into_batches([], 2, batching)) == []


Config = Callable[[], Any]


def _llama(**settings: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_SMALL, **settings))


def _neo() -> Any:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    layers = [[["global", "local"], 1]]
    sizes: dict[str, Any] = {"hidden_size": 32, "num_layers": 2, "num_heads": 4}
    return GPTNeoForCausalLM(
        GPTNeoConfig(vocab_size=50, attention_types=layers, **sizes)
    )


_SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_LONG: dict[str, Any] = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 16,
    "factor": 4.0,
}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (_llama, Batching.SHARED_PREFIX),
        (lambda: _llama(rope_parameters=_LONG), Batching.EQUAL_LENGTHS),
        (_neo, Batching.LEFT_PADDING),
    ],
)
def test_how_rows_share_a_batch_follows_from_the_model(
    build: Config, expected: Batching
) -> None:
    assert choose_batching(build()) is expected


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        (["embed_tokens"], "Leave embeddings, lm_head and mixtures of experts out"),
        (["lm_head", "q_proj"], "Training cannot begin .*`lm_head`"),
    ],
)
def test_modules_whose_adapter_is_not_served_are_refused_before_training(
    tiny: Path,
    manifest: BaseModelManifest,
    tmp_path: Path,
    modules: list[str],
    sentence: str,
) -> None:
    workshop = Workshop(base=manifest, base_folder=tiny, root=tmp_path)
    lora = PARAMS.lora.model_copy(update={"target_modules": tuple(modules)})
    settings = params().model_copy(update={"lora": lora})
    with pytest.raises(ParameterError, match=sentence):
        workshop.run(settings)
