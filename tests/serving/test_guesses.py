"""What a row guesses of itself is taken only where the model says the same."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from pipelines.engines import Event, Finished, GenerationRequest
from pipelines.engines.batch import Batch
from pipelines.engines.batch_row import Row
from pipelines.engines.guesses import Guesses
from pipelines.engines.row_model import Part
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.slots import HeadShape, Slots
from pipelines.engines.transformers import TransformersEngine

PROMPT = (11, 12, 13, 14, 15, 11, 12, 13)
REQUEST = GenerationRequest("tiny", PROMPT, 40)
VOCABULARY = 300


def logits_for(tokens: Sequence[int]) -> torch.Tensor:
    """Logits under which these are the likeliest, one after the other."""
    logits = torch.zeros(len(tokens), VOCABULARY)
    for place, token in enumerate(tokens):
        logits[place, token] = 1
    return logits


class OneRow:
    """A row that has read its prompt, and what it delivers."""

    def __init__(self, engine: TransformersEngine, request: GenerationRequest) -> None:
        self.encoder = engine.plain_text("tiny")._encoder
        self.events: list[Event] = []
        self.answer = RunningAnswer(request, self.events.append, self.encoder)
        self.row = Row(self.answer, list(request.prompt))
        part = self.row.next_prompt_part(0, 100)
        # What came behind it before.
        self.row.take(part, logits_for([14]), self.encoder)

    def step(self, most: int, *said: int) -> Sequence[int]:
        """What is guessed; then the model says these tokens."""
        part = self.row.next_step(0, most)
        assert part.start == len(self.row.tokens) - 1
        assert part.keep == len(part.tokens)
        self.row.take(part, logits_for(said), self.encoder)
        return part.tokens[1:]

    @property
    def said(self) -> list[int]:
        return self.row.tokens[len(PROMPT) + 1 :]


def test_what_stood_behind_the_last_tokens_is_guessed() -> None:
    guesses = Guesses()
    tokens = [1, 2, 3, 4, 5, 1, 2, 3]
    assert list(guesses.guess(tokens, 2)) == [4, 5]
    assert list(guesses.guess(tokens, 9)) == [4, 5, 1, 2, 3]
    tokens.append(9)
    assert list(guesses.guess(tokens, 2)) == []
    # The newest place counts, and a longer ending before a shorter one.
    tokens += [2, 3]
    assert list(guesses.guess(tokens, 1)) == [9]
    tokens = [7, 1, 2, 8, 9, 1, 2, 6, 7, 1, 2]
    assert list(Guesses().guess(tokens, 1)) == [8]


@pytest.mark.parametrize("tokens", [[], [1], [1, 1], [1, 2, 3]])
def test_where_nothing_is_repeated_nothing_is_guessed(tokens: list[int]) -> None:
    assert list(Guesses().guess(tokens, 4)) == []


def test_right_guesses_are_taken_at_once(engine: TransformersEngine) -> None:
    one = OneRow(engine, REQUEST)
    assert list(one.step(3, 15, 11, 12, 13)) == [15, 11, 12]
    assert one.said == [15, 11, 12, 13]
    assert one.row.computed == len(one.row.tokens) - 1


def test_nothing_behind_a_wrong_guess_is_taken(engine: TransformersEngine) -> None:
    one = OneRow(engine, REQUEST)
    assert list(one.step(3, 15, 99, 12, 13)) == [15, 11, 12]
    assert one.said == [15, 99]
    assert one.row.computed == len(one.row.tokens) - 1
    # The slot keeps what was right of it, and the next step begins behind that.
    assert list(one.step(3, 16)) == []


def test_no_more_tokens_are_taken_than_were_asked_for(
    engine: TransformersEngine,
) -> None:
    one = OneRow(engine, replace(REQUEST, max_tokens=3))
    assert list(one.step(4, 15, 11)) == [15]
    assert one.answer.is_over
    one.answer.finish()
    assert one.events[-1] == Finished("length", 3)


def test_an_end_among_right_guesses_ends_the_answer(engine: TransformersEngine) -> None:
    one = OneRow(engine, REQUEST)
    end = one.encoder.end_ids[0]
    prompt = (*PROMPT[:3], 14, end, *PROMPT[3:])
    one = OneRow(engine, replace(REQUEST, prompt=(*prompt[:5], 15, 11, 12, 13)))
    assert list(one.step(3, end, 15, 11, 12)) == [end, 15, 11]
    assert one.row.tokens[-1] == end
    one.answer.finish()
    assert one.events[-1] == Finished("stop", 1)


def test_what_is_drawn_by_chance_is_not_guessed(engine: TransformersEngine) -> None:
    one = OneRow(engine, replace(REQUEST, temperature=0.001, seed=1))
    assert list(one.step(3, 15)) == []


class Told:
    """A model that says what it is told, and what it was last asked to compute."""

    mixes_lengths = True

    def __init__(self) -> None:
        # Of one row: behind each of the first tokens of its part.
        self.says: tuple[int, ...] = ()
        self.parts: Sequence[Part] = ()

    def compute(
        self, slots: Slots, parts: Sequence[Part], meanwhile: Callable[[], None]
    ) -> Sequence[torch.Tensor]:
        meanwhile()
        self.parts = parts
        logits = []
        for part in parts:
            said = (*self.says, *[0] * part.keep)[: part.keep]
            logits.append(logits_for(said))
        return logits


def ignore(*_: object) -> None:
    """An event, or a failure, that nobody waits for."""


@pytest.mark.parametrize("behind", [(7,), (12, 7)])
def test_an_answer_takes_over_what_was_right_of_another_row_and_computes_the_rest(
    engine: TransformersEngine, behind: tuple[int, ...]
) -> None:
    encoder = engine.plain_text("tiny")._encoder
    shape = HeadShape(heads=1, size=1, like=torch.empty(0))
    model = Told()
    batch = Batch(model, Slots([(shape, shape)]), encoder, ignore)
    batch.add(RunningAnswer(REQUEST, ignore, encoder))
    # It reads its prompt, guesses four tokens, and the second of them is wrong.
    for model.says in ((14,), (15, 99)):
        batch.advance(batch.write)
    assert list(model.parts[0].tokens) == [14, 15, 11, 12, 13]
    right = (*PROMPT, 14, 15)
    # The first row has chosen 99, but its slot holds what was guessed in that place.
    later = replace(REQUEST, prompt=(*right, 99, *behind))
    batch.add(RunningAnswer(later, ignore, encoder))
    batch.advance(batch.write)
    assert model.parts[1] == Part(1, len(right), [99, *behind])
