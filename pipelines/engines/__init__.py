"""Engines: loaded weights that answer requests. The endpoint knows them by this protocol alone.

    GenerationRequest ── Engine.submit ──▶ Piece, Piece, … ──▶ Finished | Failed

`transformers` is the reference engine, `openvino` computes the same rows by OpenVINO, and `vllm`
asks vLLM's own server. Each delivers its events from a thread of its own; `serving.answer` brings
them to the event loop. `engine_rows` asks them what is to be scored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from pipelines.engines.plain_text import PlainText
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec

if TYPE_CHECKING:
    import torch

TRANSFORMERS: Final = "transformers"
OPENVINO: Final = "openvino"
VLLM: Final = "vllm"
"""Names of engines, as a spec and `ASSAY_ENGINE` have them."""


class Constraint(Protocol):
    """Holds one answer to a form while it is generated."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer has all of the form, so that no token can follow."""

    @property
    def may_end(self) -> bool:
        """Whether the answer has the form as it is, though more may follow."""

    def mask(self, logits: "torch.Tensor") -> "torch.Tensor":
        """The logits, shape (vocabulary,), with minus infinity where a token cannot come next.

        `FormFault` where no token can be named.
        """

    def take(self, token: int) -> None:
        """Go on behind a token of the answer; `FormFault` where it does not fit."""


class Form(Protocol):
    """What answers are held to, ready for any number of them."""

    def begin(self) -> Constraint:
        """The constraint of one more answer."""


class FormFault(ValueError):
    """An answer cannot be held to its form any further; the message is for the client."""


class NotTaken(Exception):
    """Another engine than the one that scored does not serve this base or adapter.

    The message says why.
    """


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
    # How many of the likeliest tokens to name beside each token; None: no probabilities at all.
    top_logprobs: int | None = None
    # Whether the prompt's own tokens are scored as well: `PromptScores` then comes first.
    scores_prompt: bool = False
    # Tokens of the prompt before it are read only: they have no scores.
    scores_from: int = 0
    # What the answer is held to; None: any text.
    form: Form | None = None


@dataclass(frozen=True)
class TokenScore:
    """One token, and its probability given all before it: a natural logarithm, at most 0."""

    id: int
    text: str
    # None for the first token of a prompt, which nothing precedes.
    logprob: float | None
    # The likeliest tokens in its place, best first, each as its id, text and logarithm.
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class PromptScores:
    """The prompt's tokens from `scores_from` on, in their order; delivered before any piece."""

    tokens: tuple[TokenScore, ...]


@dataclass(frozen=True)
class Piece:
    """The next characters of an answer, and its tokens' scores where they were asked for.

    A token whose character is not complete yet comes with the piece that completes it.
    """

    text: str
    tokens: tuple[TokenScore, ...] = ()


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
    # The field of the request that made it fail; None: it was not the request.
    param: str | None = None


Event = PromptScores | Piece | Finished | Failed
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

    def plain_text(self, model: str) -> PlainText:
        """Text outside of conversations to token ids and back, for a model.

        `Refusal` where that model answers conversations alone.
        """

    def json_form(self, schema: str) -> Form:
        """What holds answers to a JSON Schema, which is given as JSON.

        It may take a second, so call it beside the event loop. `Refusal` where the engine holds
        answers to none, or not to this one.
        """

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        """Queue a request; `deliver` is called from the engine's own thread.

        The returned function cancels the request. `Refusal` where the queue is full.
        """

    def close(self) -> None:
        """Cancel what runs, and stop."""
