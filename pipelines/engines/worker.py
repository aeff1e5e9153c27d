"""The engine's thread: it begins answers in the order in which they came, and computes them.

submit ─▶ queue ─▶ runner: a place and memory ─▶ one token of each answer at a time ─▶ Finished
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.log import say
from pipelines.engines import Cancel
from pipelines.engines.refusal import not_ready_error, overloaded_error
from pipelines.engines.running_answer import RunningAnswer

if TYPE_CHECKING:
    from pipelines.engines.runners import Runner

# For a step that is being computed when the engine closes.
_SECONDS_TO_STOP = 30.0


class Worker:
    """One thread that computes the answers of one runner."""

    def __init__(
        self, runner: "Runner", queue_length: int, closing: threading.Event
    ) -> None:
        """`closing` is set once it is to end, or has ended."""
        self._runner = runner
        # None wakes the worker so that it looks around.
        self._waiting: queue.Queue[RunningAnswer | None] = queue.Queue(queue_length)
        # Taken from the queue, and too long to begin beside those that run.
        self._first: RunningAnswer | None = None
        # What is to be done between two steps.
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._closing = closing
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether it runs and takes answers."""
        if self._closing.is_set():
            return False
        return self._thread.is_alive()

    def submit(self, answer: RunningAnswer) -> Cancel:
        """Queue an answer; the returned function cancels it, queued or running.

        `Refusal` where it has stopped, or the queue is full.
        """
        if not self.is_ready:
            raise not_ready_error()
        try:
            self._waiting.put_nowait(answer)
        except queue.Full:
            raise overloaded_error() from None
        # The worker may have ended between the check and the put.
        if not self.is_ready:
            self._fail_waiting()
        return answer.cancelled.set

    def between_steps(self, work: Callable[[], None]) -> None:
        """Do something in the engine's thread, between two steps, and wait until it is done.

        Answers that are over by then take part in no later step. `Refusal` where it has stopped.
        """
        order = _Order(work, Future())
        self._orders.put(order)
        self._wake()
        # It may have ended before it saw the order.
        if not self.is_ready:
            self._drop_orders()
        order.done.result()

    def close(self) -> None:
        """Cancel what runs, fail what waits, and stop the thread."""
        self._closing.set()
        self._wake()
        self._thread.join(_SECONDS_TO_STOP)

    def _wake(self) -> None:
        """Have it go round once more, also where nothing runs."""
        # A full queue wakes it as well.
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)

    def _work(self) -> None:
        """Answer requests until closed. Whatever ends the thread, nobody is left waiting."""
        import torch

        end: Callable[[RunningAnswer], None] = RunningAnswer.fail
        try:
            with torch.inference_mode():
                self._keep_answering()
            end = RunningAnswer.cancel
        finally:
            self._closing.set()
            self._runner.end_all(end)
            self._fail_waiting()
            self._drop_orders()

    def _keep_answering(self) -> None:
        while not self._closing.is_set():
            self._follow_orders()
            self._begin_waiting()
            self._runner.advance()

    def _follow_orders(self) -> None:
        has_orders = False
        with contextlib.suppress(queue.Empty):
            while True:
                order = self._orders.get_nowait()
                has_orders = True
                order.follow()
        if has_orders:
            self._finish_cancelled()

    def _finish_cancelled(self) -> None:
        """End what waits and is over at once: its turn may be far away."""
        with self._waiting.mutex:
            waiting = tuple(self._waiting.queue)
        for answer in waiting:
            if answer is not None and answer.is_over:
                answer.finish()

    def _drop_orders(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                order = self._orders.get_nowait()
                order.done.set_exception(not_ready_error())

    def _begin_waiting(self) -> None:
        """Begin what there is a place and memory for, in the order in which it came."""
        while self._runner.has_place():
            # Kept until it runs: where the thread ends in between, it fails with those that wait.
            self._first = answer = self._next_waiting()
            if answer is None:
                return
            # It needs no place and no memory: those behind it must not wait for it.
            if answer.is_over:
                answer.finish()
            elif not self._begin(answer):
                return
            self._first = None

    def _begin(self, answer: RunningAnswer) -> bool:
        """Have it take part; False where it would not fit beside those that run."""
        if not self._runner.has_memory_for(answer):
            return False
        self._runner.add(answer)
        return True

    def _next_waiting(self) -> RunningAnswer | None:
        """The next answer to begin; waits for one where nothing runs."""
        if self._first is not None:
            return self._first
        try:
            return self._waiting.get(block=self._runner.is_idle)
        except queue.Empty:
            return None

    def _fail_waiting(self) -> None:
        message = str(not_ready_error())
        if self._first is not None:
            self._first.fail(message)
        with contextlib.suppress(queue.Empty):
            while True:
                answer = self._waiting.get_nowait()
                if answer is not None:
                    answer.fail(message)


@dataclass(frozen=True)
class _Order:
    """Something to do, and who waits for it."""

    work: Callable[[], None]
    done: "Future[None]"

    def follow(self) -> None:
        """Do it, and hand what it raises to whoever waits."""
        try:
            self.work()
        except Exception as error:  # noqa: BLE001  # the thread must live on
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


def report_failure(answer: RunningAnswer, error: Exception) -> None:
    """Say in the log why an answer failed."""
    model = answer.request.model
    kind = type(error).__name__
    text = str(error)[:300]
    say(f"The engine failed on an answer of {model}: {kind}: {text}")
