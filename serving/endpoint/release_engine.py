"""The engine of one release, kept running.

load ─▶ answer ─▶ another process may take over ─┬▶ it ended or hangs ─▶ pause ─▶ from the beginning
                                                 └▶ nobody asks ─▶ asleep ─▶ somebody asks ─▶ …
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from core.errors import AssayError, ServingError
from core.log import say
from registry.release.following import EngineState
from serving.endpoint.engine_alarm import (
    alarm_while_down,
    alarm_while_ready,
    alarm_while_stood_in_for,
)
from serving.endpoint.engine_record import EngineRecord
from serving.endpoint.engine_start import EngineStarts
from serving.endpoint.idleness import Idleness
from serving.endpoint.loaded_engine import LoadedEngine
from serving.endpoint.loading import EngineContext, Loading
from serving.endpoint.need import Need
from serving.endpoint.package_watch import PackageWatch
from serving.endpoint.probe import probe
from serving.endpoint.request_count import RequestCount
from serving.endpoint.restarts import Restarts
from serving.endpoint.shared.place import Place, PlaceChoice
from serving.endpoint.take_over import TakeOver
from serving.endpoint.upstream import EngineAddress

# So many ends of its process make an alarm.
_ENDS_IN_A_ROW = 3

Phase = Literal["loading", "ready", "failed", "asleep"]


@dataclass(frozen=True)
class EngineStart:
    """With what an engine begins its life."""

    # An engine that is to have the processor for itself until it is settled.
    waits_for: "ReleaseEngine | None" = None
    # The process that an earlier endpoint left running with the same contents.
    leftover: EngineRecord | None = None
    # What is to compute its answers from the beginning; empty: the first one of the endpoint.
    engine: str = ""


class ReleaseEngine:
    """An engine process for as long as its release is needed."""

    def __init__(
        self, need: Need, context: EngineContext, start: EngineStart | None = None
    ) -> None:
        start = start or EngineStart()
        self.need = need
        self.state: Phase = "loading"
        # Why it failed, or how its probe went.
        self.detail = ""
        # The name under which its base answers; empty until it is loaded.
        self.base_name = ""
        # Of its process; 0 while there is none that answers.
        self.port = 0
        self.pid = 0
        self.package = PackageWatch(context.home, need.recorded.release, need.signer)
        # Where its next process is to be, and what the one that answers loaded.
        choice = context.engines.choose(need.recorded.release.spec.engine)
        self._places = PlaceChoice(need.label, choice, start.engine)
        self._starts = EngineStarts(context, self._places, start.leftover)
        self.loaded_spec = need.recorded.release.spec
        self._loaded: LoadedEngine | None = None
        self._answers_since = 0.0
        self._address = EngineAddress(0, "")
        self._context = context
        self._waits_for = start.waits_for
        self._restarts = Restarts()
        self._idleness = Idleness(context.limits.seconds_until_unloaded)
        # Those that it is answering, by any of its processes.
        self._requests = RequestCount()
        # It has answered once, or failed at its first start.
        self._settled = asyncio.Event()
        self._take_over = TakeOver(need.label, self._places)
        # Processes that another one has taken the place of, and that still answer.
        self._retiring: set[asyncio.Task[None]] = set()
        self._keeping = asyncio.create_task(self._keep_running())

    @property
    def label(self) -> str:
        """What a log line and an alarm call it."""
        return self.need.label

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        # Between the end of its process and the next state it has no port.
        has_process = self.port != 0
        return has_process and self.state == "ready"

    @property
    def is_asleep(self) -> bool:
        """Whether it was unloaded since nobody asked, or is being loaded again after that."""
        return self.state == "asleep"

    @property
    def is_loading(self) -> bool:
        """Whether it wants the processor until it answers, the first time or after a sleep."""
        is_waking = self.is_asleep and self._idleness.is_wanted
        return is_waking or self.state == "loading"

    @property
    def can_answer(self) -> bool:
        """Whether it answers, if after a while."""
        return self.is_ready or self.is_asleep

    @property
    def compute_engine(self) -> str:
        """What computes its answers, or will once a process of its own runs again."""
        leftover = self._starts.leftover
        if leftover is not None:
            return leftover.engine
        if self.is_ready:
            return self.loaded_spec.engine
        return self._starts.first_place(self.need).engine

    @property
    def requests(self) -> int:
        """How many it is answering."""
        return self._requests.number

    @property
    def ends(self) -> int:
        """How often its process ended by itself."""
        return self._restarts.ends

    @property
    def address(self) -> EngineAddress:
        """How its process is called, while there is one."""
        return self._address

    @property
    def is_coming_back(self) -> bool:
        """Whether it answered before and is expected to answer in a moment.

        It is being adopted from an endpoint that was killed, or started again for the first time
        since it ended, or since it was to be loaded after a sleep.
        """
        # Its process ended, and the next line of `_keep_running` will say that it loads.
        has_process = self.port != 0
        if self.state == "ready":
            return not has_process
        if self.state != "loading":
            return False
        ends = self._restarts.ends_in_a_row
        is_adopting = ends == 0 and self.has_leftover
        return is_adopting or ends == 1

    @property
    def has_leftover(self) -> bool:
        """Whether a process of an earlier endpoint is still to be adopted."""
        return self._starts.leftover is not None

    @property
    def alarm(self) -> str | None:
        """What a person should look at.

        A release with traffic that does not load or that keeps ending, a damaged package, or
        another engine in the place of the one that scored.
        """
        if self.can_answer:
            damage = alarm_while_ready(self.need, self.package.fault)
            return damage or self._stand_in_alarm
        keeps_ending = self._restarts.ends_in_a_row >= _ENDS_IN_A_ROW
        is_down = self.state == "failed" or keeps_ending
        return alarm_while_down(self.need, self.detail) if is_down else None

    @property
    def _stand_in_alarm(self) -> str | None:
        engine = self.loaded_spec.engine
        reason = self._places.fault_of_scored
        is_other = engine != self.need.recorded.release.spec.engine
        if not (reason and is_other):
            return None
        return alarm_while_stood_in_for(self.need, engine, reason)

    def to_state(self) -> EngineState:
        """For the controller."""
        # What sleeps was verified, and answers: for a release that is all there is to know.
        return EngineState(
            begun=self.need.recorded.begun,
            state="ready" if self.is_asleep else self.state,
            detail=self.detail,
        )

    def update(self, need: Need) -> None:
        """Take what the ledger says now: a pending release may have traffic.

        One that had given up starts again then.
        """
        was_pending = self.need.is_pending
        had_given_up = was_pending and self.state == "failed"
        self.need = need
        if need.is_compared:
            self.wake()
        self._choose_next()
        if had_given_up and not need.is_pending:
            self._keeping = asyncio.create_task(self._keep_running())

    def _choose_next(self) -> None:
        if not self.need.is_pending:
            self._places.begin_quickly()

    async def look_at_package(self) -> None:
        """Report when it is damaged, and when it is whole again.

        A start that waits for its next try then begins at once.
        """
        earlier_fault = self.package.fault
        fault = await asyncio.to_thread(self.package.look)
        if fault and fault != earlier_fault:
            say(f"ALARM: {fault}")
        if earlier_fault and not fault:
            say(f"The package of {self.label} is whole again")
            self._restarts.hurry()

    async def wait_until_settled(self) -> None:
        """Wait until it answers, or until its first start has failed."""
        await self._settled.wait()

    @contextmanager
    def count_request(self) -> Iterator[None]:
        """Count a request for as long as the context lasts: a busy engine is not retired."""
        with ExitStack() as counting:
            counting.enter_context(self._requests.count())
            # Of its process, too: one that another takes the place of answers what it has begun.
            if self._loaded is not None:
                counting.enter_context(self._loaded.requests.count())
            counting.callback(self._idleness.note)
            yield

    def wake(self) -> None:
        """Have it loaded again, where it sleeps."""
        self._idleness.wake()

    async def replay(self) -> str:
        """Probe it once more while it answers; how that went.

        `ServingError` where it does not answer as it was scored any more, or does not run.
        """
        if self._loaded is None or not self.is_ready:
            raise ServingError(f"{self.label} does not run")
        return await probe(self.address, self._loaded.verified)

    async def retire(self) -> None:
        """End it once its last answer is complete, or the time for that is over."""
        await self._requests.wait_until_idle(self._context.limits.seconds_to_drain)
        await self.close()

    async def close(self) -> None:
        """End it now."""
        # Whoever waits for it need not wait any more.
        self._settled.set()
        await self._take_over.close()
        tasks = (self._keeping, *self._retiring)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._starts.end_leftover()

    @property
    def is_take_over_due(self) -> bool:
        """Whether another process than the one that answers should, and may be tried."""
        return self._take_over.is_due and self._better_place is not None

    @property
    def shares_process(self) -> bool:
        """Whether releases of other models may be in the process that answers."""
        return self._loaded is not None and self._loaded.place.is_shared

    @property
    def _better_place(self) -> Place | None:
        if self._loaded is None or not self.is_ready:
            return None
        place = self._loaded.place
        return self._places.better_than(place, may_share=self.need.may_share)

    def begin_take_over(self) -> "asyncio.Task[None]":
        """Have another process answer once it gives the scored answers; this one answers on."""
        place = self._better_place or Place(self._places.own_engine)
        loading = Loading(self.need, self._context, place, is_take_over=True)
        return self._take_over.begin(loading, self.pid, self._replace_by)

    def break_off_take_over(self) -> None:
        """End the process that is to take over, unless it answers already."""
        self._take_over.break_off()

    def _replace_by(self, successor: LoadedEngine) -> None:
        """Give it all requests from now on; its predecessor completes those that it has."""
        predecessor = self._loaded
        self._answer_by(successor)
        self._context.on_change()
        taker = successor.place if successor.place.is_shared else successor.spec.engine
        say(f"{self.label} is taken over by {taker}: {self.detail}")
        if predecessor is None:
            return
        predecessor.dismissed.set()
        # Nothing has to make room: answers that it has begun are not cut off for being long.
        pause = self._context.limits.seconds_between_health_checks
        retiring = asyncio.create_task(predecessor.retire(self._context.home, pause))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _keep_running(self) -> None:
        """Run it again whenever it ends, with longer and longer pauses.

        A pending release has one try.
        """
        while True:
            started = time.monotonic()
            reason = await self._run()
            if reason is None:
                self._restarts.forget_row()
                await self._idleness.wait_until_woken()
                continue
            # Also where it was being loaded again: who waits for that need not come again.
            could_answer = self.state in ("ready", "asleep")
            seconds = time.monotonic() - started
            self._restarts.count(seconds, was_ready=could_answer)
            gives_up = self.need.is_pending
            is_restarting = could_answer and not gives_up
            self._set_state("loading" if is_restarting else "failed", reason)
            if gives_up:
                return
            await self._restarts.pause()

    async def _run(self) -> str | None:
        """Start it, answer until it ends, and give the reason why it ended; None: it sleeps."""
        try:
            loaded = await self._start()
        except AssayError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine is tried again
            return f"{type(error).__name__}: {str(error)[:300]}"
        self._choose_next()
        self._answer_by(loaded)
        self._set_state("ready", self.detail)
        unasked = asyncio.create_task(self._sleep_once_unasked())
        try:
            return await self._watch()
        finally:
            unasked.cancel()
            self.break_off_take_over()
            await self._stop_answering()

    def _answer_by(self, loaded: LoadedEngine) -> None:
        """Give that process the requests that come from now on."""
        process = loaded.process
        self.base_name = loaded.verified.base_name
        self.detail = loaded.detail
        self.loaded_spec = loaded.spec
        self._address = process.address
        self.port = process.address.port
        self.pid = process.pid
        self._loaded = loaded
        self._starts.note(loaded)
        self._answers_since = time.monotonic()

    async def _stop_answering(self) -> None:
        self.port = 0
        self.pid = 0
        self._address = EngineAddress(0, "")
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            # Its last answers have had their time: streams end in an error event now, not
            # whenever they like.
            await loaded.end(self._context.home)

    async def _sleep_once_unasked(self) -> None:
        """Wait until nobody has asked it for long enough, and have it sleep."""
        self._idleness.note()
        while True:
            await self._idleness.wait_until_over()
            # Nothing is awaited between this look and the new state: a request that is counted
            # later finds it asleep.
            if self._may_sleep and self._loaded is not None:
                self._idleness.begin_sleep()
                self._set_state("asleep", self._idleness.describe())
                self._loaded.dismissed.set()
                return
            self._idleness.note()

    @property
    def _may_sleep(self) -> bool:
        """Whether it answers nobody, and no release waits for it or is compared with it."""
        need = self.need
        is_needed = need.is_pending or need.beside or need.is_compared
        return need.recorded.is_completed and not is_needed and self.requests == 0

    async def _watch(self) -> str | None:
        """Wait until the process that answers ends or hangs; gives which of them.

        None where it is to sleep.
        """
        pause = self._context.limits.seconds_between_health_checks
        reason = None
        while reason is None and self._loaded is not None:
            reason = await self._loaded.watch(pause)
            if self.is_asleep:
                return None
        if self._loaded is not None:
            seconds = time.monotonic() - self._answers_since
            self._places.note_end(self._loaded.place, seconds)
        return reason or "its engine process ended"

    async def _start(self) -> LoadedEngine:
        # An adopted process is loaded already: it takes no time from another.
        if self._waits_for is not None and not self.has_leftover:
            await self._waits_for.wait_until_settled()
        return await self._starts.start(self.need)

    def _set_state(self, state: Phase, detail: str) -> None:
        self.state = state
        self.detail = detail
        if state != "loading":
            self._settled.set()
        # The fleet moves traffic by this.
        self._context.on_change()
        line = f"{self.label} is {state}"
        say(f"{line}: {detail}" if detail else line)
