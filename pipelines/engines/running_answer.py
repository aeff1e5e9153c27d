"""One answer while it is generated: logits in, pieces of text out, and when it is over."""

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from pipelines.engines import (
    Constraint,
    Deliver,
    Failed,
    Finished,
    Form,
    FormFault,
    GenerationRequest,
    Piece,
    PromptScores,
    TokenScore,
)
from pipelines.engines.text_stream import StopStrings, TokenCount
from pipelines.engines.token_choice import TokenChooser, score_token
from pipelines.models.chat import ChatEncoder
from pipelines.models.incremental_text import IncrementalText

if TYPE_CHECKING:
    import torch

FAULTS = (RuntimeError, ValueError, IndexError, MemoryError)
"""What torch and numpy raise, out of memory included; the process works on after it."""
_NOT_WHOLE = "The answer ended before it had the form that response_format asks for."
_NO_ANSWER = "The engine stopped in the middle of this answer. Try again."


class RunningAnswer:
    """Picks the tokens of one answer, and delivers its text as soon as it is certain."""

    def __init__(
        self,
        request: GenerationRequest,
        deliver: Deliver,
        encoder: ChatEncoder,
        adapter: int | None = None,
    ) -> None:
        self.request = request
        # Number of the adapter that computes it; None: the base alone.
        self.adapter = adapter
        # Set by the client's thread; read between two tokens.
        self.cancelled = threading.Event()
        self._deliver = deliver
        self._encoder = encoder
        self._end_ids = frozenset(encoder.end_ids)
        self._chooser = TokenChooser(request)
        # Begun with the first token: an answer that waits takes no memory for it.
        self._constraint: Constraint | None = None
        self._fault: Failed | None = None
        self._text = IncrementalText(encoder.decode_together)
        self._stops = StopStrings(request.stop)
        self._tokens = TokenCount()
        self._scores = _HeldScores()
        # Chosen, and not delivered yet.
        self._unwritten: deque[tuple[int, TokenScore | None]] = deque()
        # While a token is written, and for good where that failed: no text follows a gap.
        self._is_broken = False
        self._taken = 0
        self._waits_for_prompt_scores = request.scores_prompt
        self._has_ended_turn = False
        self._is_delivered = False

    @property
    def is_over(self) -> bool:
        """Whether the answer is complete, or nobody wants the rest of it."""
        if self.cancelled.is_set():
            return True
        # A request may ask for no token at all, and for its prompt's scores alone.
        if self._waits_for_prompt_scores:
            return False
        is_full = self._taken >= self.request.max_tokens
        return is_full or self._has_ended_turn or self._stops.is_stopped

    def give_prompt_scores(self, scores: list[TokenScore]) -> None:
        """Deliver the scores of the prompt's tokens."""
        self._waits_for_prompt_scores = False
        tokens = tuple(scores)
        event = PromptScores(tokens)
        self._deliver(event)

    def take(self, logits: "torch.Tensor") -> int:
        """Choose the next token by float32 logits of shape (vocabulary,), and give its id.

        `write` delivers its text: the next token may be computed before.
        """
        token = self._choose(logits)
        score = None
        top_count = self.request.top_logprobs
        # The token that ends the turn is no part of the answer.
        if top_count is not None and token not in self._end_ids:
            score = score_token(
                logits,
                token,
                top_count,
                self._encoder,
            )
        self.add(token, score)
        return token

    def follow(self, token: int, score: TokenScore | None = None) -> None:
        """Take a token that was chosen elsewhere; `FormFault` where its form has it not here."""
        if self.request.form is not None:
            self._follow_form(self.request.form, token)
        self.add(token, score)

    def add(self, token: int, score: TokenScore | None = None) -> None:
        """Take a token that was chosen; `write` delivers its text."""
        self._taken += 1
        if token in self._end_ids:
            self._has_ended_turn = True
            return
        self._unwritten.append((token, score))
        # Only its text says whether a stop string ends the answer here.
        if self.request.stop:
            self.write()

    def _follow_form(self, form: Form, token: int) -> None:
        constraint = self._constraint or form.begin()
        self._constraint = constraint
        if token not in self._end_ids:
            constraint.take(token)
            self._has_ended_turn = constraint.is_complete
        elif not constraint.may_end:
            raise FormFault(_NOT_WHOLE)

    def _choose(self, logits: "torch.Tensor") -> int:
        form = self.request.form
        if form is None:
            return self._chooser.choose(logits)
        try:
            if self._constraint is None:
                self._constraint = form.begin()
            return self._choose_within(self._constraint, logits)
        except FormFault as fault:
            self._fault = Failed(str(fault), param="response_format")
            raise

    def _choose_within(self, constraint: Constraint, logits: "torch.Tensor") -> int:
        token = self._chooser.choose(logits, constraint)
        if token not in self._end_ids:
            constraint.take(token)
            # Nothing can follow: there is no need to ask the model for the end of its turn.
            self._has_ended_turn = constraint.is_complete
        return token

    def write(self) -> None:
        """Deliver the text that is certain by the tokens that were chosen."""
        while self._unwritten and not self._is_broken:
            self._is_broken = True
            token, score = self._unwritten.popleft()
            self._write_token(token, score)
            self._is_broken = False

    def _write_token(self, token: int, score: TokenScore | None) -> None:
        text = self._text.push(token)
        self._tokens.add(text)
        if score is not None:
            self._scores.add(score, text)
        certain = self._stops.push(text)
        self._send(certain)

    def finish(self) -> None:
        """Deliver what was held back, and the reason why the answer ended."""
        self.write()
        rest = self._stops.push(self._text.flush())
        rest += self._stops.flush()
        count = self._count()
        reason = self._reason()
        scores = self._scores.take_up_to(count)
        if rest or scores:
            piece = Piece(rest, scores)
            self._deliver(piece)
        finished = Finished(reason, count)
        self._end(finished)

    def cancel(self) -> None:
        """Deliver that it was cancelled, with what it has so far; that it failed otherwise."""
        self.cancelled.set()
        try:
            self.finish()
        except FAULTS:
            self.fail()

    def fail(self, message: str = _NO_ANSWER, param: str | None = None) -> None:
        """Deliver that the engine could not finish it, or why its form made it fail.

        `param`: the field of the request that made it fail.

        What it has so far comes before, as far as that can be written.
        """
        with suppress(*FAULTS):
            self.write()
        failed = self._fault or Failed(message, param)
        self._end(failed)

    def _end(self, event: Finished | Failed) -> None:
        # Exactly one event ends an answer, whoever comes first.
        if not self._is_delivered:
            self._is_delivered = True
            self._deliver(event)

    def _reason(self) -> Literal["stop", "length", "cancelled"]:
        if self._stops.is_stopped or self._has_ended_turn:
            return "stop"
        if self.cancelled.is_set():
            return "cancelled"
        return "length"

    def _count(self) -> int:
        tokens = self._tokens
        if not self._stops.is_stopped:
            return tokens.total
        characters = self._stops.kept
        return tokens.within(characters)

    def _send(self, text: str) -> None:
        if text == "":
            return
        characters = self._stops.kept
        scores = self._scores.take_ended_by(characters)
        piece = Piece(text, scores)
        self._deliver(piece)


class _HeldScores:
    """Scores of an answer's tokens, each until its text is certain."""

    def __init__(self) -> None:
        # Characters of the answer up to the end of each token's text.
        self._held: deque[tuple[int, TokenScore]] = deque()
        # Tokens whose character is not complete.
        self._incomplete: list[TokenScore] = []
        self._length = 0
        self._given = 0

    def add(self, score: TokenScore, text: str) -> None:
        """Hold the score of a token that completed that text."""
        self._incomplete.append(score)
        if text:
            self._length += len(text)
            self._complete()

    def take_ended_by(self, characters: int) -> tuple[TokenScore, ...]:
        """The scores of tokens that end within the first `characters` of the answer."""
        scores = []
        while self._held and self._held[0][0] <= characters:
            _, score = self._held.popleft()
            scores.append(score)
        self._given += len(scores)
        return tuple(scores)

    def take_up_to(self, count: int) -> tuple[TokenScore, ...]:
        """The next scores, so that `count` have been given in all."""
        self._complete()
        scores = [score for _, score in self._held]
        missing = count - self._given
        wanted = max(0, missing)
        return tuple(scores[:wanted])

    def _complete(self) -> None:
        for score in self._incomplete:
            ended = (self._length, score)
            self._held.append(ended)
        self._incomplete.clear()
