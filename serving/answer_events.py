"""The engine's events for one request, brought from its thread to the event loop."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

from pipelines.engines import (
    Cancel,
    Engine,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Piece,
    PromptScores,
)
from pipelines.engines.refusal import Refusal, not_ready_error

# Texts of one request that an engine has at once: others' requests find room in its queue.
_MOST_AT_ONCE = 8


class AnswerEvents:
    """What an engine delivers for the texts of one request, each under its number."""

    def __init__(self, engine: Engine, requests: Sequence[GenerationRequest]) -> None:
        self._engine = engine
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._waiting = deque(enumerate(requests))
        self._cancels: list[Cancel] = []
        self._unfinished = len(requests)
        try:
            # Before the response begins: an engine that is full is an error response.
            for _ in range(_MOST_AT_ONCE):
                self._submit_next()
        except Refusal:
            # What the engine took before it was full would be generated for nobody.
            self.cancel()
            raise

    def cancel(self) -> None:
        """Leave the engine free of all that it still generates for this request."""
        # First: a text that ends meanwhile must not start the next one.
        self._waiting.clear()
        for cancel in self._cancels:
            cancel()

    async def __aiter__(
        self,
    ) -> AsyncIterator[tuple[int, PromptScores | Piece | Finished]]:
        """Each text's events, in its order, up to its `Finished`.

        A `Refusal` where the engine failed or closed.
        """
        while self._unfinished:
            number, event = await self._events.get()
            if isinstance(event, Failed):
                raise _refusal_of(event)
            if isinstance(event, Finished):
                # The client still waits, so it was the engine that closed.
                if event.reason == "cancelled":
                    raise not_ready_error()
                self._unfinished -= 1
                self._submit_next()
            yield number, event

    def _submit_next(self) -> None:
        if not self._waiting:
            return
        number, request = self._waiting.popleft()
        deliver = partial(self._deliver, number)
        cancel = self._engine.submit(request, deliver)
        self._cancels.append(cancel)

    def _deliver(self, number: int, event: Event) -> None:
        # RuntimeError: the loop is closed, so nobody listens any more.
        with contextlib.suppress(RuntimeError):
            put = self._events.put_nowait
            self._loop.call_soon_threadsafe(put, (number, event))


def _refusal_of(failed: Failed) -> Refusal:
    if failed.param is not None:
        code = "schema_too_complex"
        return Refusal(failed.message, code=code, param=failed.param)
    return Refusal(
        failed.message, status=500, kind="server_error", code="engine_failed"
    )
