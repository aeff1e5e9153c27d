"""What goes wrong with one answer of a batch leaves the others as they would be alone."""

from collections.abc import Callable, Sequence

import pytest
import torch

from pipelines.engines import Event, Finished, GenerationRequest
from pipelines.engines.batch import Batch
from pipelines.engines.row_model import Part
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.slot_model import SlotModel, open_slots
from pipelines.engines.slots import Slots
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    load_language_model,
)
from tests.support.running_engine import Served
from tests.support.tiny import CHAT_TEMPLATE

NEW_TOKENS = 10


@pytest.fixture
def language(served: Served) -> LanguageModel:
    """The tiny base, which a test may break."""
    return load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", None
    )


class OnlyAlone(SlotModel):
    """A model that computes one row at a time, and never nothing."""

    def compute(
        self, slots: Slots, parts: Sequence[Part], meanwhile: Callable[[], None]
    ) -> Sequence[torch.Tensor]:
        computed = [part for part in parts if part.tokens]
        if len(computed) != 1:
            raise RuntimeError("no two rows, and no none")
        return super().compute(slots, parts, meanwhile)


class FewPositions(Slots):
    """Slots for which there is no memory beyond their first size."""

    def reserve(self, slots: int, positions: int) -> bool:
        if positions > 256:
            raise MemoryError
        return super().reserve(slots, positions)


def run_out(slots: int, positions: int) -> None:
    """What `resize` does where there is no memory."""
    raise RuntimeError("out of memory")


class Rows:
    """A batch of the tiny base, its slots, and which of its answers failed."""

    def __init__(self, language: LanguageModel, *, only_alone: bool = False) -> None:
        opened = open_slots(language)
        assert opened is not None
        model, self.slots = opened
        if only_alone:
            model = OnlyAlone(language.model, language.device, torch.float32)
        self.failed: list[RunningAnswer] = []
        self._encoder = language.encoder
        self.batch = Batch(model, self.slots, language.encoder, self._note)

    def begin(self, request: GenerationRequest) -> tuple[RunningAnswer, list[Event]]:
        events: list[Event] = []
        answer = RunningAnswer(request, events.append, self._encoder)
        self.batch.add(answer)
        return answer, events

    def advance(self, meanwhile: Callable[[], None] | None = None) -> None:
        with torch.inference_mode():
            self.batch.advance(meanwhile or self.batch.write)

    def tokens(self) -> list[list[int]]:
        return [row.tokens for row in self.batch._rows]

    def _note(self, answer: RunningAnswer, _: Exception) -> None:
        self.failed.append(answer)


SHORT = [(5, 6, 7), (9, 8, 7, 6), (5, 6)]
# The last two wait, since the one before them is as long as is read at once.
WAITING = [(5, 6, 7), tuple(range(20, 200)), tuple(range(30, 100)), (9, 8, 7, 6)]


@pytest.mark.parametrize("prompts", [SHORT, WAITING], ids=["short", "waiting"])
def test_rows_that_are_computed_apart_are_what_they_would_be_alone(
    language: LanguageModel, prompts: list[tuple[int, ...]]
) -> None:
    rows = Rows(language, only_alone=True)
    for prompt in prompts:
        rows.begin(GenerationRequest("tiny", prompt, NEW_TOKENS))
    tokens = rows.tokens()
    while len(rows.batch):
        rows.advance()
    assert rows.failed == []
    answers = generate(language, prompts, max_new_tokens=NEW_TOKENS, batch_size=1)
    for prompt, said, answer in zip(prompts, tokens, answers, strict=True):
        assert said[len(prompt) :] == list(answer.ids)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_what_nobody_looked_at_leaves_nothing_in_its_slot(
    language: LanguageModel, steps: int
) -> None:
    """Cancelled while it is computed: its prompt, or a token behind it."""
    rows = Rows(language)
    answer, events = rows.begin(GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS))
    for _ in range(steps):
        rows.advance()
    (tokens,) = rows.tokens()
    with torch.no_grad():
        language.model.get_input_embeddings().weight[tokens[-1]] = torch.nan
    rows.advance(answer.cancelled.set)
    assert isinstance(events[-1], Finished)
    for layer in rows.slots.layers:
        for buffer in layer.buffers:
            assert torch.isfinite(buffer).all()


def test_a_prompt_whose_probabilities_are_no_numbers_fails(
    language: LanguageModel,
) -> None:
    rows = Rows(language)
    with torch.no_grad():
        language.model.get_input_embeddings().weight[9] = torch.nan
    request = GenerationRequest(
        "tiny", (5, 9, 7), 0, top_logprobs=1, scores_prompt=True
    )
    answer, events = rows.begin(request)
    rows.advance()
    assert rows.failed == [answer]
    assert len(events) == 1


def test_memory_that_runs_out_fails_the_answer_that_needs_it(
    language: LanguageModel,
) -> None:
    rows = Rows(language)
    shapes = rows.slots._shapes
    rows.batch._slots = FewPositions(shapes)
    _, others = rows.begin(GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS))
    answer, events = rows.begin(GenerationRequest("tiny", (5,) * 300, NEW_TOKENS))
    assert rows.failed == [answer]
    assert len(events) == 1
    while len(rows.batch):
        rows.advance()
    assert others[-1] == Finished("length", NEW_TOKENS)


def test_memory_that_runs_out_between_two_layers_leaves_the_others_as_they_are(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More slots of fewer positions than there were, in the first layer alone."""
    rows = Rows(language)
    prompt = tuple(range(20, 220))
    rows.begin(GenerationRequest("tiny", (5,) * 300, 2))
    rows.begin(GenerationRequest("tiny", prompt, 70))
    while len(rows.batch) > 1:
        rows.advance()
    rows.begin(GenerationRequest("tiny", (5, 6, 7), 1))
    with monkeypatch.context() as patch:
        patch.setattr(rows.slots.layers[1], "resize", run_out)
        answer, _ = rows.begin(GenerationRequest("tiny", (9, 8, 7), 1))
    assert rows.failed == [answer]
    said = rows.tokens()[0]
    while len(rows.batch):
        rows.advance()
    assert rows.failed == [answer]
    (alone,) = generate(language, [prompt], max_new_tokens=70, batch_size=1)
    assert said[len(prompt) :] == list(alone.ids)


def test_what_rows_left_behind_is_forgotten_where_memory_runs_out(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer slots of more positions: the last ones are lost in the first layer alone."""
    rows = Rows(language)
    left = tuple(range(20, 60))
    # The last one leaves first, so that it stays where it is.
    for prompt, count in (((5, 6), 3), ((7, 8), 3), (left, 1)):
        rows.begin(GenerationRequest("tiny", prompt, count))
    while len(rows.batch):
        rows.advance()
    with monkeypatch.context() as patch:
        patch.setattr(rows.slots.layers[1], "resize", run_out)
        rows.begin(GenerationRequest("tiny", (9,) * 300, 1))
    rows.begin(GenerationRequest("tiny", left, NEW_TOKENS))
    (said,) = rows.tokens()
    while len(rows.batch):
        rows.advance()
    assert len(rows.failed) == 1
    (alone,) = generate(language, [left], max_new_tokens=NEW_TOKENS, batch_size=1)
    assert said[len(left) :] == list(alone.ids)
