"""What is counted of answers while a release is watched. No text outlives the end of its answer."""

import asyncio
import json
import math
import time
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pipelines.rows.refusals import is_refusal
from registry.release.canary_counts import (
    CHARACTERS,
    RATIOS,
    SECONDS,
    Histogram,
    SideCounts,
)
from serving.endpoint.upstream import EngineLost
from serving.repetition import repeated_share

# Characters of an answer that are looked at, and bytes of a response that are kept for that.
_LONGEST_TEXT = 16_000
_LONGEST_RESPONSE = 1_000_000
_REPEATED_SHARE = 0.5
_OK = 200


class Bins:
    """A histogram that grows."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)

    def add(self, observed: float) -> None:
        """Count one observation by the edges that it is over."""
        # An observation on an edge is not over it.
        place = bisect_left(self._edges, observed)
        self._counts[place] += 1

    def freeze(self) -> Histogram:
        """As it is now."""
        return Histogram(counts=tuple(self._counts))


@dataclass
class Tally:
    """What one side answered, as numbers that only grow."""

    apart: float = 0.0
    """Seconds between two answers whose times are counted, at least."""
    requests: int = 0
    last: float | None = None
    """When it last answered or failed, on the monotonic clock."""
    _timed: float = -math.inf
    _rates: Counter[str] = field(default_factory=Counter)
    _latency: Bins = field(default_factory=lambda: Bins(SECONDS))
    _first_token: Bins = field(default_factory=lambda: Bins(SECONDS))
    _length: Bins = field(default_factory=lambda: Bins(CHARACTERS))
    _texture: Bins = field(default_factory=lambda: Bins(RATIOS))

    def add_times(self, seconds: float, first_token: float) -> None:
        """Count how long an answer took, also of one that its client did not wait for."""
        now = time.monotonic()
        # Answers of one moment are slow together: counted each, a short stall would look like
        # many independent slow answers.
        if now - self._timed < self.apart:
            return
        self._timed = now
        self._latency.add(seconds)
        self._first_token.add(first_token)

    def add_error(self) -> None:
        """Count a request that failed."""
        self._count_request()
        self._rates["errors"] += 1

    def add_answer(self, text: str) -> None:
        """Count a whole answer."""
        self._count_request()
        seen = text[:_LONGEST_TEXT]
        has_words = any(character.isalnum() for character in seen)
        self._rates["empties"] += not has_words
        # An empty answer is counted once: as empty.
        self._rates["refusals"] += has_words and is_refusal(seen, None)
        self._rates["repetition"] += repeated_share(seen) > _REPEATED_SHARE
        self._length.add(len(text))
        self._texture.add(compressed_ratio(seen))

    def freeze(self, memory_growth_mb: float | None = None) -> SideCounts:
        """As it is now."""
        return SideCounts(
            requests=self.requests,
            errors=self._rates["errors"],
            empties=self._rates["empties"],
            refusals=self._rates["refusals"],
            repetition=self._rates["repetition"],
            latency=self._latency.freeze(),
            first_token=self._first_token.freeze(),
            length=self._length.freeze(),
            texture=self._texture.freeze(),
            memory_growth_mb=memory_growth_mb,
        )

    def _count_request(self) -> None:
        self.requests += 1
        self.last = time.monotonic()


class Observation:
    """One request, from its beginning to its end. Without a tally nothing of it is kept."""

    def __init__(self, tally: Tally | None) -> None:
        # Of the response, as soon as its headers are there.
        self.status = 0
        self._tally = tally
        self._began = time.monotonic()
        self._first: float | None = None
        self._response = bytearray()

    def take(self, chunk: bytes) -> None:
        """A piece of the response, as it is sent to the client."""
        if self._tally is None or not chunk:
            return
        if self._first is None:
            self._first = time.monotonic()
        room = _LONGEST_RESPONSE - len(self._response)
        self._response += chunk[:room]

    def end(self) -> None:
        """The response is complete: one that refuses the request is an error, too."""
        if self._tally is None:
            return
        text = text_of(bytes(self._response))
        # Both sides refuse what is wrong in itself; a candidate may refuse more than that.
        if text is None or self.status != _OK:
            self.fail()
            return
        self._tally.add_answer(text)
        self.leave()

    def fail(self) -> None:
        """The engine gave no whole answer."""
        if self._tally is not None:
            self._tally.add_error()

    def leave(self) -> None:
        """Nobody waits any more: the answer took at least as long as until now."""
        # Left out, a candidate that hangs would seem quick: nobody waits for its answers.
        if self._tally is None:
            return
        now = time.monotonic()
        first = now if self._first is None else self._first
        self._tally.add_times(
            now - self._began,
            first - self._began,
        )


@contextmanager
def observing(tally: Tally | None) -> Iterator[Observation]:
    """Count the request that the context answers, however it ends."""
    observation = Observation(tally)
    try:
        yield observation
    except asyncio.CancelledError:
        observation.leave()
        raise
    except EngineLost:
        observation.fail()
        raise
    observation.end()


def text_of(response: bytes) -> str | None:
    """What a response says, whole or as a stream; None where it is, or ends in, an error."""
    if not response.startswith(b"data: "):
        return _content(response)
    pieces = []
    for line in response.split(b"\n"):
        event = line.removeprefix(b"data: ")
        if event == line or event.strip() == b"[DONE]":
            continue
        piece = _content(event)
        if piece is None:
            return None
        pieces.append(piece)
    return "".join(pieces)


def _content(document: bytes) -> str | None:
    with suppress(
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
    ):
        answer = json.loads(document)
        if "error" in answer:
            return None
        choices = answer.get("choices", [])
        return "".join(_content_of(choice) for choice in choices)
    # A response over the longest one that is kept is cut: what is whole of it counts.
    return ""


def _content_of(choice: dict[str, Any]) -> str:
    """What a choice says: of a completion, a whole answer in a chat, or a piece of one."""
    if "text" in choice:
        return str(choice["text"])
    part = choice.get("message") or choice["delta"]
    return part.get("content") or ""


def compressed_ratio(text: str) -> float:
    """Bytes that zlib needs, by bytes in UTF-8; 0 of an empty text.

    Loops compress well, noise hardly at all: prose of any language lies between.
    """
    raw = text.encode("utf-8", "replace")
    if not raw:
        return 0.0
    compressed = zlib.compress(raw)
    return len(compressed) / len(raw)
