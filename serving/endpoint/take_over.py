"""One release that another engine is to take over: whether that is tried, and how it went.

serves by the first engine ─▶ room? ─▶ a second process, verified and probed ─▶ answers
▲                                                                   │
└───────────────── its process ends, at most twice soon ────────────┘
"""

import asyncio
import time
from collections.abc import Callable

import psutil

from core.errors import AssayError, ServingError
from pipelines.models.resources import measure_free_memory
from serving.endpoint.loaded_engine import LoadedEngine
from serving.endpoint.loading import Loading
from serving.log import say

# So many ends of its process, each soon after it took over, and it is not tried again.
_MOST_ENDS = 2
# Seconds: a process that answered for so long starts the count of ends again.
_STEADY = 600.0
# A process that compiles has the weights twice, beside those that answer meanwhile.
_TIMES_RESIDENT = 2
_SECONDS_TO_NEXT_LOOK = 30.0
_PRECISION = "float32"


class TakeOver:
    """The tries of one release. A new try needs a reason: none is made for ever."""

    def __init__(self, label: str, engine: str) -> None:
        # Why the first engine answers for good; empty while another one may.
        self.given_up = ""
        self._label = label
        self._engine = engine
        self._ends = 0
        self._lacks_room = False
        self._not_before = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_due(self) -> bool:
        """Whether it may be tried now."""
        has_chance = self._engine != "" and not self.given_up
        return has_chance and time.monotonic() >= self._not_before

    def begin(
        self, loading: Loading, pid: int, replace: Callable[[LoadedEngine], None]
    ) -> "asyncio.Task[None]":
        """Load beside the process `pid`, which answers on, and hand over what takes its place."""
        self._task = asyncio.create_task(self._run(loading, pid, replace))
        return self._task

    def break_off(self) -> None:
        """End the process that is to take over; nothing where there is none."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Break it off, and wait until its process has ended."""
        self.break_off()
        if self._task is not None:
            await asyncio.wait({self._task})

    def give_up(self, reason: str) -> None:
        """Leave the release to the engine that answers, and say why."""
        self.given_up = reason
        say(f"{self._label} is not taken over by {self._engine}: {reason}")

    def note_end(self, seconds: float) -> None:
        """The process that had taken over ended by itself, so many seconds after that."""
        self._ends = 1 if seconds > _STEADY else self._ends + 1
        if self._ends >= _MOST_ENDS:
            self.give_up(
                f"its process ended {self._ends} times soon after it had taken over. "
                "Look at its last lines above; it is tried again once the endpoint starts anew."
            )

    async def _run(
        self, loading: Loading, pid: int, replace: Callable[[LoadedEngine], None]
    ) -> None:
        if not await self._has_room(pid):
            return
        try:
            successor = await self._load(loading)
        except TimeoutError:
            limit = loading.context.limits.seconds_to_compile
            self.give_up(f"it was not ready within {limit:.0f} s")
        except asyncio.CancelledError:
            say(f"{self._label}: its process of {self._engine} was ended again")
            raise
        except AssayError as error:
            self.give_up(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, what answers answers on
            self.give_up(f"{type(error).__name__}: {str(error)[:300]}")
        else:
            replace(successor)

    async def _has_room(self, pid: int) -> bool:
        """Whether memory is free for a second process; says so once where it is not."""
        lack = await asyncio.to_thread(_describe_lack, pid)
        if lack and not self._lacks_room:
            say(f"{self._label} is not yet taken over by {self._engine}: {lack}")
        self._lacks_room = lack != ""
        if lack:
            self._not_before = time.monotonic() + _SECONDS_TO_NEXT_LOOK
        return not lack

    async def _load(self, loading: Loading) -> LoadedEngine:
        """The second process, once it is verified and probed."""
        precision = loading.need.recorded.release.spec.precision
        if precision != _PRECISION:
            raise ServingError(
                f"it was scored in {precision}, and {self._engine} computes in {_PRECISION}"
            )
        say(
            f"{self._label}: a process of {self._engine} is started beside what answers"
        )
        async with asyncio.timeout(loading.context.limits.seconds_to_compile):
            return await loading.start()


def _describe_lack(pid: int) -> str:
    try:
        resident = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        # It ended just now: the next look sees that.
        return "its process has ended"
    return describe_lack(measure_free_memory(), resident)


def describe_lack(free: int, resident: int) -> str:
    """Why no second process fits beside one of that size, in bytes; empty where one does."""
    needed = _TIMES_RESIDENT * resident
    if free >= needed:
        return ""
    return (
        f"that needs {needed / 1e9:.1f} GB of memory for a while, and "
        f"{free / 1e9:.1f} GB is free"
    )
