"""Answers of `POST /v1/completions`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.engines import Finished, Piece, PromptScores, TokenScore
from serving.forms.chat import finite
from serving.forms.common import AnswerMetadata, TextParts
from serving.openai_schema.completion_answers import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
)
from serving.openai_schema.usage import Usage

# Characters between the end of a token's text and the beginning of the next one's.
_FURTHEST = 4
# The token that ended a text, where its engine does not say which it was.
_UNSCORED_END = TokenScore(id=-1, text="", logprob=None)


@dataclass(frozen=True)
class CompletionOptions:
    """Which parts of a text a client asked for."""

    has_logprobs: bool = False
    echoes: bool = False
    # Texts to each prompt.
    repeats: int = 1


class CompletionForm:
    """One or more prompts, and one or more texts that go on with each."""

    def __init__(
        self,
        metadata: AnswerMetadata,
        prompts: Sequence[tuple[str, int]],
        options: CompletionOptions,
    ) -> None:
        """`prompts` holds each prompt's text and its number of tokens."""
        token_counts = [tokens for _, tokens in prompts]
        self.prompt_tokens = sum(token_counts)
        self.text_count = len(prompts) * options.repeats
        self._metadata = metadata
        self._options = options
        self._prompts = [text for text, _ in prompts]
        # Characters of each text that a stream has sent.
        self._sent = [0] * self.text_count
        self._opened: set[int] = set()

    def write_whole(self, parts: Sequence[TextParts]) -> Completion:
        """All texts."""
        choices = [
            self._whole_choice(number, each) for number, each in enumerate(parts)
        ]
        completion_tokens = sum(each.tokens for each in parts)
        usage = Usage.of(self.prompt_tokens, completion_tokens)
        return self._completion(choices, usage)

    def write_chunks(
        self, number: int, event: PromptScores | Piece | Finished
    ) -> Iterator[Completion]:
        """An echo comes first, then the pieces, then why the text ended."""
        if number not in self._opened and self._options.echoes:
            # Scored only where probabilities are asked for; the echo comes first in any case.
            scores = event.tokens if isinstance(event, PromptScores) else ()
            yield self._piece(number, self._echo(number), scores)
        self._opened.add(number)
        if isinstance(event, Piece):
            yield self._piece(number, event.text, event.tokens)
        elif isinstance(event, Finished):
            ended = TextParts(finished=event)
            last = CompletionChoice(
                index=number,
                text="",
                finish_reason=ended.reason,
            )
            yield self._completion([last])

    def write_usage(self, completion_tokens: int) -> Completion:
        """The chunk that counts tokens."""
        usage = Usage.of(self.prompt_tokens, completion_tokens)
        return self._completion([], usage)

    def _whole_choice(self, number: int, parts: TextParts) -> CompletionChoice:
        text = self._echo(number) + parts.text
        scores = [*parts.prompt, *self._answer_scores(parts)]
        return CompletionChoice(
            index=number,
            text=text,
            logprobs=self._logprobs(text, scores),
            finish_reason=parts.reason,
        )

    def _answer_scores(self, parts: TextParts) -> list[TokenScore]:
        scores = [score for piece in parts.pieces for score in piece.tokens]
        has_ended_at_once = parts.reason == "stop" and not scores
        # A client that scores a prompt leaves out the last token, which it takes for the answer's.
        if has_ended_at_once and self._options.echoes:
            return [_UNSCORED_END]
        return scores

    def _piece(
        self, number: int, text: str, scores: Sequence[TokenScore]
    ) -> Completion:
        choice = CompletionChoice(
            index=number,
            text=text,
            logprobs=self._logprobs(text, scores, self._sent[number]),
            finish_reason=None,
        )
        self._sent[number] += len(text)
        return self._completion([choice])

    def _echo(self, number: int) -> str:
        options = self._options
        if not options.echoes:
            return ""
        # Texts of one prompt follow each other.
        place = number // options.repeats
        return self._prompts[place]

    def _completion(
        self, choices: Sequence[CompletionChoice], usage: Usage | None = None
    ) -> Completion:
        return Completion(
            **self._metadata.shared_fields(),
            choices=tuple(choices),
            usage=usage,
        )

    def _logprobs(
        self, text: str, scores: Sequence[TokenScore], sent: int = 0
    ) -> CompletionLogprobs | None:
        """Scores of the tokens of a text, before which a stream has sent so many characters."""
        if not self._options.has_logprobs:
            return None
        offsets = _find_offsets(text, scores)
        return CompletionLogprobs(
            tokens=tuple(score.text for score in scores),
            token_logprobs=tuple(_write_logarithm(score) for score in scores),
            top_logprobs=tuple(_write_top(score) for score in scores),
            text_offset=tuple(sent + offset for offset in offsets),
        )


def _find_offsets(text: str, scores: Sequence[TokenScore]) -> Iterator[int]:
    """Where tokens begin in their text.

    A token by itself may read otherwise than in its place: a mark has no text there, a first word
    a space before it, and a part of a character is none.
    """
    position = 0
    for score in scores:
        token = score.text
        place = text.find(token, position, position + len(token) + _FURTHEST)
        start = position if place < 0 else place
        yield start
        position = start if place < 0 else start + len(token)


def _write_logarithm(score: TokenScore) -> float | None:
    if score.logprob is None:
        return None
    return finite(score.logprob)


def _write_top(score: TokenScore) -> dict[str, float] | None:
    """The likeliest tokens by their texts, and the token itself; None where nothing precedes it."""
    if score.logprob is None:
        return None
    top: dict[str, float] = {}
    # Of two tokens with one text the likelier one is shown.
    for _, text, logarithm in score.top:
        top.setdefault(text, finite(logarithm))
    top.setdefault(score.text, finite(score.logprob))
    return top
