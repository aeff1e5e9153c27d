"""What clients write, as token ids of one model: the same in every engine."""

from collections.abc import Mapping, Sequence

from core.errors import AssayError
from pipelines.engines.plain_text import PlainText
from pipelines.engines.refusal import Refusal
from pipelines.models.chat import ChatEncoder
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec


class ModelTexts:
    """Conversations and plain texts for the models of one engine."""

    def __init__(self, encoder: ChatEncoder, specs: Mapping[str, ServingSpec]) -> None:
        self._encoder = encoder
        self._specs = specs
        self._plain_text = PlainText(encoder)

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        """Token ids of a conversation with a model; what a user types in it stays text.

        A prompt that was released stands before it, and never before one with the base.

        `Refusal` where the chat template or the tokenizer refuses the messages.
        """
        from jinja2 import TemplateError

        encoder = self._encoder
        if self._specs[model].adapter_sha256 is None:
            encoder = encoder.bare
        try:
            return encoder.prompt_ids(messages)
        except TemplateError as error:
            raise Refusal(
                f"The model's chat template refuses these messages: {error}.",
                param="messages",
            ) from error
        except AssayError as error:
            raise Refusal(str(error), param="messages") from error

    def plain_text(self, model: str) -> PlainText:
        """Text outside of conversations; `Refusal` where a prompt stands before each of them."""
        has_prompt = self._encoder.prompt is not None
        if has_prompt and self._specs[model].adapter_sha256 is not None:
            raise Refusal(
                f"{model} is a prompt that stands before conversations: "
                "send messages to POST /v1/chat/completions.",
                param="model",
            )
        return self._plain_text
