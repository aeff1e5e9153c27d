"""One request and its answer, as they pass by: what metrics, records and traces are made of."""

import time
import uuid
from collections import Counter
from typing import Any

from starlette.types import Message, Scope

KEY = "assay.exchange"
"""Where a request's scope holds its `Exchange`."""
ANSWERING = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Routes that a model answers."""
# Bytes of an answer that are kept to be read once it is complete.
_LONGEST_ANSWER = 1_000_000
# Of a stream whose text nobody asked for: its end says how it ended.
_LONGEST_END = 16_384
_EVENT = b"\n\n"
_CLIENT_LEFT = 499
# All that anybody needs of a request's headers: others hold keys, and records may wait a while.
_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})


class Exchange:
    """A request from its head to the last byte of its answer. Times are in seconds."""

    def __init__(self, scope: Scope) -> None:
        # Of a request that has no answer with an id of its own.
        self.id = uuid.uuid4().hex
        self.method = str(scope["method"])
        self.path = str(scope["path"])
        self.trace_headers: list[tuple[bytes, bytes]] = [
            header for header in scope["headers"] if header[0] in _TRACE_HEADERS
        ]
        # As the client named it: no label before somebody has looked whether it is released.
        self.model = ""
        # What the answer was held to, by the type of `response_format`.
        self.answer_form = "text"
        # The body as the engine sees it; kept only where `keeps_texts`.
        self.request = b""
        self.keeps_texts = False
        self.status = 0
        self.release = ""
        self.fingerprint = ""
        self.fallback = ""
        self.is_stream = False
        # What guardrails did, such as `response.email.mask`, and how often.
        self.actions: Counter[str] = Counter()
        # Events of a stream: about as many as it has tokens.
        self.events = 0
        self.is_complete = False
        # A clock that is set back changes no duration; records need the time of day as well.
        self.began = time.monotonic()
        self.began_at = time.time()
        self.seconds = 0.0
        self.first_seconds: float | None = None
        self.response = bytearray()

    @property
    def is_answer(self) -> bool:
        """Whether it asks a model."""
        if self.method != "POST":
            return False
        return self.path in ANSWERING

    @property
    def is_waiting(self) -> bool:
        """Whether nothing of the answer has come yet."""
        if not self.is_answer:
            return False
        return self.first_seconds is None

    def take(self, message: Message) -> None:
        """A message of the answer, just before it is sent to the client."""
        kind = message["type"]
        if kind == "http.response.start":
            self._take_head(message)
        elif kind == "http.response.body":
            self._take_body(message)

    def fail(self) -> None:
        """It ended in an error that is answered outside of what is watched."""
        self.status = 500
        self.is_complete = True

    def end(self) -> None:
        """Nothing more comes."""
        self.seconds = time.monotonic() - self.began
        # As nginx writes it: the status that was sent says nothing of an answer cut short.
        if not self.is_complete:
            self.status = _CLIENT_LEFT

    def _take_head(self, message: Message) -> None:
        self.status = int(message["status"])
        headers = {
            name.lower(): content.decode("latin-1")
            for name, content in message.get("headers", ())
        }
        self.release = headers.get(b"x-assay-release", "")
        self.fingerprint = headers.get(b"x-assay-fingerprint", "")
        self.fallback = headers.get(b"x-assay-fallback", "")
        kind = headers.get(b"content-type", "")
        self.is_stream = kind.startswith("text/event-stream")

    def _take_body(self, message: Message) -> None:
        piece: bytes = message.get("body", b"")
        if piece and self.first_seconds is None:
            self.first_seconds = time.monotonic() - self.began
        if self.is_stream:
            self.events += piece.count(_EVENT)
        self._keep(piece)
        if not message.get("more_body", False):
            self.is_complete = True

    def _keep(self, piece: bytes) -> None:
        if not self.is_answer:
            return
        self.response += piece
        keeps_end_alone = self.is_stream and not self.keeps_texts
        most = _LONGEST_END if keeps_end_alone else _LONGEST_ANSWER
        surplus = len(self.response) - most
        if surplus > 0:
            # The end is worth more than the beginning: it counts tokens and names errors.
            del self.response[:surplus]


def exchange_of(scope: Any) -> Exchange:
    """The exchange of a request; one that nobody looks at where the app is not watched."""
    exchange = scope.get(KEY)
    if isinstance(exchange, Exchange):
        return exchange
    return Exchange(scope)
