"""What the endpoint asks of an engine, and no more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec


@dataclass(frozen=True)
class Order:
    """One answer to make. Temperature 0 is greedy."""

    model: str
    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Piece:
    """The next characters of an answer."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The answer is whole. `completion_tokens` counts the tokens of its text.

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
    """Loaded weights that answer orders. Every order ends in exactly one `Finished` or `Failed`."""

    @property
    def specs(self) -> Mapping[str, ServingSpec]:
        """What answers under each model name."""

    @property
    def context_tokens(self) -> int:
        """Longest prompt and answer together."""

    @property
    def is_ready(self) -> bool:
        """Orders are being answered."""

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation, up to where the answer begins; a `Refusal` where the chat template refuses it."""

    def submit(self, order: Order, deliver: Deliver) -> Cancel:
        """Queue an order; `deliver` is called from the engine's own thread. A full queue is a `Refusal`."""

    def close(self) -> None:
        """Cancel what runs, and stop."""
