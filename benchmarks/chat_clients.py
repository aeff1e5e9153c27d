"""Clients of OpenAI's chat API that stream one answer after the other, and what they saw.

They speak HTTP by the standard library, so that a client costs the processor that it shares with
the server as little as it can.
"""

import http.client
import json
import queue
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_SECONDS_AT_MOST = 300.0
_PREFIX = b"data: "
_END = b"[DONE]"


@dataclass(frozen=True)
class Target:
    """A server to ask, the model's name there, and fields that it needs beside OpenAI's."""

    url: str
    model: str
    extra: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Streamed:
    """One answer: seconds to its first text and to its end, and its tokens."""

    first: float
    whole: float
    tokens: int


@dataclass(frozen=True)
class Measured:
    """Answers of some clients in one stretch of time."""

    seconds: float
    answers: tuple[Streamed, ...]

    @property
    def tokens_per_second(self) -> float:
        """Of all clients together."""
        return sum(answer.tokens for answer in self.answers) / self.seconds

    @property
    def first_p50(self) -> float:
        """Median seconds to the first text."""
        return statistics.median(answer.first for answer in self.answers)

    @property
    def first_p95(self) -> float:
        """95th percentile of the seconds to the first text."""
        return _percentile([answer.first for answer in self.answers], 0.95)

    @property
    def whole_p50(self) -> float:
        """Median seconds to the end of an answer."""
        return statistics.median(answer.whole for answer in self.answers)

    @property
    def whole_p95(self) -> float:
        """95th percentile of the seconds to the end of an answer."""
        return _percentile([answer.whole for answer in self.answers], 0.95)

    def figures(self) -> dict[str, float]:
        """All of them, rounded."""
        return {
            "tokens_per_second": round(self.tokens_per_second, 1),
            "ttft_p50_s": round(self.first_p50, 3),
            "ttft_p95_s": round(self.first_p95, 3),
            "latency_p50_s": round(self.whole_p50, 3),
            "latency_p95_s": round(self.whole_p95, 3),
        }


def measure(
    target: Target, questions: Sequence[str], clients: int, max_tokens: int
) -> Measured:
    """Have so many clients ask all questions once; each begins when it is free."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for question in questions:
        waiting.put(question)
    answers: list[Streamed] = []
    faults: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                question = waiting.get_nowait()
                answers.append(ask(target, question, max_tokens))
        except queue.Empty:
            return
        # A thread's error would be printed and forgotten: the stretch would look faster.
        except BaseException as error:  # noqa: BLE001 - it is raised below
            faults.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS_AT_MOST)
    seconds = time.monotonic() - began
    if faults:
        raise faults[0]
    if len(answers) != len(questions):
        raise SystemExit(
            f"{target.url} answered {len(answers)} of {len(questions)} questions"
        )
    return Measured(seconds, tuple(answers))


def ask(target: Target, question: str, max_tokens: int) -> Streamed:
    """Stream one greedy answer."""
    address = urlsplit(target.url)
    connection = http.client.HTTPConnection(
        address.hostname or "127.0.0.1", address.port, timeout=_SECONDS_AT_MOST
    )
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        **dict(target.extra),
    }
    sent = time.monotonic()
    try:
        connection.request(
            "POST",
            f"{address.path}/chat/completions",
            json.dumps(body),
            {"Content-Type": "application/json"},
        )
        reply = connection.getresponse()
        if reply.status != http.client.OK:
            raise SystemExit(
                f"{target.url} said {reply.status}: {reply.read()[:300]!r}"
            )
        return _read_stream(reply, sent)
    finally:
        connection.close()


def _read_stream(reply: http.client.HTTPResponse, sent: float) -> Streamed:
    first = 0.0
    pieces = 0
    counted = None
    for line in reply:
        if not line.startswith(_PREFIX):
            continue
        data = line[len(_PREFIX) :].strip()
        if data == _END:
            break
        chunk = json.loads(data)
        usage = chunk.get("usage") or {}
        counted = usage.get("completion_tokens", counted)
        if _has_text(chunk):
            pieces += 1
            first = first or time.monotonic() - sent
    whole = time.monotonic() - sent
    # A server that counts no tokens sends each of them as a piece of its own.
    return Streamed(first or whole, whole, pieces if counted is None else counted)


def _has_text(chunk: dict[str, list[dict[str, dict[str, str]]]]) -> bool:
    return any(choice.get("delta", {}).get("content") for choice in chunk["choices"])


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = min(len(ordered) - 1, round(share * (len(ordered) - 1)))
    return ordered[place]
