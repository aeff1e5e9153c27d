"""Where a release may be computed: by which engine, and whether beside releases of other models."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from core.log import say
from serving.endpoint.engine_choice import SHAREABLE, EngineChoice
from serving.endpoint.probe import OtherAnswers
from serving.endpoint.shared.attaching import NotNow, Refused
from serving.endpoint.shared.process import StartFailed
from serving.endpoint.upstream import EngineLost

# So many ends, each soon, and its process is not tried again.
_MOST_ENDS = 2
# Seconds: a process that answered for so long starts the count of ends again.
_STEADY = 600.0
# Seconds until a place is tried again in which a release could not be at that moment: twice as many
# each time, unless the last time is long ago.
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0


@dataclass(frozen=True)
class Place:
    """A kind of process."""

    engine: str
    is_shared: bool = False

    def __str__(self) -> str:
        kind = "a shared process" if self.is_shared else "a process"
        return f"{kind} of {self.engine}"


class PlaceChoice:
    """The places of one release: with which one it begins, and which one is better later.

    What was given up is not tried again before the endpoint starts anew.
    """

    def __init__(self, label: str, choice: EngineChoice, begins_with: str = "") -> None:
        # By what its next process of its own computes.
        self.own_engine = begins_with or choice.first
        self._label = label
        self._choice = choice
        self._given_up: dict[Place, str] = {}
        # Those that answer, and without the scored answers.
        self._answers_otherwise: set[Place] = set()
        self._ends: dict[Place, int] = {}
        # The next pause of a place, and when the last one is over.
        self._pauses: dict[Place, float] = {}
        self._not_before: dict[Place, float] = {}

    @property
    def fault_of_scored(self) -> str:
        """Why the engine that scored does not answer; empty where it does, or is not wanted."""
        return self._given_up.get(Place(self._choice.scored), "")

    def first(self, *, may_share: bool, has_room: Callable[[Place], bool]) -> Place:
        """Where it begins: quickly, and beside others where it may be."""
        own = Place(self.own_engine)
        if not may_share:
            return own
        lasting = Place(self._choice.lasting, is_shared=True)
        # That process runs: nothing is compiled.
        if self._may_try(lasting) and has_room(lasting):
            return lasting
        quick = Place(self._choice.first, is_shared=True)
        return quick if self._may_try(quick) else own

    def begin_quickly(self) -> None:
        """Where its process ends, start the quickest engine, whatever a canary compared."""
        quickest = self._choice.quickest
        if Place(quickest) not in self._given_up:
            self.own_engine = quickest

    def better_than(self, place: Place, *, may_share: bool) -> Place | None:
        """What it is to move to from there; None: it stays."""
        for each in self._by_rank(may_share=may_share or place.is_shared):
            if each == place:
                return None
            if self._may_try(each):
                return each
        return None

    def give_up(self, place: Place, reason: str) -> None:
        """Leave the release to what answers otherwise, and say why."""
        self._given_up[place] = reason
        if place.is_shared:
            say(f"{self._label} is not served by {place}: {reason}")
        else:
            say(f"{self._label} is not taken over by {place.engine}: {reason}")

    def put_off(self, place: Place, reason: str) -> None:
        """Try that place again later, and say why."""
        now = time.monotonic()
        if now > self._not_before.get(place, now) + _LONGEST_PAUSE:
            del self._pauses[place]
        pause = self._pauses.get(place, _FIRST_PAUSE)
        self._pauses[place] = min(2 * pause, _LONGEST_PAUSE)
        self._not_before[place] = now + pause
        say(
            f"{self._label} is not yet served by {place}, which is tried again in "
            f"{pause:.0f} s: {reason}"
        )

    def give_up_sharing(self, reason: str) -> None:
        """It has processes of its own from now on; says why."""
        for engine in SHAREABLE:
            self._given_up[Place(engine, is_shared=True)] = reason
        say(f"{self._label} does not share a process: {reason}")

    def instead_of(self, place: Place, error: Exception) -> Place | None:
        """Where it is loaded at once, since it cannot be there; None: nowhere else.

        Nothing is given up before it answers elsewhere: a fault that passes, or that is the
        release's own, is no fault of an engine.
        """
        if place.is_shared:
            self.note_failure(place, error)
            # It answered, and ended: it is started again like any process that ended.
            return None if isinstance(error, EngineLost) else Place(self.own_engine)
        scored = self._choice.scored
        if place.engine != scored:
            if isinstance(error, OtherAnswers):
                self._answers_otherwise.add(place)
                self._leave(place.engine, str(error))
                self.own_engine = scored
            return Place(scored)
        # What the engine that scored answers otherwise, no other one is to answer.
        if isinstance(error, OtherAnswers):
            return None
        # What ended while it was asked is started again.
        if isinstance(error, EngineLost):
            self.note_end(place)
            return None
        return self._stand_in

    def note_start(self, failures: Mapping[Place, Exception], place: Place) -> None:
        """It answers in `place`, and did not in those others: their engines are left alone."""
        for failed, error in failures.items():
            if not failed.is_shared and failed.engine != place.engine:
                self._leave(failed.engine, str(error))
                self.own_engine = place.engine

    @property
    def _stand_in(self) -> Place | None:
        """What may answer for the engine that scored, if scored answers come back from it."""
        stand_in = Place(self._choice.stand_in)
        is_known_not_to = stand_in in self._answers_otherwise
        if not stand_in.engine or is_known_not_to:
            return None
        return stand_in

    def _leave(self, engine: str, reason: str) -> None:
        """Move to that engine no more, without a word: the start has said it."""
        self._given_up[Place(engine)] = reason
        # For what scored, others' processes of it are none better.
        if engine == self._choice.scored:
            self._given_up[Place(engine, is_shared=True)] = reason

    def note_failure(self, place: Place, error: Exception) -> None:
        """A release did not come to answer there."""
        if isinstance(error, Refused):
            self.give_up_sharing(str(error))
        elif isinstance(error, NotNow):
            self.put_off(place, str(error))
        # It ended, perhaps by the fault of another release.
        elif place.is_shared and isinstance(error, StartFailed | EngineLost):
            say(f"{self._label} is not yet served by {place}: {error}")
            self.note_end(place)
        else:
            if isinstance(error, OtherAnswers):
                self._answers_otherwise.add(place)
            self.give_up(place, str(error))

    def note_stand_in(self, wanted: Place, place: Place) -> None:
        """A release that was to begin in `wanted` answers in `place`; the log says why."""
        if place.engine != wanted.engine and not wanted.is_shared:
            self._given_up.setdefault(wanted, "it does not serve this release")

    def note_end(self, place: Place, seconds: float = 0.0) -> None:
        """That process ended by itself, so many seconds after it had begun to answer."""
        if not self._has_other(place):
            return
        ends = 1 if seconds > _STEADY else self._ends.get(place, 0) + 1
        self._ends[place] = ends
        if ends < _MOST_ENDS:
            return
        if place.is_shared:
            self.give_up_sharing(
                f"a process that it shared ended {ends} times soon, and the release to blame "
                "is to end its own alone. It shares again once the endpoint starts anew."
            )
        elif place.engine == self._choice.later:
            self.give_up(
                place,
                f"its process ended {ends} times soon after it had taken over. "
                "Look at its last lines above; it is tried again once the endpoint starts anew.",
            )
        elif (stand_in := self._stand_in) is not None:
            self._leave(place.engine, f"its process ended {ends} times soon")
            self.own_engine = stand_in.engine
            say(
                f"{self._label} is left to {self.own_engine}: its process of {place.engine}, "
                f"which scored it, ended {ends} times soon. "
                "Look at its last lines above; it is tried again once the endpoint starts anew."
            )

    def _has_other(self, place: Place) -> bool:
        """Whether something else may answer than that: what is left is tried for ever."""
        choice = self._choice
        is_scored = place.engine == choice.scored and choice.stand_in != ""
        return place.is_shared or place.engine == choice.later or is_scored

    def _may_try(self, place: Place) -> bool:
        is_possible = not place.is_shared or place.engine in SHAREABLE
        is_put_off = time.monotonic() < self._not_before.get(place, 0.0)
        return is_possible and not is_put_off and place not in self._given_up

    def _by_rank(self, *, may_share: bool) -> Iterator[Place]:
        """Where it may go from a process of its own by another engine; the best one first."""
        choice = self._choice
        if may_share:
            yield Place(choice.lasting, is_shared=True)
        yield Place(choice.lasting)
        if choice.later and may_share:
            yield Place(choice.first, is_shared=True)
