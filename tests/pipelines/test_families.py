"""Each published family gives its own tokens, its own ends, and the same answers in a batch.

The oracle is plain transformers, one row at a time (`tests/support/families/oracle.py`).
"""

import queue
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.errors import UnusableBaseModel, UnusableRow
from infra.families import PAGE, with_table
from pipelines.engines import Failed, Finished, GenerationRequest, Piece
from pipelines.engines.transformers import TransformersEngine
from pipelines.models.adapter_files import check_adapter
from pipelines.models.base_check import check_base
from pipelines.models.chat import ChatEncoder
from pipelines.models.language_model import generate, measure_completion_losses
from pipelines.values.serving_spec import ServingSpec
from tests.support.families import FAMILIES, Family
from tests.support.families.architectures import ARCHITECTURES
from tests.support.families.bench import Bench, set_up
from tests.support.families.texts import (
    Example,
    examples,
    long_conversation,
    unusual_examples,
    user,
    with_system_turn,
)
from tests.support.waiting import SECONDS_AT_MOST
from tests.support.workshop import PARAMS, Workshop, params

RIGHT = [family for family in FAMILIES if family.refusal is None]
REFUSED = [family for family in FAMILIES if family.refusal is not None]
SPEAKING = [family for family in RIGHT if family.has_template]
DATED = [family for family in RIGHT if family.is_dated]
FEW, MANY = 6, 40
NEW_TOKENS = 12
NATS = 1e-4
"""How far a loss may lie from the oracle's, in nats for each row."""
PLAIN_TEXT = "Which fox runs over the hill?"


def named(family: Family) -> str:
    return family.name


every_right_family = pytest.mark.parametrize("family", RIGHT, ids=named)


@pytest.fixture(scope="module")
def bench_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Family], Bench]]:
    made: dict[str, Bench] = {}

    def bench_of(family: Family) -> Bench:
        if family.name not in made:
            made[family.name] = set_up(family, tmp_path_factory.mktemp(family.name))
        return made[family.name]

    yield bench_of
    made.clear()


@pytest.fixture
def bench(family: Family, bench_of: Callable[[Family], Bench]) -> Bench:
    return bench_of(family)


def rows_of(family: Family) -> list[Example]:
    rows = [*examples(FEW), *unusual_examples()]
    if family.has_template:
        rows.append(long_conversation())
    if family.has_template and family.has_system_turn:
        rows.append(with_system_turn())
    return rows


def example_ids(bench: Bench, row: Example) -> tuple[list[int], list[int]]:
    """The family's own tokens of a row; Assay's where the family's own have no border."""
    if bench.family.joins_tokens:
        return bench.encoder.encode_example(row.messages, row.completion)
    return bench.oracle.example_ids(row.messages, row.completion)


def answers_that_differ(
    bench: Bench, prompts: Sequence[Sequence[int]], size: int
) -> list[int]:
    """Numbers of the prompts whose answer in a batch is not the greedy one alone."""
    answers = generate(
        bench.language, prompts, max_new_tokens=NEW_TOKENS, batch_size=size
    )
    pairs = zip(prompts, answers, strict=True)
    return [
        number
        for number, (prompt, answer) in enumerate(pairs)
        if not bench.oracle.agrees(prompt, answer.ids, NEW_TOKENS)
    ]


@every_right_family
def test_tokens_are_those_of_the_familys_own_software(bench: Bench) -> None:
    for row in rows_of(bench.family):
        prompt, completion = example_ids(bench, row)
        assert bench.encoder.prompt_ids(row.messages) == prompt
        assert bench.encoder.encode_example(row.messages, row.completion) == (
            prompt,
            completion,
        )


@pytest.mark.parametrize(
    "family", [family for family in RIGHT if family.joins_tokens], ids=named
)
def test_where_prompt_and_answer_join_the_prompt_stays_what_it_is_without_one(
    bench: Bench,
) -> None:
    for row in rows_of(bench.family):
        prompt, completion = bench.encoder.encode_example(row.messages, row.completion)
        assert prompt == bench.oracle.prompt_ids(row.messages)
        assert completion[-1] == bench.oracle.stops[0]
        assert bench.oracle.decode(completion) == row.completion


@every_right_family
def test_an_answer_ends_at_the_familys_own_tokens_and_at_no_other(
    bench: Bench,
) -> None:
    config = bench.oracle.model.generation_config
    listed = config.eos_token_id
    listed = listed if isinstance(listed, list) else [listed]
    known = {*bench.oracle.stops, *listed, bench.oracle.tokenizer.eos_token_id}
    assert set(bench.encoder.end_ids) >= set(bench.oracle.stops)
    assert set(bench.encoder.end_ids) <= known


@every_right_family
def test_the_context_is_as_long_as_the_familys(bench: Bench) -> None:
    if bench.family.context_tokens is None:
        assert bench.language.context_tokens >= 512
    else:
        assert bench.language.context_tokens == bench.family.context_tokens


@every_right_family
def test_a_few_answers_and_losses_are_the_same_alone_and_in_a_batch(
    bench: Bench,
) -> None:
    rows = [example_ids(bench, row) for row in examples(FEW)]
    prompts = [prompt for prompt, _ in rows]
    assert answers_that_differ(bench, prompts, FEW) == []
    alone = [bench.oracle.loss(*row) for row in rows]
    batched = measure_completion_losses(bench.language, rows, batch_size=FEW)
    assert batched == pytest.approx(alone, abs=NATS)


@every_right_family
def test_a_control_token_that_a_user_types_stays_text(bench: Bench) -> None:
    tokenizer = bench.oracle.tokenizer
    control = tokenizer.get_added_vocab()
    plain = bench.encoder.prompt_ids((user(PLAIN_TEXT),))
    for token in control:
        text = f"Which {token} fox"
        ids = bench.encoder.prompt_ids((user(text),))
        assert [i for i in ids if i in control.values()] == [
            i for i in plain if i in control.values()
        ], f"{token} became markup"
        assert token in tokenizer.decode(ids)


@every_right_family
def test_an_answer_that_holds_a_control_token_ends_once(bench: Bench) -> None:
    end = bench.family.stops[0]
    prompt, completion = bench.encoder.encode_example(
        (user(PLAIN_TEXT),), f"Red {end} fox"
    )
    assert prompt == bench.encoder.prompt_ids((user(PLAIN_TEXT),))
    assert completion[-1] == bench.oracle.stops[0]
    assert not set(completion[:-1]) & set(bench.oracle.stops)
    assert end in bench.oracle.tokenizer.decode(completion[:-1])


@every_right_family
def test_a_letter_before_one_that_is_cut_keeps_its_bytes(bench: Bench) -> None:
    encoding = bench.oracle.tokenizer("a\né🙂", add_special_tokens=False)
    text = bench.encoder.decode(encoding["input_ids"][:-2])
    assert text.startswith("a\né")
    # Of the last one a limit left a part.
    assert "\ufffd" in text
    assert "🙂" not in text


@pytest.mark.parametrize(
    "family", [each for each in SPEAKING if not each.has_system_turn], ids=named
)
def test_a_turn_that_the_template_refuses_is_named(bench: Bench) -> None:
    row = with_system_turn()
    with pytest.raises(UnusableRow, match="The chat template refuses"):
        bench.encoder.prompt_ids(row.messages)


@pytest.mark.parametrize("family", DATED, ids=named)
def test_the_prompt_of_tomorrow_is_the_one_that_was_scored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = (user(PLAIN_TEXT),)
    today = bench.encoder.prompt_ids(messages)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Tomorrow":
            return cls(2031, 5, 4, tzinfo=tz)

    clock = "transformers.utils.chat_template_utils.datetime"
    monkeypatch.setattr(clock, Tomorrow)
    later = ChatEncoder.load(bench.folder, bench.template)
    assert later.prompt_ids(messages) == today


def check(family: Family, root: Path) -> None:
    """All that stage `base_model` does before anything is trained."""
    bench = set_up(family, root)
    check_base(bench.base, bench.language, {}, PARAMS)


@pytest.mark.parametrize("family", REFUSED, ids=named)
def test_a_layout_that_cannot_be_right_is_refused_by_name_before_training(
    family: Family, tmp_path: Path
) -> None:
    assert family.refusal is not None
    with pytest.raises(UnusableBaseModel, match=re.escape(family.refusal)):
        check(family, tmp_path)


@pytest.mark.ci
@every_right_family
@pytest.mark.parametrize("size", [7, MANY])
def test_many_answers_are_the_same_alone_and_in_a_batch(
    bench: Bench, size: int
) -> None:
    prompts = [bench.oracle.prompt_ids(row.messages) for row in examples(MANY)]
    prompts = that_fit(bench, prompts)
    assert answers_that_differ(bench, prompts, size) == []


@pytest.mark.ci
@every_right_family
@pytest.mark.parametrize("size", [7, MANY])
def test_many_losses_are_the_same_alone_and_in_a_batch(bench: Bench, size: int) -> None:
    rows = [example_ids(bench, row) for row in examples(MANY)]
    rows = [row for row in rows if fits(bench, len(row[0]) + len(row[1]))]
    alone = [bench.oracle.loss(*row) for row in rows]
    batched = measure_completion_losses(bench.language, rows, batch_size=size)
    assert batched == pytest.approx(alone, abs=NATS)


@pytest.mark.ci
@pytest.mark.parametrize("family", ARCHITECTURES, ids=named)
def test_other_kinds_of_layers_answer_the_same_alone_and_in_a_batch(
    bench: Bench,
) -> None:
    rows = [example_ids(bench, row) for row in examples(FEW)]
    assert answers_that_differ(bench, [prompt for prompt, _ in rows], FEW) == []
    alone = [bench.oracle.loss(*row) for row in rows]
    batched = measure_completion_losses(bench.language, rows, batch_size=FEW)
    assert batched == pytest.approx(alone, abs=NATS)


@pytest.mark.ci
@every_right_family
def test_the_engine_gives_the_greedy_answer(bench: Bench) -> None:
    prompts = [bench.oracle.prompt_ids(row.messages) for row in examples(FEW)]
    prompts = that_fit(bench, prompts)
    answers = [bench.oracle.answer(prompt, NEW_TOKENS) for prompt in prompts]
    texts = [bench.oracle.decode(answer) for answer in answers]
    assert served_answers(bench, prompts) == texts


@pytest.mark.ci
@every_right_family
def test_the_check_of_a_base_model_lets_it_pass(bench: Bench) -> None:
    seen = check_base(bench.base, bench.language, {}, PARAMS)
    assert seen.asked == 12


@pytest.mark.ci
@every_right_family
def test_transformers_own_cache_agrees_with_the_oracle(bench: Bench) -> None:
    prompts = [bench.oracle.prompt_ids(row.messages) for row in examples(FEW)]
    for prompt in that_fit(bench, prompts):
        generated = bench.oracle.generated_answer(prompt, NEW_TOKENS)
        assert bench.oracle.agrees(prompt, generated, NEW_TOKENS)


# Of layers whose weights lie the other way round, and of experts that peft handles by itself.
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")
@pytest.mark.ci
@every_right_family
def test_an_adapter_that_was_trained_answers_the_same_alone_and_in_a_batch(
    bench: Bench, tmp_path: Path
) -> None:
    workshop = Workshop(bench.base, bench.folder, tmp_path, bench.template)
    lora = PARAMS.lora.model_copy(update={"target_modules": bench.family.lora_modules})
    adapter = workshop.run(params().model_copy(update={"lora": lora}))
    assert adapter.moved > 0
    # What scoring, registering and serving ask before they load it.
    check_adapter(Path(adapter.folder), adapter, bench.base)
    tuned = bench.with_adapter(Path(adapter.folder))
    rows = [example_ids(tuned, row) for row in examples(FEW)]
    assert answers_that_differ(tuned, [prompt for prompt, _ in rows], FEW) == []
    alone = [tuned.oracle.loss(*row) for row in rows]
    batched = measure_completion_losses(tuned.language, rows, batch_size=FEW)
    assert batched == pytest.approx(alone, abs=NATS)
    assert alone != [bench.oracle.loss(*row) for row in rows]


def test_the_page_lists_what_these_tests_check() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run `python -m infra.families`"


def fits(bench: Bench, tokens: int) -> bool:
    return tokens + NEW_TOKENS <= bench.language.context_tokens


def that_fit(bench: Bench, prompts: Sequence[list[int]]) -> list[list[int]]:
    kept = [prompt for prompt in prompts if fits(bench, len(prompt))]
    assert len(kept) >= FEW // 2
    return kept


def served_answers(bench: Bench, prompts: Sequence[list[int]]) -> list[str]:
    name = bench.family.name
    spec = ServingSpec.of_transformers(bench.base, "float32", NEW_TOKENS)
    engine = TransformersEngine(bench.language, {name: spec})
    try:
        return [_served(engine, name, prompt) for prompt in prompts]
    finally:
        engine.close()


def _served(engine: TransformersEngine, name: str, prompt: list[int]) -> str:
    events: queue.Queue[Any] = queue.Queue()
    request = GenerationRequest(name, tuple(prompt), NEW_TOKENS, 0.0)
    engine.submit(request, events.put)
    text = ""
    while isinstance(event := events.get(timeout=SECONDS_AT_MOST), Piece):
        text += event.text
    assert not isinstance(event, Failed), event
    assert isinstance(event, Finished)
    return text
