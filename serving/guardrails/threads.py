"""Threads for work that may take for ever: nothing waits for them, nor does the end of the process.

`ThreadPoolExecutor` waits for its threads when the process ends, also for one that hangs.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class AbandonableThreads:
    """Calls functions, a few at once; more wait. A thread ends when there is nothing to call."""

    def __init__(self, most_at_once: int, name: str) -> None:
        self._most = most_at_once
        self._name = name
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    async def call(
        self,
        function: Callable[Parameters, Result],
        *arguments: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Result:
        """What the function gives or raises. Cancelled while it waits, it is never called."""
        future: Future[Result] = Future()
        called = partial(function, *arguments, **options)
        fulfil = partial(_fulfil, future, called)
        self._begin(fulfil)
        return await asyncio.wrap_future(future)

    def _begin(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append(work)
            if self._running >= self._most:
                return
            self._running += 1
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                # Under the lock: what is put there a moment later starts a thread of its own.
                if not self._waiting:
                    self._running -= 1
                    return
                work = self._waiting.popleft()
            work()


def _fulfil(future: "Future[Result]", called: Callable[[], Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = called()
    # Whatever it is belongs to whoever waits: a thread that died of it would be missed.
    except BaseException as error:  # noqa: BLE001
        future.set_exception(error)
    else:
        future.set_result(result)
