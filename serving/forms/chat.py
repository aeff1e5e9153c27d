"""Answers of `POST /v1/chat/completions`."""

from collections.abc import Iterator, Sequence

from pipelines.engines import Finished, Piece, PromptScores, TokenScore
from pipelines.models.incremental_text import NOT_YET
from serving.forms.common import AnswerMetadata, TextParts
from serving.openai_schema.chat_answers import (
    AssistantMessage,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    Choice,
    ChunkChoice,
    Delta,
    TokenLogprob,
    TopToken,
)
from serving.openai_schema.usage import Usage

# No engine gives a probability of 0: the logarithm of the least that OpenAI's API writes.
_LEAST_LOGARITHM = -9999.0


class ChatForm:
    """One conversation, and one or more answers to it."""

    def __init__(
        self,
        metadata: AnswerMetadata,
        *,
        prompt_tokens: int,
        text_count: int,
        has_logprobs: bool,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.text_count = text_count
        self._metadata = metadata
        self._has_logprobs = has_logprobs
        self._opened: set[int] = set()

    def write_whole(self, parts: Sequence[TextParts]) -> ChatCompletion:
        """All answers."""
        choices = [self._choice(number, each) for number, each in enumerate(parts)]
        # Engines count them: a piece of text may be of several tokens.
        count = sum(each.tokens for each in parts)
        return ChatCompletion(
            **self._metadata.shared_fields(),
            choices=tuple(choices),
            usage=Usage.of(self.prompt_tokens, count),
        )

    def write_chunks(
        self, number: int, event: PromptScores | Piece | Finished
    ) -> Iterator[ChatChunk]:
        """A text's first chunk says who speaks, its last one why it ended."""
        if number not in self._opened:
            self._opened.add(number)
            opening = Delta(role="assistant", content="")
            yield self._chunk(ChunkChoice(index=number, delta=opening))
        if isinstance(event, Piece):
            choice = ChunkChoice(
                index=number,
                delta=Delta(content=event.text),
                logprobs=self._logprobs((event,)),
            )
            yield self._chunk(choice)
        elif isinstance(event, Finished):
            ended = TextParts(finished=event)
            choice = ChunkChoice(
                index=number, delta=Delta(), finish_reason=ended.reason
            )
            yield self._chunk(choice)

    def write_usage(self, completion_tokens: int) -> ChatChunk:
        """The chunk that counts tokens."""
        return ChatChunk(
            **self._metadata.shared_fields(),
            choices=(),
            usage=Usage.of(self.prompt_tokens, completion_tokens),
        )

    def _choice(self, number: int, parts: TextParts) -> Choice:
        return Choice(
            index=number,
            message=AssistantMessage(content=parts.text),
            logprobs=self._logprobs(parts.pieces),
            finish_reason=parts.reason,
        )

    def _chunk(self, choice: ChunkChoice) -> ChatChunk:
        fields = self._metadata.shared_fields()
        return ChatChunk(**fields, choices=(choice,))

    def _logprobs(self, pieces: Sequence[Piece]) -> ChatLogprobs | None:
        if not self._has_logprobs:
            return None
        scores = [score for piece in pieces for score in piece.tokens]
        return ChatLogprobs(content=tuple(_write_token(score) for score in scores))


def _write_token(score: TokenScore) -> TokenLogprob:
    top = tuple(_write_top(text, logarithm) for _, text, logarithm in score.top)
    own = _write_top(score.text, score.logprob)
    return TokenLogprob(
        token=own.token,
        logprob=own.logprob,
        bytes=own.bytes,
        top_logprobs=top,
    )


def _write_top(text: str, logarithm: float | None) -> TopToken:
    is_whole = NOT_YET not in text
    return TopToken(
        token=text,
        logprob=_LEAST_LOGARITHM if logarithm is None else finite(logarithm),
        bytes=tuple(text.encode()) if is_whole else None,
    )


def finite(logarithm: float) -> float:
    """The logarithm, or of a probability that is 0 the least that JSON can hold."""
    # In this order NaN stays NaN, which the schema of answers refuses.
    return max(logarithm, _LEAST_LOGARITHM)
