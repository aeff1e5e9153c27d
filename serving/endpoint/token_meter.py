"""How many tokens an answer took, read from it while it is sent."""

import json
from contextlib import suppress
from typing import Any

from starlette.types import Message

from serving.paths import PROMPT_TOKENS_HEADER

_PROMPT_TOKENS = PROMPT_TOKENS_HEADER.encode()
# Bytes of a response's end that are looked at: the usage stands there.
_LONGEST_END = 4_096
_USAGE = b'"usage":{'


class TokenMeter:
    """Reads one response.

    The usage that the response itself says counts. A stream says it only where its client asked:
    otherwise the prompt counts by its header, and each event as one token.
    """

    def __init__(self) -> None:
        self._prompt_tokens = 0
        self._events = 0
        self._end = b""

    def take(self, message: Message) -> None:
        """The next message to the client."""
        if message["type"] == "http.response.start":
            self._prompt_tokens = _read_number(message)
            return
        body = message.get("body", b"")
        self._events += body.count(b"data: {")
        self._end = (self._end + body)[-_LONGEST_END:]

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer, so far."""
        place = self._end.rfind(_USAGE)
        if place >= 0:
            start = place + len(_USAGE) - 1
            with suppress(ValueError, KeyError, TypeError):
                usage: dict[str, Any] = _decode_object(self._end[start:])
                return int(usage["total_tokens"])
        return self._prompt_tokens + self._events


def _decode_object(text: bytes) -> dict[str, Any]:
    """The JSON object at the beginning of a text."""
    decoder = json.JSONDecoder()
    decoded, _ = decoder.raw_decode(text.decode())
    return dict(decoded)


def _read_number(message: Message) -> int:
    for name, content in message.get("headers", []):
        if name == _PROMPT_TOKENS and content.isdigit():
            return int(content[:9])
    return 0
