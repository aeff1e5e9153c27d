"""Clients that ask all the time, and write down how each request ended and how long it took."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import httpx

from tests.support.endpoint_system import MODEL, QUESTION, asking
from tests.support.waiting import SECONDS_AT_MOST, wait_until

WHOLE = "whole"
"""How a request ended that was answered to its end."""
_DONE = b"data: [DONE]\n\n"
_ERROR_FIELDS = {"message", "type", "param", "code"}


class Gap(NamedTuple):
    """The time between two pieces of a stream."""

    since: float
    until: float

    @property
    def seconds(self) -> float:
        return self.until - self.since

    def is_within(self, spans: Sequence[tuple[float, float]]) -> bool:
        """Whether any of it lies in one of these times."""
        return any(
            self.since < end and self.until > beginning for beginning, end in spans
        )


@dataclass(frozen=True)
class Outcome:
    """One request. Times are those of the monotonic clock, in seconds."""

    since: float
    until: float
    # `whole`, the code of an error in OpenAI's form, or what is none: `broken …`.
    end: str
    release: str = ""
    # When pieces of a stream came.
    pieces: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        return self.until - self.since

    def gaps(self) -> list[Gap]:
        """The times between two pieces of its stream."""
        return [Gap(*pair) for pair in pairwise(self.pieces)]


@dataclass
class WatchingClients:
    """Every second one streams. None of them tries again by itself."""

    url: str
    count: int = 8
    fields: dict[str, Any] = field(default_factory=lambda: {"max_tokens": 8})
    outcomes: list[Outcome] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator["WatchingClients"]:
        with asking(self._ask_on, self.count, self._stop):
            yield self

    def wait_for(self, count: int) -> list[Outcome]:
        """The next so many outcomes of requests that are sent from now on."""
        now = time.monotonic()
        wait_until(lambda: len(self.since(now)) >= count)
        return self.since(now)

    def wait_for_whole(self, since: float, release: str) -> Outcome:
        """The first answer of a release to a request that was sent after that moment."""

        def answers() -> list[Outcome]:
            return [
                each
                for each in self.since(since)
                if (each.end, each.release) == (WHOLE, release)
            ]

        wait_until(lambda: bool(answers()))
        return min(answers(), key=lambda each: each.until)

    def since(self, moment: float) -> list[Outcome]:
        """What became of requests that were sent after that."""
        return [each for each in tuple(self.outcomes) if each.since > moment]

    def ends(self) -> Counter[str]:
        """How often requests ended how."""
        return Counter(each.end for each in self.outcomes)

    def _ask_on(self, stream: bool) -> None:
        with httpx.Client(timeout=SECONDS_AT_MOST) as client:
            while not self._stop.is_set():
                outcome = ask(client, self.url, stream=stream, **self.fields)
                self.outcomes.append(outcome)
                # Whoever is told so waits a moment, or nothing else would be measured.
                if outcome.end != WHOLE:
                    self._stop.wait(0.1)


def ask(client: httpx.Client, url: str, **fields: Any) -> Outcome:
    """One request, and how it ended."""
    body = {"model": MODEL, "messages": QUESTION, **fields}
    pieces: list[float] = []
    content = b""
    since = time.monotonic()
    try:
        with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            for piece in response.iter_raw():
                pieces.append(time.monotonic())
                content += piece
    except httpx.HTTPError as error:
        end = f"broken: {type(error).__name__}: {error}"
        return Outcome(since, time.monotonic(), end)
    release = response.headers.get("x-assay-release", "")
    end = _end_of(response, content)
    is_stream = content.startswith(b"data: ")
    return Outcome(
        since, time.monotonic(), end, release, tuple(pieces) if is_stream else ()
    )


def _end_of(response: httpx.Response, content: bytes) -> str:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        if content.endswith(_DONE) and b'"error":' not in content:
            return WHOLE
        last = content.removesuffix(_DONE).rpartition(b"data: ")[2]
        return _code_of(last)
    if response.status_code == 200:
        reason = json.loads(content)["choices"][0]["finish_reason"]
        return WHOLE if reason in ("stop", "length") else f"broken: {reason}"
    if response.status_code == 503 and "retry-after" not in response.headers:
        return "broken: 503 without Retry-After"
    return _code_of(content)


def _code_of(content: bytes) -> str:
    """The code of an error in OpenAI's form; what it is otherwise."""
    try:
        error = json.loads(content)["error"]
        if set(error) == _ERROR_FIELDS and error["message"].endswith("."):
            return str(error["code"])
    except (ValueError, TypeError, KeyError):
        pass
    return f"broken: {content[-300:]!r}"


def percentile(seconds: list[float], percent: float) -> float:
    """The smallest of them that so many percent do not exceed."""
    ordered = sorted(seconds)
    place = int(len(ordered) * percent / 100)
    return ordered[min(place, len(ordered) - 1)]
