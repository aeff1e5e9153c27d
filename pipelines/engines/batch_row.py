"""One answer of a batch: what is in its slot, what it computes next, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pipelines.engines import TokenScore
from pipelines.engines.guesses import Guesses
from pipelines.engines.row_model import Part
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.token_choice import score_token
from pipelines.models.chat import ChatEncoder

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class Row:
    """An answer in its slot. Not frozen: it grows with each token."""

    answer: RunningAnswer
    # Of the prompt, and then of the answer. All but the last are in the slot once it is read.
    tokens: list[int]
    # How many of them are in the slot.
    computed: int = 0
    # Whether a token was chosen behind all that is in the slot: until then nobody has seen that
    # it is finite.
    is_checked: bool = False
    prompt_scores: list[TokenScore] = field(default_factory=list)
    guesses: Guesses = field(default_factory=Guesses)

    @property
    def needs(self) -> int:
        """Positions that it may come to have."""
        request = self.answer.request
        return len(request.prompt) + request.max_tokens

    @property
    def is_reading(self) -> bool:
        """Whether a part of its prompt is not computed yet."""
        request = self.answer.request
        return self.computed < len(request.prompt)

    @property
    def first_needed(self) -> int:
        """The first position of the prompt whose logits are needed."""
        request = self.answer.request
        last = len(self.tokens) - 1
        if not request.scores_prompt:
            return last
        # Each token is predicted by the one before it.
        return min(last, max(0, request.scores_from - 1))

    def next_prompt_part(self, slot: int, most: int) -> Part:
        """At most so many tokens of its prompt."""
        start = self.computed
        tokens = self.tokens[start : start + most]
        end = start + len(tokens)
        keep = max(1, end - max(start, self.first_needed))
        return Part(slot, start, tokens, keep, self.answer.adapter)

    def next_step(self, slot: int, most_guesses: int) -> Part:
        """Its last token, and at most so many that are guessed to follow."""
        guessed = self._guess(most_guesses)
        tokens = [self.tokens[-1], *guessed]
        return Part(slot, self.computed, tokens, len(tokens), self.answer.adapter)

    def take(self, part: Part, logits: "torch.Tensor", encoder: ChatEncoder) -> None:
        """Go on by what was computed: logits of shape (kept tokens, vocabulary)."""
        self.is_checked = False
        if not self.is_reading:
            self._take_guessed(part, logits)
            return
        self.computed = part.end
        scores_prompt = self.answer.request.scores_prompt
        if scores_prompt:
            self._score_prompt(part, logits, encoder)
        if self.is_reading:
            return
        if scores_prompt:
            self.answer.give_prompt_scores(self.prompt_scores)
        if not self.answer.is_over:
            self._take_next(logits[-1])
        elif scores_prompt:
            # What it leaves in its slot may be where the next row begins.
            self.is_checked = bool(logits[-1].max().isfinite())

    def _take_guessed(self, part: Part, logits: "torch.Tensor") -> None:
        """Take tokens for as long as those that were computed behind them are the ones chosen."""
        for place, computed in enumerate(part.tokens):
            # The first one was chosen before.
            is_right = computed == self.tokens[-1]
            if not is_right or self.answer.is_over:
                return
            self.computed += 1
            self._take_next(logits[place])

    def _take_next(self, logits: "torch.Tensor") -> None:
        token = self.answer.take(logits)
        self.tokens.append(token)
        self.is_checked = True

    def _guess(self, most: int) -> Sequence[int]:
        request = self.answer.request
        # The step itself gives one more token than is guessed.
        wanted = self.needs - len(self.tokens) - 1
        count = min(most, wanted)
        # What is drawn by chance seldom repeats.
        if count <= 0 or request.temperature > 0:
            return ()
        return self.guesses.guess(self.tokens, count)

    def _score_prompt(
        self, part: Part, logits: "torch.Tensor", encoder: ChatEncoder
    ) -> None:
        """Score the tokens that the logits of a part predict."""
        request = self.answer.request
        # Nothing precedes it.
        if part.start == 0 and request.scores_from == 0:
            first = self.tokens[0]
            text = encoder.show([first])
            self.prompt_scores.append(TokenScore(first, text, None))
        top_count = request.top_logprobs or 0
        begin = max(part.start, self.first_needed)
        predicted = self.tokens[begin + 1 : part.end + 1]
        for place, token in enumerate(predicted):
            score = score_token(
                logits[place],
                token,
                top_count,
                encoder,
            )
            self.prompt_scores.append(score)


@dataclass
class Held:
    """Tokens whose keys and values a slot holds, and the adapter that computed them."""

    tokens: list[int] = field(default_factory=list)
    adapter: int | None = None

    @classmethod
    def of(cls, row: Row) -> Self:
        """What is computed of a row."""
        tokens = row.tokens[: row.computed]
        return cls(tokens, row.answer.adapter)

    def copy(self) -> "Held":
        """The same in another slot."""
        return Held(list(self.tokens), self.adapter)

    def count_shared(self, row: Row) -> int:
        """How many tokens a row begins with whose keys and values are here."""
        # Those of another adapter are others, and would give an answer that is nobody's.
        if self.adapter != row.answer.adapter:
            return 0
        shared = 0
        for one, other in zip(self.tokens, row.tokens, strict=False):
            if one != other:
                break
            shared += 1
        return shared
