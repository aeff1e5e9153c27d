"""What OpenAI's two forms of an answer have in common."""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from pipelines.engines import Finished, Piece, PromptScores, TokenScore
from pipelines.values.serving_spec import ServingSpec


@dataclass(frozen=True)
class AnswerMetadata:
    """What every part of one answer says about itself."""

    id: str
    # Seconds since 1970, as OpenAI's API counts them.
    created: int
    model: str
    system_fingerprint: str

    @classmethod
    def new(cls, kind: str, model: str, spec: ServingSpec) -> "AnswerMetadata":
        """A new answer of a model, whose id begins with its kind."""
        return cls(
            id=f"{kind}-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=model,
            system_fingerprint=spec.fingerprint,
        )

    def shared_fields(self) -> dict[str, Any]:
        """The fields that a completion and its chunks share."""
        return {
            "id": self.id,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


@dataclass
class TextParts:
    """What has come of one text."""

    pieces: list[Piece] = field(default_factory=list)
    prompt: tuple[TokenScore, ...] = ()
    finished: Finished | None = None

    def take(self, event: PromptScores | Piece | Finished) -> None:
        """Keep the next event."""
        if isinstance(event, PromptScores):
            self.prompt = event.tokens
        elif isinstance(event, Piece):
            self.pieces.append(event)
        else:
            self.finished = event

    @property
    def text(self) -> str:
        """What was generated."""
        texts = [piece.text for piece in self.pieces]
        return "".join(texts)

    @property
    def tokens(self) -> int:
        """How many tokens were generated."""
        if self.finished is None:
            return 0
        return self.finished.completion_tokens

    @property
    def reason(self) -> Literal["stop", "length"]:
        """Why it ended; `AssertionError` where it has not, which no engine does."""
        if self.finished is None or self.finished.reason == "cancelled":
            raise AssertionError("a text ends in Finished, and nobody cancelled it")
        return self.finished.reason


class AnswerForm(Protocol):
    """One way to write an answer."""

    @property
    def text_count(self) -> int:
        """How many texts the answer has."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""

    def write_whole(self, parts: Sequence[TextParts]) -> BaseModel:
        """The answer, once every text is complete."""

    def write_chunks(
        self, number: int, event: PromptScores | Piece | Finished
    ) -> Iterator[BaseModel]:
        """What a stream says when that happens to a text."""

    def write_usage(self, completion_tokens: int) -> BaseModel:
        """The chunk that counts tokens, which is the last one and has no choice."""
