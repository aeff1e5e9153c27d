"""What an engine delivers for one request, collected in a test."""

import queue

from pipelines.engines import (
    Engine,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Piece,
    PromptScores,
    TokenScore,
)
from tests.support.waiting import SECONDS_AT_MOST


class Listener:
    """Collects the events of one request."""

    def __init__(self, engine: Engine, request: GenerationRequest) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.scores: list[TokenScore] = []
        self.prompt_scores: tuple[TokenScore, ...] = ()
        self.cancel = engine.submit(request, self.events.put)

    def first(self) -> Event:
        return self.events.get(timeout=SECONDS_AT_MOST)

    def rest(self) -> tuple[str, Finished | Failed]:
        text = ""
        while not isinstance(event := self.first(), Finished | Failed):
            if isinstance(event, PromptScores):
                self.prompt_scores = event.tokens
            elif isinstance(event, Piece):
                text += event.text
                self.scores += event.tokens
        return text, event
