"""One release that another process is to take over: whether that is tried, and how it went.

serves by one process ─▶ room? ─▶ a second one, or a shared one, verified and probed ─▶ answers
▲                                                                   │
└───────────────── its process ends, at most twice soon ────────────┘
"""

import asyncio
import time
from collections.abc import Callable

import psutil

from core.errors import AssayError, ServingError
from core.log import say
from pipelines.engines import OPENVINO
from pipelines.models.resources import measure_free_memory
from serving.endpoint.loaded_engine import LoadedEngine
from serving.endpoint.loading import Loading
from serving.endpoint.shared.place import PlaceChoice

# A process that compiles has the weights twice, beside those that answer meanwhile.
_TIMES_RESIDENT = 2
_SECONDS_TO_NEXT_LOOK = 30.0
# bfloat16 rounds otherwise in each engine: nobody has shown that its answers come back.
_PRECISIONS = ("float32", "int8")


class TakeOver:
    """The tries of one release. A new try needs a reason: none is made for ever."""

    def __init__(self, label: str, places: PlaceChoice) -> None:
        self._label = label
        self._places = places
        self._lacks_room = False
        self._not_before = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_due(self) -> bool:
        """Whether it may be tried now, where there is a better place."""
        return time.monotonic() >= self._not_before

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
        task = self._task
        if task is not None:
            await asyncio.wait({task})

    async def _run(
        self, loading: Loading, pid: int, replace: Callable[[LoadedEngine], None]
    ) -> None:
        place = loading.place
        has_room = loading.is_quick or await self._has_room(loading, pid)
        if not has_room:
            return
        try:
            successor = await self._load(loading)
        except TimeoutError:
            limit = loading.context.limits.seconds_to_compile
            self._places.give_up(place, f"it was not ready within {limit:.0f} s")
        except asyncio.CancelledError:
            say(f"{self._label}: its process of {place.engine} was ended again")
            raise
        except AssayError as error:
            self._places.note_failure(place, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, what answers answers on
            reason = f"{type(error).__name__}: {str(error)[:300]}"
            self._places.give_up(place, reason)
        else:
            replace(successor)

    async def _has_room(self, loading: Loading, pid: int) -> bool:
        """Whether memory is free for a second process; says so once where it is not."""
        lack = await asyncio.to_thread(_describe_lack, pid)
        if lack and not self._lacks_room:
            engine = loading.place.engine
            say(f"{self._label} is not yet taken over by {engine}: {lack}")
        self._lacks_room = lack != ""
        if lack:
            self._not_before = time.monotonic() + _SECONDS_TO_NEXT_LOOK
        return not lack

    async def _load(self, loading: Loading) -> LoadedEngine:
        """The second process, once it is verified and probed."""
        precision = loading.need.recorded.release.spec.precision
        engine = loading.place.engine
        if engine == OPENVINO and precision not in _PRECISIONS:
            raise ServingError(
                f"it was scored in {precision}, and {engine} computes in "
                f"{' or '.join(_PRECISIONS)}"
            )
        if loading.is_quick:
            say(f"{self._label} comes into {loading.place} beside what answers")
        else:
            say(f"{self._label}: {loading.place} is started beside what answers")
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
