"""Many answers at once: each is what it would be alone, whoever joins, leaves or fails beside."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from pipelines.engines import (
    Engine,
    Failed,
    Finished,
    GenerationRequest,
    Piece,
)
from pipelines.engines import runners as runners_module
from pipelines.engines.batch import Batch
from pipelines.engines.refusal import Refusal
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.slot_model import open_slots
from pipelines.engines.transformers import TransformersEngine
from pipelines.models.batching import Batching
from pipelines.models.language_model import (
    LanguageModel,
    load_language_model,
    measure_completion_losses,
)
from tests.support.listening import Listener
from tests.support.running_engine import Served, stop_in
from tests.support.texts_alone import NEW_TOKENS, texts_alone
from tests.support.tiny import CHAT_TEMPLATE

BROKEN = 250
"""A token that no prompt of these tests has."""
MODELS = ("tuned", "tiny")


@pytest.fixture(scope="module")
def languages(served: Served) -> dict[str, LanguageModel]:
    """The tiny base with and without its adapter, by the name that it is served under."""
    adapters = {"tuned": served.package / "adapter", "tiny": None}
    return {
        name: load_language_model(
            served.base, served.base_folder, CHAT_TEMPLATE, "float32", adapter
        )
        for name, adapter in adapters.items()
    }


@pytest.fixture(scope="module")
def few(served: Served, engine: Engine) -> Iterator[Engine]:
    """Room for three answers, so that others wait until one has left."""
    language = load_language_model(
        served.base,
        served.base_folder,
        CHAT_TEMPLATE,
        "float32",
        served.package / "adapter",
    )
    made = TransformersEngine(language, engine.specs, queue_length=100, rows=3)
    yield made
    made.close()


def prompts(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Token ids of any lengths, some of which begin alike, some longer than is read at once."""
    dice = random.Random(seed)
    shared = [dice.randrange(3, 250) for _ in range(30)]
    made = []
    for number in range(count):
        length = dice.choice([1, 2, 5, 17, 60, 170])
        tokens = [dice.randrange(3, 250) for _ in range(length)]
        made.append(tuple([*shared, *tokens] if number % 3 == 0 else tokens))
    return made


@pytest.mark.ci
def test_32_greedy_answers_at_once_are_those_that_were_scored(
    few: Engine, languages: dict[str, LanguageModel]
) -> None:
    asked = prompts(32)
    listeners = [
        (model, Listener(few, GenerationRequest(model, prompt, NEW_TOKENS)))
        for prompt in asked
        for model in MODELS
    ]
    for model in MODELS:
        texts = [each.rest()[0] for name, each in listeners if name == model]
        assert texts == texts_alone(languages[model], asked)


def test_a_seed_draws_the_same_whoever_else_is_answered(few: Engine) -> None:
    request = GenerationRequest("tuned", (5, 6, 7), NEW_TOKENS, 1.0, 0.9, seed=4)
    alone = Listener(few, request).rest()[0]
    others = [
        Listener(few, GenerationRequest("tuned", prompt, NEW_TOKENS, 1.3, seed=9))
        for prompt in prompts(5, seed=3)
    ]
    beside = Listener(few, request).rest()[0]
    other_seed = Listener(few, replace(request, seed=5)).rest()[0]
    for other in others:
        other.rest()
    assert beside == alone != other_seed


def test_without_a_seed_answers_differ(few: Engine) -> None:
    request = GenerationRequest("tuned", (5, 6, 7), NEW_TOKENS, 1.0)
    first, second = (Listener(few, request).rest()[0] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("top_p", [1e-6, 1e-50, 5e-324])
def test_top_p_leaves_the_unlikely_out(few: Engine, top_p: float) -> None:
    greedy = Listener(few, GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS)).rest()[0]
    nearly_none = GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS, 1.0, top_p, seed=1)
    assert Listener(few, nearly_none).rest()[0] == greedy


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-31, 1e-9])
def test_the_lowest_temperatures_draw_the_likeliest_token(
    few: Engine, temperature: float
) -> None:
    greedy = Listener(few, GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS)).rest()
    nearly = GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS, temperature, seed=1)
    assert Listener(few, nearly).rest() == greedy


def break_a_token(language: LanguageModel) -> None:
    """Have nothing finite come behind `BROKEN`, as after an overflow."""
    model = language.model
    output = model.get_output_embeddings()
    output.weight = torch.nn.Parameter(output.weight.detach().clone())
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        embedding[BROKEN] = torch.nan


def test_logits_that_are_not_finite_fail_their_own_answer_alone(
    served: Served, engine: Engine
) -> None:
    language = load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", None
    )
    broken_engine = TransformersEngine(language, {"tiny": engine.specs["tiny"]}, rows=4)
    try:
        break_a_token(language)
        asked = [prompt for prompt in prompts(3, seed=4) if BROKEN not in prompt]
        for temperature in (0.0, 1.0):
            others = [
                Listener(broken_engine, GenerationRequest("tiny", prompt, NEW_TOKENS))
                for prompt in asked
            ]
            broken = GenerationRequest("tiny", (5, BROKEN), NEW_TOKENS, temperature)
            end = Listener(broken_engine, broken).rest()[1]
            assert isinstance(end, Failed)
            assert [other.rest()[0] for other in others] == texts_alone(language, asked)
        # What it left in its slot would lie right of a short row that steps beside a long one.
        broken = GenerationRequest("tiny", (BROKEN,) * 60, NEW_TOKENS)
        assert isinstance(Listener(broken_engine, broken).rest()[1], Failed)
        rows = [(5, 6), (7, 8, *range(20, 60))]
        others = [
            Listener(broken_engine, GenerationRequest("tiny", row, NEW_TOKENS))
            for row in rows
        ]
        assert [other.rest()[0] for other in others] == texts_alone(language, rows)
        assert broken_engine.is_ready
    finally:
        broken_engine.close()


class BrokenBatch:
    """A batch over the tiny base, in which one token computes what is no number."""

    def __init__(self, served: Served) -> None:
        language = load_language_model(
            served.base, served.base_folder, CHAT_TEMPLATE, "float32", None
        )
        opened = open_slots(language)
        assert opened is not None
        self._encoder = language.encoder
        self.failed: list[RunningAnswer] = []
        self.batch = Batch(*opened, self._encoder, self._note)
        break_a_token(language)

    def begin(self, *prompt: int) -> RunningAnswer:
        request = GenerationRequest("tiny", prompt, NEW_TOKENS)
        answer = RunningAnswer(request, lambda _: None, self._encoder)
        self.batch.add(answer)
        return answer

    def _note(self, answer: RunningAnswer, _: Exception) -> None:
        self.failed.append(answer)


def test_a_prompt_that_nobody_reads_to_its_end_leaves_nothing_in_its_slot(
    served: Served,
) -> None:
    broken = BrokenBatch(served)
    batch, failed, begin = broken.batch, broken.failed, broken.begin
    with torch.inference_mode():
        left = begin(*[BROKEN] * 200)
        batch.advance(batch.write)
        left.cancelled.set()
        batch.advance(batch.write)
        answers = begin(5, 6), begin(7, *range(20, 60))
        while not all(answer.is_over for answer in answers) and not failed:
            batch.advance(batch.write)
    assert failed == []


def test_a_prompt_that_moves_while_it_is_read_leaves_nothing_in_its_first_slot(
    served: Served,
) -> None:
    broken = BrokenBatch(served)
    batch, failed, begin = broken.batch, broken.failed, broken.begin
    with torch.inference_mode():
        first, moved = begin(5, 6), begin(*[BROKEN] * 200)
        batch.advance(batch.write)
        first.cancelled.set()
        while len(batch):
            batch.advance(batch.write)
        answers = begin(7, *range(20, 60)), begin(5, 6)
        while len(batch):
            batch.advance(batch.write)
    assert failed == [moved]
    assert all(answer.is_over for answer in answers)


def test_an_answer_that_is_cancelled_leaves_the_others_as_they_are(
    few: Engine, languages: dict[str, LanguageModel]
) -> None:
    left = Listener(few, GenerationRequest("tuned", (9, 9), 400))
    asked = prompts(6, seed=1)
    assert isinstance(left.first(), Piece)
    others = [
        Listener(few, GenerationRequest("tuned", prompt, NEW_TOKENS))
        for prompt in asked
    ]
    assert isinstance(others[0].first(), Piece)
    left.cancel()
    end = left.rest()[1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    expected = texts_alone(languages["tuned"], asked)
    assert [other.rest()[0] for other in others[1:]] == expected[1:]


def test_one_that_fails_leaves_the_others_as_they_are(
    few: Engine,
    languages: dict[str, LanguageModel],
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked = prompts(4, seed=2)
    others = [
        Listener(few, GenerationRequest("tuned", prompt, NEW_TOKENS))
        for prompt in asked
    ]
    failing = Listener(few, GenerationRequest("tuned", (4, 10**6), NEW_TOKENS))
    assert isinstance(failing.rest()[1], Failed)
    assert "The engine failed on an answer of tuned" in capfd.readouterr().err
    expected = texts_alone(languages["tuned"], asked)
    assert [other.rest()[0] for other in others] == expected


def test_each_token_has_the_probability_that_the_model_gives_it(
    few: Engine, languages: dict[str, LanguageModel]
) -> None:
    prompt = prompts(1)[0]
    request = GenerationRequest("tuned", prompt, NEW_TOKENS, top_logprobs=3)
    listener = Listener(few, request)
    text, end = listener.rest()
    assert isinstance(end, Finished)
    assert len(listener.scores) == end.completion_tokens > 0
    ids = [score.id for score in listener.scores]
    language = languages["tuned"]
    assert language.encoder.decode(ids) == text
    (loss,) = measure_completion_losses(language, [(prompt, ids)], batch_size=1)
    given = [score.logprob for score in listener.scores]
    assert -sum(each or 0.0 for each in given) == pytest.approx(loss, rel=1e-4)
    for score in listener.scores:
        assert score.top[0][:1] == (score.id,)
        assert score.top[0][2] == score.logprob
        values = [each[2] for each in score.top]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3


def test_tokens_that_a_stop_string_cuts_off_have_no_score(few: Engine) -> None:
    request = GenerationRequest("tuned", (5, 6, 7), 60, 1.5, seed=5, top_logprobs=0)
    whole = Listener(few, request)
    text, _ = whole.rest()
    cut = Listener(few, replace(request, stop=(stop_in(text),)))
    _, end = cut.rest()
    assert isinstance(end, Finished)
    assert cut.scores == whole.scores[: end.completion_tokens]
    assert all(score.top == () for score in cut.scores)


def test_without_being_asked_no_token_is_scored(few: Engine) -> None:
    listener = Listener(few, GenerationRequest("tuned", (5, 6, 7), NEW_TOKENS))
    listener.rest()
    assert listener.scores == []


@pytest.mark.parametrize("max_tokens", [0, 2])
def test_a_prompt_is_scored_before_its_answer(
    few: Engine, languages: dict[str, LanguageModel], max_tokens: int
) -> None:
    prompt = prompts(1, seed=8)[0] * 5
    request = GenerationRequest(
        "tiny", prompt, max_tokens, top_logprobs=1, scores_prompt=True
    )
    listener = Listener(few, request)
    _, end = listener.rest()
    assert end == Finished("length", max_tokens)
    first, *others = listener.prompt_scores
    assert first.logprob is None
    assert tuple(score.id for score in listener.prompt_scores) == prompt
    (loss,) = measure_completion_losses(
        languages["tiny"], [(prompt[:1], prompt[1:])], batch_size=1
    )
    total = sum(score.logprob or 0.0 for score in others)
    assert -total == pytest.approx(loss, rel=1e-4)
    assert len(listener.scores) == max_tokens


def test_rows_that_could_outgrow_memory_wait_for_the_others(
    few: Engine,
    languages: dict[str, LanguageModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = open_slots(languages["tuned"])
    assert opened is not None
    # Two rows of 40 tokens, and no third one.
    monkeypatch.setattr(runners_module, "_MOST_BYTES", opened[1].bytes_for(2, 40))
    first = [
        Listener(few, GenerationRequest("tuned", (5, number), 38)) for number in (1, 2)
    ]
    assert all(isinstance(each.first(), Piece) for each in first)
    waiting = Listener(few, GenerationRequest("tuned", (5, 6), 1))
    assert waiting.events.empty()
    lone = Listener(few, GenerationRequest("tuned", (5, 7), 90))
    for each in first:
        assert each.rest()[1] == Finished("length", 38)
    assert waiting.rest()[1] == Finished("length", 1)
    assert lone.rest()[1] == Finished("length", 90)


def test_models_whose_rows_cannot_share_a_step_are_answered_one_by_one(
    languages: dict[str, LanguageModel], engine: Engine
) -> None:
    language = replace(languages["tiny"], batching=Batching.LEFT_PADDING)
    one_by_one = TransformersEngine(language, {"tiny": engine.specs["tiny"]})
    asked = prompts(3)
    listeners = [
        Listener(
            one_by_one, GenerationRequest("tiny", prompt, NEW_TOKENS, top_logprobs=0)
        )
        for prompt in asked
    ]
    texts = [each.rest()[0] for each in listeners]
    assert texts == texts_alone(languages["tiny"], asked)
    assert all(each.scores for each in listeners)
    scored = GenerationRequest("tiny", (5,), 1, scores_prompt=True)
    with pytest.raises(Refusal, match="does not score prompts"):
        one_by_one.submit(scored, lambda _: None)
    one_by_one.close()


def test_a_model_that_slots_answer_otherwise_is_not_trusted_with_them(
    languages: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    language = languages["tiny"]
    assert open_slots(language) is not None
    model = language.model
    plain = type(model).forward

    def forgets_positions(self: object, **fields: object) -> object:
        return plain(self, **{**fields, "position_ids": None})

    monkeypatch.setattr(type(model), "forward", forgets_positions)
    assert open_slots(language) is None


def test_the_slots_grow_with_the_rows_and_are_given_back(
    languages: dict[str, LanguageModel],
) -> None:
    opened = open_slots(languages["tiny"])
    assert opened is not None
    slots = opened[1].like()
    slots.reserve(1, 10)
    assert not slots.shrink()
    assert slots.reserve(3, 400)
    assert (slots.count, slots.positions) == (4, 512)
    # One long row after many short ones takes no room for many.
    assert slots.reserve(1, 1000)
    assert (slots.count, slots.positions) == (1, 1024)
    assert not slots.reserve(1, 1000)
    assert slots.shrink()
    slots.reserve(1, 1)
    keys, _ = slots.layers[0].buffers
    assert keys.shape[0] == 1
    assert not bool(torch.any(keys))
