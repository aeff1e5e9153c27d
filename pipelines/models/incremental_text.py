"""Tokens to text as they come, at a constant cost a token.

A character may take several tokens. Scoring reads an answer in the same way as serving writes it:
some tokenizers decode valid bytes beside invalid ones to nothing, if they see them together.
"""

from collections.abc import Callable, Sequence

# What decoding gives for a character whose last bytes are still to come.
NOT_YET = "\ufffd"
# Tokens without a whole character: not text any more, so it is given as it decodes.
_LONGEST_WAIT = 64


class IncrementalText:
    """Decode a growing sequence by looking at its last few tokens only.

    Each token is decoded together with the one before it, since decoders treat the first token
    of a sequence differently.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """The text that this token completes, which may be none."""
        self._pending.append(token)
        text = self._decode_pending()
        is_whole = text != "" and not text.endswith(NOT_YET)
        waits_too_long = len(self._pending) >= _LONGEST_WAIT
        if is_whole or waits_too_long:
            return self._commit(text)
        return ""

    def flush(self) -> str:
        """Whatever is left, an unfinished character included."""
        text = self._decode_pending()
        return self._commit(text)

    def _decode_pending(self) -> str:
        tokens = [*self._context, *self._pending]
        whole = self._decode(tokens)
        context = self._decode(self._context)
        context_length = len(context)
        return whole[context_length:]

    def _commit(self, text: str) -> str:
        # Tokens that gave text are the context of the next ones; older tokens are not needed.
        if self._pending:
            self._context = self._pending
        self._pending = []
        return text
