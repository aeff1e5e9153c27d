"""How many tokens an answer took, read from it while it is sent."""

import json
import math
import re
from contextlib import suppress
from typing import Any

from starlette.types import Message, Receive

from serving.paths import PROMPT_TOKENS_HEADER

_PROMPT_TOKENS = PROMPT_TOKENS_HEADER.encode()
# Bytes of a response's end that are looked at: the usage stands there.
_LONGEST_END = 4_096
# Engines write it without spaces; guardrails and kept answers write JSON anew, with spaces.
# No text of a model's matches: inside of a JSON string its quotes are escaped.
_USAGE = re.compile(rb'"usage":\s*(?=\{)')
_OK = 200
# English takes about four bytes a token, and other languages fewer.
_BYTES_A_TOKEN = 4


class BodyMeter:
    """Counts the bytes of a request's body while it is read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self._is_whole = False

    async def receive(self) -> Message:
        """The next message from the client."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
        return message

    @property
    def tokens(self) -> int:
        """About as many as its prompt has; 0 of a body that did not arrive whole."""
        if not self._is_whole:
            return 0
        return math.ceil(self._bytes / _BYTES_A_TOKEN)


class TokenMeter:
    """Reads one response.

    The usage that the response itself says counts. A stream says it only where its client asked:
    otherwise the prompt counts by its header, and each event as one token. A request that is
    refused took nothing, though its header may name the tokens of its prompt. One whose client left
    before any answer began counts by the size of its prompt: an engine may have read it all.
    """

    def __init__(self) -> None:
        self._has_begun = False
        self._is_answer = False
        self._prompt_tokens = 0
        self._events = 0
        self._end = b""

    def take(self, message: Message) -> None:
        """The next message to the client."""
        if message["type"] == "http.response.start":
            self._has_begun = True
            self._is_answer = message["status"] == _OK
            self._prompt_tokens = _read_number(message)
            return
        body = message.get("body", b"")
        # Not `[DONE]`, which is no event of the model's.
        self._events += body.count(b"data: {")
        self._end = (self._end + body)[-_LONGEST_END:]

    def end(self, tokens_of_request: int) -> None:
        """Nothing more comes. Without any answer so far the client left while it waited."""
        if not self._has_begun:
            self._is_answer = True
            self._prompt_tokens = tokens_of_request

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer, so far."""
        if not self._is_answer:
            return 0
        said = self._find_usage()
        if said is not None:
            return said
        return self._prompt_tokens + self._events

    def _find_usage(self) -> int | None:
        """The tokens that the response itself says; None where it does not."""
        places = [found.end() for found in _USAGE.finditer(self._end)]
        if not places:
            return None
        # The last one: what precedes it may be cut in two by the bytes that are kept.
        usage_text = self._end[places[-1] :]
        # A response that broke off says half of it: then its events count.
        with suppress(ValueError, KeyError, TypeError):
            usage = _decode_object(usage_text)
            return int(usage["total_tokens"])
        return None


def _decode_object(text: bytes) -> dict[str, Any]:
    """The JSON object at the beginning of a text."""
    decoder = json.JSONDecoder()
    decoded, _ = decoder.raw_decode(text.decode())
    return dict(decoded)


def _read_number(message: Message) -> int:
    for name, content in message.get("headers", []):
        if name == _PROMPT_TOKENS and content.isdigit():
            # Nine digits: Python refuses to read numbers of thousands of them.
            return int(content[:9])
    return 0
