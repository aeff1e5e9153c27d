"""What the controller does in each round. A duty gives a sentence for each thing that it changed or found."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property

from filelock import Timeout

from flows.release import move_champions, open_desk, policy_file, release_turn
from flows.run.gone import end_dead_runs
from flows.run.record import open_store
from flows.run.workspace import Project
from pipelines.errors import ServingError
from pipelines.policy import load_policy
from registry.audit import PAGE_TAG
from registry.desk import Desk
from registry.ledger import Ledger, read_ledger
from registry.release import carry_on, is_at_rest
from registry.store import Store
from serving.client import endpoint_client

SOON = timedelta(hours=2)


class Duties:
    """Ledger, endpoint and MLflow of one home, opened when they are first needed and kept open."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._told: dict[str, tuple[str, ...]] = {}

    @property
    def of_releases(self) -> tuple[Callable[[], tuple[str, ...]], ...]:
        """What needs the ledger and the endpoint alone."""
        return (self.ring, self.finish_releases, self.raise_alarms)

    @property
    def of_the_record(self) -> tuple[Callable[[], tuple[str, ...]], ...]:
        """What asks MLflow or Prefect, and may wait for either."""
        return (self.put_champions_back, self.write_heads, self.end_dead_runs, *self._schedules)

    def ring(self) -> tuple[str, ...]:
        """A doorbell may have been lost: ring again."""
        seen = endpoint_client(self._project.home).ring()
        return self._notified("ring", *(f"The endpoint: {alarm}" for alarm in seen.alarms))

    def finish_releases(self) -> tuple[str, ...]:
        """Take over a release whose driver is gone; one that is driven is left alone."""
        waiting = [name for name, model in self._ledger.standing().models.items() if not is_at_rest(model)]
        if not waiting:
            return ()
        try:
            with release_turn(self._project.home).acquire(timeout=0):
                desk = open_desk(self._project.home)
                return tuple(sentence for name in waiting for sentence in self._finish(name, desk))
        except Timeout:
            return ()

    def put_champions_back(self) -> tuple[str, ...]:
        """The alias `champion` is what the ledger says, whoever moved or deleted it."""
        return self._notified("champions", *move_champions(self._store, self._ledger.standing()))

    def write_heads(self) -> tuple[str, ...]:
        """The ledger's head on the page of what serves: a tail that is cut off later shows there."""
        standing = self._ledger.standing()
        mark = standing.head.as_tag
        if self._told.get("head") == (mark,):
            return ()
        for model in standing.models.values():
            if model.current is not None:
                release = model.current.release
                self._store.annotate(self._store.get_version(release.model, release.version), {PAGE_TAG: mark})
        self._told["head"] = (mark,)
        return ()

    def end_dead_runs(self) -> tuple[str, ...]:
        """A run whose process was killed says so in MLflow."""
        return end_dead_runs(self._store, self._project)

    def raise_alarms(self) -> tuple[str, ...]:
        """What runs out while its model serves: told once, and nothing is taken out of service for it."""
        standing, now = self._ledger.standing(), datetime.now(UTC)
        leaned_on = {
            generation: held.release
            for model in standing.models.values()
            if (held := model.current) is not None
            for generation in standing.judged[held.judged].waivers
        }
        ending = [each for each in standing.waivers if each.generation in leaned_on and each.until - now < SOON]
        return self._notified(
            "waivers",
            *(
                f"The waiver of {each.rule} that {each.model} version {leaned_on[each.generation].version} leans on "
                f"{'ended' if each.until <= now else 'ends'} at {each.until:%Y-%m-%d %H:%M} UTC. It goes on serving."
                for each in ending
            ),
            *self._old_evidence(now),
        )

    def _old_evidence(self, now: datetime) -> list[str]:
        """Releases whose evidence was judged longer ago than the policy would let a release begin with."""
        found = []
        for name, model in self._ledger.standing().models.items():
            days = load_policy(policy_file(self._project.root, name)).gates.judge.max_age_days
            held = model.current
            if held is not None and now - held.at > timedelta(days=days):
                since = f"{held.at:%Y-%m-%d}"
                found.append(
                    f"The evidence of {name} version {held.release.version} is from before {since}: over {days:g} days. It goes on serving."
                )
        return found

    @property
    def _schedules(self) -> tuple[Callable[[], tuple[str, ...]], ...]:
        from flows.schedule.arrivals import watch_data
        from flows.schedule.overdue import watch_schedules

        def data_arrivals() -> tuple[str, ...]:
            return watch_data(self._project)

        def overdue_runs() -> tuple[str, ...]:
            return watch_schedules(self._project)

        return (data_arrivals, overdue_runs)

    def _finish(self, model: str, desk: Desk) -> tuple[str, ...]:
        try:
            desk.endpoint.state()
        except ServingError:
            return ()  # with nothing to load it in, a release waits
        carry_on(model, desk)
        current = desk.ledger.standing().model(model).current
        serves = "nothing" if current is None else f"version {current.release.version}"
        return (f"A release of {model} that was left on its way was carried to its end: {serves} serves.",)

    def _notified(self, duty: str, *sentences: str) -> tuple[str, ...]:
        """Those that did not hold in the last round are told to people; one that ends and comes back is told again."""
        from flows.schedule.notify import notify

        new = tuple(each for each in sentences if each not in self._told.get(duty, ()))
        self._told[duty] = sentences
        for sentence in new:
            notify(self._project.home, "Assay: attention", sentence)
        return new

    @cached_property
    def _ledger(self) -> Ledger:
        return read_ledger(self._project.home)

    @cached_property
    def _store(self) -> Store:
        return open_store(self._project)
