"""Who is told of every request: counts always, records and traces where somebody asks for them."""

from collections.abc import Sequence
from typing import Protocol

from starlette.types import Scope

from core.log import say
from serving.feedback_schema import Rating
from serving.observing.answer_facts import AnswerFacts, read_answer
from serving.observing.exchange import Exchange
from serving.observing.figures import Source
from serving.observing.metrics import Metrics
from serving.observing.origin import Origin


class Sink(Protocol):
    """Takes what has ended. It must not wait for anything."""

    def wants_texts(self) -> bool:
        """Whether it keeps the texts of the next request."""

    def end(self, exchange: Exchange, facts: AnswerFacts) -> None:
        """A request has ended."""

    def rate(self, rating: Rating, origin: Origin) -> None:
        """An answer was rated."""

    def close(self) -> None:
        """Nothing more comes."""


class Observer:
    """Sees every request begin and end."""

    def __init__(
        self, source: Source | None = None, sinks: Sequence[Sink] = ()
    ) -> None:
        self.metrics = Metrics(source or Source())
        self._sinks = list(sinks)

    def add(self, sink: Sink) -> None:
        """Tell one more of what ends from now on."""
        self._sinks.append(sink)

    def begin(self, scope: Scope) -> Exchange:
        """A request arrives."""
        exchange = Exchange(scope)
        if exchange.is_answer:
            wishes = [sink.wants_texts() for sink in self._sinks]
            exchange.keeps_texts = any(wishes)
        self.metrics.begin(exchange)
        return exchange

    def end(self, exchange: Exchange) -> None:
        """A request has ended, however it did. Nothing that is wrong here reaches its client."""
        exchange.end()
        facts = read_answer(bytes(exchange.response), is_stream=exchange.is_stream)
        # Read: a record that waits for the disk must not keep a megabyte waiting with it.
        exchange.response = bytearray()
        self.metrics.end(exchange, facts)
        # Each for itself: a sink that fails must not keep the next one from its record.
        for sink in self._sinks:
            try:
                sink.end(exchange, facts)
            # The text of an error may quote the request.
            except Exception as error:  # noqa: BLE001 - whatever it is, the answer was given
                kind = type(error).__name__
                say(f"A request could not be recorded ({kind})")

    def rate(self, rating: Rating, origin: Origin) -> None:
        """An answer was rated."""
        self.metrics.rate(rating, origin)
        for sink in self._sinks:
            sink.rate(rating, origin)

    def close(self) -> None:
        """The endpoint ends."""
        for sink in self._sinks:
            sink.close()
