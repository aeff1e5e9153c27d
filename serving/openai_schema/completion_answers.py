"""What `POST /v1/completions` answers, whole and as chunks."""

from typing import Literal

from serving.openai_schema.chat_answers import FinishReason
from serving.openai_schema.fields import WireValue
from serving.openai_schema.usage import Usage


class CompletionLogprobs(WireValue):
    """Tokens in their order, in lists of one length.

    Also the token that ends the answer, which has no text. A logarithm is None where nothing
    precedes the token, or where the engine does not give it.
    """

    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float] | None, ...]
    # Where each token begins, in characters from the beginning of the choice's text.
    text_offset: tuple[int, ...]


class CompletionChoice(WireValue):
    """One text; choices of one prompt follow each other."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    # None in a chunk that is not the choice's last.
    finish_reason: FinishReason | None


class Completion(WireValue):
    """Whole texts, or a piece of one of them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[CompletionChoice, ...]
    # None in the chunks of a stream but the last.
    usage: Usage | None = None
