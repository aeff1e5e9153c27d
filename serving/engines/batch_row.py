"""One answer of a batch: what is in its slot, what it computes next, and what comes of it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.models.chat import ChatEncoder
from serving.engines import TokenScore
from serving.engines.row_model import Part
from serving.engines.running_answer import RunningAnswer
from serving.engines.token_choice import score_token

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
    prompt_scores: list[TokenScore] = field(default_factory=list)

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

    def next_part(self, slot: int, most: int) -> Part:
        """What it computes next: at most so many tokens of its prompt, or its last token."""
        start = self.computed
        tokens = self.tokens[start : start + most]
        scores_all = self.is_reading and self.answer.request.scores_prompt
        keep = len(tokens) if scores_all else 1
        return Part(slot, start, tokens, keep)

    def take(self, part: Part, logits: "torch.Tensor", encoder: ChatEncoder) -> None:
        """Go on by what was computed: logits of shape (kept tokens, vocabulary)."""
        scores_prompt = self.is_reading and self.answer.request.scores_prompt
        self.computed = part.end
        if scores_prompt:
            self._score_prompt(part, logits, encoder)
        if self.is_reading:
            return
        if scores_prompt:
            self.answer.give_prompt_scores(self.prompt_scores)
        if not self.answer.is_over:
            last = logits[-1]
            token = self.answer.take(last)
            self.tokens.append(token)

    def _score_prompt(
        self, part: Part, logits: "torch.Tensor", encoder: ChatEncoder
    ) -> None:
        """Score the tokens that the logits of a part predict."""
        start = part.start
        if start == 0:
            first = self.tokens[0]
            text = encoder.show([first])
            self.prompt_scores.append(TokenScore(first, text, None))
        top_count = self.answer.request.top_logprobs or 0
        predicted = self.tokens[start + 1 : part.end + 1]
        for place, token in enumerate(predicted):
            score = score_token(
                logits[place],
                token,
                top_count,
                encoder,
            )
            self.prompt_scores.append(score)
