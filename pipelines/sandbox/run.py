"""An answer and its tests, each in a box of its own, and the clock on the wall for both."""

import os
import secrets
import select
import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from core.value import Value
from pipelines.sandbox.box import LIMITS, Box, Limits, start_box
from pipelines.sandbox.judge import Outcome, judge

_MOST_SAID = 4096


class Trial(Value):
    """The text of an answer, and the tests that it has to pass."""

    code: str
    tests: str


def run_trial(trial: Trial, limits: Limits = LIMITS) -> Outcome:
    """Run an answer against its tests.

    `SandboxUnavailable` where a box does not start: nothing is run without one.
    """
    # Monotonic: a clock that is set back would give an answer more time.
    deadline = time.monotonic() + limits.seconds
    # A new one for each trial: an answer that learned one could pass the next by it.
    token = secrets.token_hex(16)
    with _boxes(trial, token, limits) as (verdict, boxes):
        said, was_in_time = _listen(verdict, deadline)
        # Both are ended before anything is judged: neither outlives its trial.
        errors = [box.end() for box in boxes]
    why = " ".join(errors)
    return judge(
        said,
        token,
        was_in_time=was_in_time,
        why=why.strip(),
    )


def run_trials(trials: Iterable[Trial], limits: Limits = LIMITS) -> tuple[Outcome, ...]:
    """Run many, as many at a time as there are processors, in their order."""

    def run(trial: Trial) -> Outcome:
        return run_trial(trial, limits)

    # Threads, since each waits for two processes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(run, trials)
        return tuple(outcomes)


@contextmanager
def _boxes(
    trial: Trial, token: str, limits: Limits
) -> Iterator[tuple[int, tuple[Box, ...]]]:
    """Both boxes, and the descriptor that the verdict comes out of."""
    # A pair without a name: no other process can find an end of it.
    asking, answering = socket.socketpair()
    reading, writing = os.pipe()
    boxes: list[Box] = []
    try:
        code: dict[str, object] = {"code": trial.code}
        boxes.append(start_box("answer", code, limits, [answering.fileno()]))
        # The token goes to the tests alone: in the answer's box there is none to be found.
        tests: dict[str, object] = {"tests": trial.tests, "token": token}
        fds = [asking.fileno(), writing]
        boxes.append(start_box("tests", tests, limits, fds))
        # Held by the boxes alone, so that an end of theirs is heard.
        asking.close()
        answering.close()
        os.close(writing)
        writing = -1
        yield reading, tuple(boxes)
    finally:
        for box in boxes:
            # An error came first, so that the box is still running.
            if not box.said.closed:
                box.end()
        asking.close()
        answering.close()
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _listen(verdict: int, deadline: float) -> tuple[bytes, bool]:
    """What was said until the end, and whether the end came in time."""
    # Read while it runs: a pipe that is full would hold the tests up until the deadline.
    said = b""
    while len(said) < _MOST_SAID:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([verdict], [], [], max(0, left))
        if not ready:
            return said, False
        more = os.read(verdict, _MOST_SAID)
        if not more:
            break
        said += more
    return said, True
