"""Answers that are kept for requests that are repeated word for word, within a number of bytes.

Only what is bound to be answered alike again is kept: greedy answers, and drawn ones with a seed.
A key holds the fingerprint of what answered and whose request it was, so that no answer is ever
given for another release, nor to somebody else. An answer that is counted for a canary is neither
kept nor given.
"""

import hashlib
import json
import time
import uuid
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from starlette.types import Message, Send

from serving.openai_schema.generation import LEAST_TEMPERATURE

CACHE_HEADER = b"x-assay-cache"
# They change nothing of an answer.
_LABELS = frozenset(
    {
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        # Only whole answers are kept. `stream_options` is none of these: without a stream
        # its engine refuses it, and a kept answer would not.
        "stream",
    }
)
# Bytes of a single answer: one that fills the cache would empty it.
_LONGEST = 1_000_000
# Bytes that Python needs beside those of an answer.
_OVERHEAD = 512
_OK = 200


class AnswerCache:
    """The answers, the least recently used one first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._answers: OrderedDict[str, bytes] = OrderedDict()

    def key_of(
        self, body: bytes, path: str, fingerprint: str, tenant: str
    ) -> str | None:
        """What an answer to that request is kept under; None where none is to be kept."""
        if not self._most_bytes:
            return None
        # What is no JSON is refused by the engine.
        with suppress(ValueError):
            request = json.loads(body)
            if _is_repeatable(request):
                return _digest(request, path, fingerprint, tenant)
        return None

    def find(self, key: str) -> bytes | None:
        """The answer, as a new one: with an id and a time of its own."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        self._answers.move_to_end(key)
        document = json.loads(answer)
        # Ratings go by id: two clients with one id would rate one answer.
        kind, _, _ = str(document["id"]).partition("-")
        document["id"] = f"{kind}-{uuid.uuid4().hex}"
        document["created"] = int(time.time())
        text = json.dumps(document, ensure_ascii=False)
        return text.encode()

    def keep(self, key: str, answer: bytes) -> None:
        """Keep an answer; the ones that were not asked for the longest time make room."""
        size = len(answer) + _OVERHEAD
        if len(answer) > _LONGEST or size > self._most_bytes:
            return
        # Two requests at once may both have missed it: its bytes count once.
        self._forget(key)
        self._answers[key] = answer
        self._bytes += size
        while self._bytes > self._most_bytes:
            oldest = next(iter(self._answers))
            self._forget(oldest)

    def _forget(self, key: str) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= len(answer) + _OVERHEAD


class CacheWriter:
    """Reads a response while it is sent, marks it, and keeps it where it is a whole answer."""

    def __init__(self, cache: AnswerCache, key: str, send: Send) -> None:
        self._cache = cache
        self._key = key
        self._send = send
        self._is_answer = False
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """The next message to the client."""
        if message["type"] == "http.response.start":
            self._is_answer = message["status"] == _OK
            if self._is_answer:
                message = _marked_miss(message)
        else:
            self._body += message.get("body", b"")
        await self._send(message)
        is_body = message["type"] == "http.response.body"
        is_last = is_body and not message.get("more_body", False)
        # An answer whose engine or client left before its end never comes to its last message.
        if is_last and self._is_answer:
            self._cache.keep(self._key, bytes(self._body))


def _marked_miss(message: Message) -> Message:
    headers = [*message["headers"], (CACHE_HEADER, b"miss")]
    return {**message, "headers": headers}


def _is_repeatable(request: Any) -> bool:
    if not isinstance(request, dict) or request.get("stream"):
        return False
    # Numbers that are drawn with a seed are drawn alike each time.
    if request.get("seed") is not None:
        return True
    # Of a wrong type: the engine refuses it, and a refusal is not kept.
    temperature = request.get("temperature") or 0
    return isinstance(temperature, int | float) and temperature < LEAST_TEMPERATURE


def _digest(request: dict[str, Any], path: str, fingerprint: str, tenant: str) -> str:
    asked: dict[str, Any] = {}
    for name, field in request.items():
        is_label = name in _LABELS
        # A field that is null is one that was left out.
        if is_label or field is None:
            continue
        asked[name] = field
    # As a text: properties of an answer come in the order of its schema, which sorting would lose.
    if "response_format" in asked:
        asked["response_format"] = json.dumps(asked["response_format"])
    # As a list: joined into one text, a tenant and a path could pass for another pair.
    facts = [path, fingerprint, tenant, asked]
    canonical = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
