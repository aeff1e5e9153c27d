"""Rows to score, asked of an engine that serves: many in flight, each kept as soon as it is there.

    rows ─► longest first ─► submit ─► Heard ─► Generated or a loss ─► Kept

A row by itself decides its answer: no other row has a part in its chance. So what a killed
evaluation has kept is never asked again.
"""

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from core.errors import IncompleteEvidence, IncompleteGeneration, PipelineError
from pipelines.engines import (
    Cancel,
    Engine,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Piece,
    PromptScores,
    TokenScore,
)
from pipelines.engines.refusal import Refusal
from pipelines.models.asked_rows import Advance, Generated, Kept, Sampling, TokenIds
from pipelines.values.engine_name import EngineName

SCORED = "scored"
"""The name under which an engine has the model that is scored."""
# Between two looks at whether the engine still runs.
_SECONDS = 0.2

_Result = TypeVar("_Result", Generated, float)


class _NoResult(Exception):
    """A row has no answer or no loss; the message says why."""


@dataclass
class Heard:
    """What an engine delivered of one row. Not frozen: it grows."""

    row: int
    over: "queue.SimpleQueue[Heard]"
    tokens: list[TokenScore] = field(default_factory=list)
    of_prompt: tuple[TokenScore, ...] = ()
    end: Finished | Failed | None = None

    def take(self, event: Event) -> None:
        """Take an event, in the engine's thread."""
        if isinstance(event, Piece):
            self.tokens += event.tokens
        elif isinstance(event, PromptScores):
            self.of_prompt = event.tokens
        else:
            self.end = event
            self.over.put(self)


@dataclass(frozen=True)
class EngineRows:
    """Answers and losses by an engine, as `LanguageModel` asks for them."""

    name: EngineName
    version: str
    engine: Engine
    at_once: int
    """Requests that it takes, those that wait included."""

    def answer_into(
        self,
        answers: Kept[Generated],
        prompts: Sequence[TokenIds],
        *,
        max_new_tokens: int,
        sampling: Sampling | None,
        advance: Advance,
    ) -> None:
        """Answer those prompts that `answers` lacks; `IncompleteGeneration` where one has none."""

        def ask(row: int) -> GenerationRequest:
            return GenerationRequest(
                model=SCORED,
                prompt=tuple(prompts[row]),
                max_tokens=max_new_tokens,
                temperature=0.0 if sampling is None else sampling.temperature,
                seed=None if sampling is None else sampling.seed_of(row),
                # Ids come beside probabilities alone.
                top_logprobs=0,
            )

        lengths = [len(ids) for ids in prompts]
        asked = _Asked(self, lengths, ask, _read_answer, IncompleteGeneration)
        asked.fill(answers, advance)

    def measure_into(
        self,
        losses: Kept[float],
        rows: Sequence[tuple[TokenIds, TokenIds]],
        *,
        advance: Advance,
    ) -> None:
        """Measure those (prompt, completion) that `losses` lacks, in nats over the completion.

        `IncompleteEvidence` where one has no loss.
        """

        def ask(row: int) -> GenerationRequest:
            prompt, completion = rows[row]
            return GenerationRequest(
                model=SCORED,
                prompt=(*prompt, *completion),
                max_tokens=0,
                scores_prompt=True,
                scores_from=len(prompt),
            )

        def read(heard: Heard) -> float:
            _, completion = rows[heard.row]
            return _read_loss(heard, completion)

        lengths = [len(prompt) + len(completion) for prompt, completion in rows]
        asked = _Asked(self, lengths, ask, read, IncompleteEvidence)
        asked.fill(losses, advance)


@dataclass(frozen=True)
class _Asked(Generic[_Result]):
    """Rows of some lengths, how each is asked, and how its result is read."""

    by: EngineRows
    lengths: Sequence[int]
    ask: Callable[[int], GenerationRequest]
    read: Callable[[Heard], _Result]
    fault: type[PipelineError]

    def fill(self, kept: Kept[_Result], advance: Advance) -> None:
        """Ask for what is missing, and keep each result at once."""
        rows = [row for row in range(len(self.lengths)) if kept.missing([row])]
        advance(len(self.lengths) - len(rows))
        # Memory runs out in the first rows or never.
        rows.sort(key=lambda row: -self.lengths[row])
        for heard in self._hear(rows):
            try:
                result = self.read(heard)
            # Nothing is filled in for it.
            except _NoResult as reason:
                raise self._fail(str(reason)) from None
            kept.add([heard.row], [result])
            advance(1)

    def _hear(self, rows: Sequence[int]) -> Iterator[Heard]:
        """What each row came to, in the order in which they end."""
        over: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        running: dict[int, Cancel] = {}
        try:
            for row in rows:
                if len(running) >= self.by.at_once:
                    yield self._next(over, running)
                running[row] = self._submit(Heard(row, over))
            while running:
                yield self._next(over, running)
        finally:
            for cancel in running.values():
                cancel()

    def _submit(self, heard: Heard) -> Cancel:
        request = self.ask(heard.row)
        try:
            return self.by.engine.submit(request, heard.take)
        # It has ended, or lacks what is asked for.
        except Refusal as error:
            raise self._fail(str(error)) from error

    def _next(
        self, over: "queue.SimpleQueue[Heard]", running: dict[int, Cancel]
    ) -> Heard:
        while True:
            try:
                heard = over.get(timeout=_SECONDS)
            except queue.Empty:
                self._check_runs(over)
                continue
            del running[heard.row]
            return heard

    def _check_runs(self, over: "queue.SimpleQueue[Heard]") -> None:
        if self.by.engine.is_ready or not over.empty():
            return
        raise self._fail("it has ended")

    def _fail(self, reason: str) -> PipelineError:
        return self.fault(
            f"The engine {self.by.name} did not finish what it was asked ({reason}). "
            "Run the stage again: it goes on behind what is there."
        )


def _read_answer(heard: Heard) -> Generated:
    end = _finished(heard)
    ids = tuple(score.id for score in heard.tokens)
    # A token that was left out would shorten the answer.
    if len(ids) != end.completion_tokens:
        raise _NoResult(f"row {heard.row} lacks tokens of its answer")
    return Generated(ids, ended=end.reason == "stop")


def _read_loss(heard: Heard, completion: TokenIds) -> float:
    _finished(heard)
    ids = [score.id for score in heard.of_prompt]
    if ids != list(completion):
        raise _NoResult(f"row {heard.row} lacks tokens of its loss")
    nats = 0.0
    for score in heard.of_prompt:
        # Nothing precedes the first token of all: it has no probability.
        if score.logprob is None:
            raise _NoResult(f"row {heard.row} has nothing before its completion")
        nats -= score.logprob
    return nats


def _finished(heard: Heard) -> Finished:
    end = heard.end
    if isinstance(end, Finished) and end.reason != "cancelled":
        return end
    reason = end.message if isinstance(end, Failed) else "it was cut off"
    raise _NoResult(f"row {heard.row}: {reason}")
