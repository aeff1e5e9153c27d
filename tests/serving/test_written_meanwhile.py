"""The text of a token is delivered while the next one is computed, and nothing else changes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from pipelines.engines import Event, Failed, Finished, GenerationRequest, Piece
from pipelines.engines.batch import Batch
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.slot_model import open_slots
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    load_language_model,
)
from tests.support.running_engine import Served
from tests.support.tiny import CHAT_TEMPLATE

NEW_TOKENS = 10
REQUEST = GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS)


@pytest.fixture(scope="module")
def language(served: Served) -> LanguageModel:
    return load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", None
    )


@pytest.fixture(scope="module")
def whole(language: LanguageModel) -> str:
    """The greedy answer."""
    (answer,) = generate(
        language, [REQUEST.prompt], max_new_tokens=NEW_TOKENS, batch_size=1
    )
    return language.encoder.decode(answer.ids)


class Rows:
    """A batch of the tiny base, and which of its answers failed."""

    def __init__(self, language: LanguageModel) -> None:
        opened = open_slots(language)
        assert opened is not None
        self.failed: list[RunningAnswer] = []
        self._encoder = language.encoder
        self.batch = Batch(*opened, language.encoder, self._note)

    def begin(
        self, deliver: Callable[[Event], None], request: GenerationRequest = REQUEST
    ) -> RunningAnswer:
        answer = RunningAnswer(request, deliver, self._encoder)
        self.batch.add(answer)
        return answer

    def advance(self, meanwhile: Callable[[], None] | None = None) -> None:
        with torch.inference_mode():
            self.batch.advance(meanwhile or self.batch.write)

    def _note(self, answer: RunningAnswer, _: Exception) -> None:
        self.failed.append(answer)


class Unwritable:
    """A client that takes no text, and what else it was given."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.takes_text = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Piece) and not self.takes_text:
            raise RuntimeError("no such text")
        self.events.append(event)


def test_the_text_of_a_token_comes_while_the_next_one_is_computed(
    language: LanguageModel, whole: str
) -> None:
    rows = Rows(language)
    events: list[Event] = []
    written = 0

    def write() -> None:
        nonlocal written
        assert len(events) == written
        rows.batch.write()
        written = len(events)

    rows.begin(events.append)
    while len(rows.batch):
        rows.advance(write)
    assert written > 1
    assert events[-1] == Finished("length", NEW_TOKENS)
    pieces = [event.text for event in events if isinstance(event, Piece)]
    assert "".join(pieces) == whole


def test_a_stop_string_ends_an_answer_before_another_token_is_computed(
    language: LanguageModel, whole: str
) -> None:
    rows = Rows(language)
    events: list[Event] = []
    steps = 0
    rows.begin(events.append, replace(REQUEST, stop=(whole[0],), max_tokens=200))
    while len(rows.batch):
        rows.advance()
        steps += 1
    (end,) = events
    assert end == Finished("stop", 0)
    # As many as the first character has tokens.
    assert steps <= NEW_TOKENS


def test_what_was_chosen_is_delivered_before_an_answer_is_cancelled(
    language: LanguageModel, whole: str
) -> None:
    rows = Rows(language)
    events: list[Event] = []
    answer = rows.begin(events.append)
    for _ in range(NEW_TOKENS - 1):
        rows.advance()
    answer.cancelled.set()
    rows.advance()
    assert events[-1] == Finished("cancelled", NEW_TOKENS - 1)
    pieces = [event.text for event in events if isinstance(event, Piece)]
    text = "".join(pieces)
    assert text
    assert whole.startswith(text.rstrip("\ufffd"))


def test_a_text_that_cannot_be_written_fails_its_own_answer_alone(
    language: LanguageModel,
) -> None:
    rows = Rows(language)
    events: list[Event] = []
    others: list[Event] = []

    def deliver(event: Event) -> None:
        events.append(event)
        if isinstance(event, Failed):
            return
        raise RuntimeError("no such text")

    broken = rows.begin(deliver)
    rows.begin(others.append)
    while len(rows.batch):
        rows.advance()
    assert rows.failed == [broken]
    assert isinstance(events[-1], Failed)
    assert others[-1] == Finished("length", NEW_TOKENS)


def test_a_last_text_that_cannot_be_written_fails_its_own_answer_alone(
    language: LanguageModel,
) -> None:
    rows = Rows(language)
    others: list[Event] = []
    end = Unwritable()
    broken = rows.begin(end, replace(REQUEST, max_tokens=1))
    rows.begin(others.append)
    while len(rows.batch):
        rows.advance()
    assert rows.failed == [broken]
    assert len(end.events) == 1
    assert others[-1] == Finished("length", NEW_TOKENS)


@pytest.mark.parametrize("end", [RunningAnswer.fail, RunningAnswer.cancel])
def test_an_answer_ends_though_its_text_cannot_be_written(
    language: LanguageModel, end: Callable[[RunningAnswer], None]
) -> None:
    deliver = Unwritable()
    answer = RunningAnswer(REQUEST, deliver, language.encoder)
    first, second = language.encoder.encode_plain("ab")
    answer.add(first)
    answer.add(second)
    end(answer)
    assert len(deliver.events) == 1


def test_no_text_follows_one_that_could_not_be_written(
    language: LanguageModel,
) -> None:
    deliver = Unwritable()
    answer = RunningAnswer(REQUEST, deliver, language.encoder)
    first, second = language.encoder.encode_plain("ab")
    answer.add(first)
    with pytest.raises(RuntimeError, match="no such text"):
        answer.write()
    deliver.takes_text = True
    answer.add(second)
    answer.write()
    answer.fail()
    assert len(deliver.events) == 1
