"""Engines: loaded weights that answer requests. The endpoint knows them by this protocol alone.

    GenerationRequest ── Engine.submit ──▶ Piece, Piece, … ──▶ Finished | Failed

`transformers` is the reference engine. It delivers its events from a thread of its own;
`serving.answer` brings them to the event loop.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec


@dataclass(frozen=True)
class GenerationRequest:
    """One answer to generate. Temperature 0 is greedy."""

    model: str
    # Token ids of the whole conversation, up to where the answer begins.
    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    # None: another answer each time.
    seed: int | None = None


@dataclass(frozen=True)
class Piece:
    """The next characters of an answer."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The answer is complete. `completion_tokens` counts the tokens of its text.

    Neither the token that ends the turn counts, nor those that a stop string cut off whole.
    """

    reason: Literal["stop", "length", "cancelled"]
    completion_tokens: int


@dataclass(frozen=True)
class Failed:
    """The engine could not finish the answer."""

    message: str


Event = Piece | Finished | Failed
Deliver = Callable[[Event], None]
Cancel = Callable[[], None]


class Engine(Protocol):
    """Loaded weights that answer. Every request ends in exactly one `Finished` or `Failed`."""

    @property
    def specs(self) -> Mapping[str, ServingSpec]:
        """What answers under each model name."""

    @property
    def context_tokens(self) -> int:
        """Largest number of tokens of prompt and answer together."""

    @property
    def is_ready(self) -> bool:
        """Whether requests are being answered."""

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        """Token ids of a conversation with a model, up to where the answer begins.

        `Refusal` where the chat template refuses the messages.
        """

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        """Queue a request; `deliver` is called from the engine's own thread.

        The returned function cancels the request. `Refusal` where the queue is full.
        """

    def close(self) -> None:
        """Cancel what runs, and stop."""
