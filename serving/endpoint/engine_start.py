"""How a release comes to answer: by a process that was left running, or in one place or another."""

import asyncio

from core.errors import ServingError
from core.log import say
from serving.endpoint.engine_record import EngineRecord
from serving.endpoint.leftovers import end_leftover
from serving.endpoint.loaded_engine import LoadedEngine
from serving.endpoint.loading import EngineContext, Loading, NotVerified
from serving.endpoint.need import Need
from serving.endpoint.shared.place import Place, PlaceChoice


class EngineStarts:
    """The starts of one release's engine."""

    def __init__(
        self,
        context: EngineContext,
        places: PlaceChoice,
        leftover: EngineRecord | None,
    ) -> None:
        # The process that an earlier endpoint left running with the same contents.
        self.leftover = leftover
        self._context = context
        self._places = places
        # Where it is loaded just now.
        self._place = Place(places.own_engine)
        # Those in which it has answered.
        self._shown: set[Place] = set()

    async def start(self, need: Need) -> LoadedEngine:
        """Adopt or load it; `AssayError` where it is not as it should be, or takes too long."""
        limit = self._context.limits.seconds_to_load
        try:
            async with asyncio.timeout(limit):
                return await self._adopt(need) or await self._load(need)
        except TimeoutError:
            # Like one that ended: after two of them something else answers, where there is any.
            self._places.note_end(self._place)
            raise ServingError(f"it was not ready within {limit:.0f} s") from None

    def first_place(self, need: Need) -> Place:
        """Where it is to be loaded next."""

        def has_room(place: Place) -> bool:
            return self._context.shared.has_room(need.contents, place.engine)

        return self._places.first(may_share=need.may_share, has_room=has_room)

    def note(self, loaded: LoadedEngine) -> None:
        """It answers there: it was asked what it is asked once."""
        self._shown.add(loaded.place)

    async def end_leftover(self) -> None:
        """End what was left running and is not adopted."""
        context = self._context
        leftover = self.leftover
        if leftover is None:
            return
        shared = context.shared
        await end_leftover(context.home, leftover, shared)

    async def _adopt(self, need: Need) -> LoadedEngine | None:
        """The process of an earlier endpoint, if there is one and it is as it should be."""
        leftover = self.leftover
        if leftover is None:
            return None
        context = self._context
        choice = context.engines.choose(need.recorded.release.spec.engine)
        # What answered answers on, whichever engine that is: a better one takes over later.
        is_allowed = choice.allows(leftover.engine)
        engine = leftover.engine if is_allowed else choice.lasting
        place = Place(engine, is_shared=leftover.is_shared)
        loading = Loading(need, context, place)
        loaded = await loading.adopt(leftover)
        self.leftover = None
        return loaded

    async def _load(self, need: Need) -> LoadedEngine:
        place = first = self.first_place(need)
        failures: dict[Place, ServingError] = {}
        while True:
            self._place = place
            was_shown = place in self._shown
            loading = Loading(need, self._context, place, was_shown=was_shown)
            try:
                loaded = await loading.start()
            # Whichever engine computes.
            except NotVerified:
                raise
            # Also where it ended while it loaded: another library may take the process with it.
            except ServingError as error:
                failures[place] = error
                instead = self._places.instead_of(place, error)
                if instead is None or instead in failures:
                    raise _explain(failures) from None
                if not place.is_shared:
                    say(
                        f"{need.label} is served by {instead.engine}, not by {place.engine}: "
                        f"{error}"
                    )
                place = instead
            else:
                self._places.note_start(failures, loaded.place)
                self._places.note_stand_in(first, loaded.place)
                return loaded


def _explain(failures: dict[Place, ServingError]) -> ServingError:
    """The last error, with the one of the engine that was tried before in a process of its own."""
    *_, last = failures.values()
    own = [place for place in failures if not place.is_shared]
    if len(own) < 2:
        return last
    facts = (f"by {place.engine}: {failures[place]}" for place in own)
    return ServingError(" ".join(facts))
