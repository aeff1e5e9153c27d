"""Clients that ask all the time, without a second try, and what the ledger allowed to answer."""

import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks.site import MODEL

CLIENTS = 4
SECONDS_AFTER_A_CHANGE = 1.0
"""For as long after a change, an answer of what served before counts as allowed."""
_FAULTS = (OSError, http.client.HTTPException, ValueError, KeyError)


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent and answered, and by what.

    `status` is 0 where there was no whole answer; `fault` says why it counts as lost.
    """

    sent: datetime
    got: datetime
    status: int = 0
    fingerprint: str = ""
    release: str = ""
    fault: str = ""


class Client:
    """One connection, kept for as long as the endpoint keeps it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, text: str = "12 a", **fields: Any) -> Answer:
        """Ask once; whatever goes wrong is in the answer."""
        sent = datetime.now(UTC)
        message = {"role": "user", "content": text}
        body = {"model": MODEL, "max_tokens": 4, "messages": [message], **fields}
        try:
            status, headers, content = self._post(body)
            if status != http.client.OK:
                return _lost(sent, f"{status}: {content[:200]!r}", status)
            # Cut off, it is no JSON.
            json.loads(content)
            # The one of the ledger: the answer's own changes with the engine that computes it.
            fingerprint = headers["x-assay-fingerprint"]
        except _FAULTS as error:
            self._connection.close()
            return _lost(sent, f"{type(error).__name__}: {error}")
        return Answer(
            sent,
            datetime.now(UTC),
            status,
            fingerprint,
            headers.get("x-assay-release", ""),
        )

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _post(self, body: dict[str, Any]) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(body),
            {"Content-Type": "application/json"},
        )
        reply = self._connection.getresponse()
        return reply.status, reply.headers, reply.read()


def _lost(sent: datetime, fault: str, status: int = 0) -> Answer:
    return Answer(sent, datetime.now(UTC), status=status, fault=fault)


@dataclass
class Load:
    """Clients that ask until they are told to stop."""

    port: int
    question: str = "12 a"
    answers: list[Answer] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self, clients: int = CLIENTS) -> Iterator[None]:
        """So many clients ask for as long as the context lasts."""
        threads = [
            threading.Thread(target=self._ask_on, daemon=True) for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                with suppress(RuntimeError):
                    thread.join(60)

    def _ask_on(self) -> None:
        client = Client(self.port)
        while not self._done.is_set():
            self.answers.append(client.ask(self.question))
        client.close()


@dataclass(frozen=True)
class Tally:
    """What became of all requests."""

    requests: int
    lost: int
    server_errors: int
    foreign: int
    """Answers with a fingerprint that the ledger did not allow then."""
    faults: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether every request was answered whole, by what the ledger allowed."""
        return self.requests > 0 and self.lost + self.foreign == 0


def tally(answers: Iterable[Answer], entries: Iterable[Any]) -> Tally:
    """Compare every answer with what the ledger's entries allowed at its time."""
    answers = tuple(answers)
    spans = _allowed(entries)
    lost = [answer for answer in answers if answer.fault]
    errors = [answer for answer in lost if answer.status >= 500]
    whole = [answer for answer in answers if not answer.fault]
    foreign = [answer for answer in whole if not _is_allowed(answer, spans)]
    faults = [answer.fault for answer in lost[:5]]
    return Tally(len(answers), len(lost), len(errors), len(foreign), tuple(faults))


Span = tuple[datetime, datetime, str]


def _allowed(entries: Iterable[Any]) -> list[Span]:
    """From when to when each fingerprint had full traffic by the ledger."""
    from registry.ledger.rules import apply_entry, start_state

    spans: list[Span] = []
    state = None
    for entry in entries:
        state = start_state(entry) if state is None else apply_entry(state, entry)
        current = state.model(MODEL).current
        fingerprint = "" if current is None else current.release.fingerprint
        if not spans or spans[-1][2] != fingerprint:
            if spans:
                spans[-1] = (spans[-1][0], entry.at, spans[-1][2])
            spans.append((entry.at, datetime.max.replace(tzinfo=UTC), fingerprint))
    return spans


def _is_allowed(answer: Answer, spans: list[Span]) -> bool:
    """Some moment of the request, or the second before it, lies in a span of its fingerprint."""
    return any(
        fingerprint == answer.fingerprint
        and begin <= answer.got
        and (answer.sent - end).total_seconds() <= SECONDS_AFTER_A_CHANGE
        for begin, end, fingerprint in spans
    )
