"""Token ids of what clients ask, made beside the event loop."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pipelines.engines import Engine
from pipelines.engines.plain_text import PlainText
from pipelines.values.dataset import Message
from serving.openai_schema.completions import Prompt

_Encoded = TypeVar("_Encoded")
# Characters: up to here a tokenizer needs hundredths of a second.
_LONG_PROMPT = 32_768


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt that is no conversation."""

    text: str
    ids: tuple[int, ...]


class PromptEncoder:
    """Encodes for one engine. Long prompts one at a time, so that short ones find a thread."""

    def __init__(self, engine: Engine, long_prompt: asyncio.Lock) -> None:
        self._engine = engine
        self._long_prompt = long_prompt

    async def encode(self, messages: Sequence[Message], model: str) -> list[int]:
        """As the engine's own `prompt_ids`."""
        lengths = [len(message.content) for message in messages]
        encode = partial(self._engine.prompt_ids, messages, model)
        return await self._in_turn(sum(lengths), encode)

    async def encode_plain(
        self, prompts: Sequence[Prompt], model: str
    ) -> list[EncodedPrompt]:
        """Texts and token ids; `Refusal` where ids are control tokens or none of the model's."""
        plain_text = self._engine.plain_text(model)
        # Ids are counted as characters: to check one takes no longer.
        length = sum(len(prompt) for prompt in prompts)
        return await self._in_turn(
            length,
            lambda: [_encode_plain(prompt, plain_text) for prompt in prompts],
        )

    async def _in_turn(self, length: int, encode: Callable[[], _Encoded]) -> _Encoded:
        is_long = length > _LONG_PROMPT
        # Short ones do not wait: many long ones at once would take all the threads.
        turn = self._long_prompt if is_long else contextlib.nullcontext()
        async with turn:
            return await asyncio.to_thread(encode)


def _encode_plain(prompt: Prompt, plain_text: PlainText) -> EncodedPrompt:
    if isinstance(prompt, str):
        ids = plain_text.ids_of(prompt)
        return EncodedPrompt(prompt, tuple(ids))
    plain_text.check_ids(prompt)
    # For an echo. The ids stay those of the client: its text may have others.
    text = plain_text.text_of(prompt)
    return EncodedPrompt(
        text,
        prompt,
    )
