"""What `POST /v1/chat/completions` answers, whole and as chunks."""

from typing import Any, Literal

from pydantic import model_serializer

from serving.openai_schema.fields import WireValue
from serving.openai_schema.usage import Usage

FinishReason = Literal["stop", "length"]


class TopToken(WireValue):
    """A token, and the natural logarithm of its probability given all before it."""

    token: str
    logprob: float
    # In UTF-8; None where the token is only a part of a character.
    bytes: tuple[int, ...] | None


class TokenLogprob(TopToken):
    """A token of the answer, and the likeliest ones in its place, best first."""

    top_logprobs: tuple[TopToken, ...]


class ChatLogprobs(WireValue):
    """The tokens of an answer."""

    content: tuple[TokenLogprob, ...]
    refusal: None = None


class AssistantMessage(WireValue):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(WireValue):
    """One of the answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(WireValue):
    """Whole answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[Choice, ...]
    usage: Usage


class Delta(WireValue):
    """What a chunk adds; on the wire only that."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer
    def _only_what_is_new(self) -> dict[str, Any]:
        fields = {
            "role": self.role,
            "content": self.content,
        }
        return {name: text for name, text in fields.items() if text is not None}


class ChunkChoice(WireValue):
    """A piece of one of the answers."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(WireValue):
    """A piece of an answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None
