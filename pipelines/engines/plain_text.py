"""Text that stands in no conversation, and token ids that clients send.

What a client writes as text never becomes a control token, and no control token may be among the
ids that it sends. One exception: the mark that begins a text may be the first id.
"""

from collections.abc import Sequence
from functools import cached_property

from pipelines.engines.refusal import Refusal
from pipelines.models.chat import ChatEncoder

# Characters of a token that an error message quotes.
_LONGEST_SHOWN = 40


class PlainText:
    """Text to token ids and back, as one base's tokenizer has them."""

    def __init__(self, encoder: ChatEncoder) -> None:
        self._encoder = encoder

    def ids_of(self, text: str) -> list[int]:
        """Token ids of a text, behind the mark that the tokenizer itself puts before texts.

        `Refusal` where that is no token at all.
        """
        ids = self._encoder.encode_plain(text)
        if not ids:
            raise Refusal(
                "prompt is an empty text, which is no token in this model: "
                "send at least one character.",
                param="prompt",
            )
        return ids

    def check_ids(self, ids: Sequence[int]) -> None:
        """Return only if these are tokens of text, but for the mark that may begin them.

        `Refusal` otherwise.
        """
        for place, token in enumerate(ids):
            if place == 0 and token == self._beginning:
                continue
            self._check_id(token)

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of tokens, without the mark at its beginning."""
        return self._encoder.decode_together(ids)

    def _check_id(self, token: int) -> None:
        if token not in self._vocabulary:
            raise Refusal(
                f"prompt holds the token id {token}, which this model does not have: "
                "send ids of its own tokenizer.",
                param="prompt",
            )
        if token in self._encoder.control_ids:
            shown = self._encoder.show([token])[:_LONGEST_SHOWN]
            raise Refusal(
                f"prompt holds the token id {token} ({shown}), a control token, "
                "and only tokens of text are taken here: send it without, or send messages to "
                "POST /v1/chat/completions.",
                param="prompt",
            )

    # Kept: the tokenizer builds it anew each time, of a hundred thousand entries.
    @cached_property
    def _vocabulary(self) -> frozenset[int]:
        tokenizer = self._encoder.tokenizer
        vocabulary = tokenizer.get_vocab()
        ids = vocabulary.values()
        return frozenset(ids)

    @property
    def _beginning(self) -> int | None:
        """The token that begins a text; without one, the token that ends the text before it."""
        tokenizer = self._encoder.tokenizer
        if tokenizer.bos_token_id is not None:
            return int(tokenizer.bos_token_id)
        if tokenizer.eos_token_id is not None:
            return int(tokenizer.eos_token_id)
        return None
