"""What the controller does in each round. A duty gives a sentence for each thing that it changed or found."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from core.errors import AssayError, RegistryError, ServingError
from core.locks import release_lock, try_exclusive
from core.project import Project
from flows.champions import drop_revoked_challengers, move_champions
from flows.package_repair import PackageRepair
from flows.promote import open_release_context, policy_file
from flows.run.dead_runs import end_dead_runs
from operations.remembered import Comparison
from pipelines.gates.policy import load_policy
from registry.ledger.audit import PAGE_TAG, check_home
from registry.ledger.entries import Release
from registry.ledger.heads import HeadRecord
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger, read_ledger
from registry.ledger.state import LedgerState, RecordedRelease
from registry.mlflow.home_store import open_store
from registry.mlflow.pages import mark_revoked, sealed_tag
from registry.mlflow.store import Store
from registry.release.context import ReleaseContext
from registry.release.release import carry_on, is_at_rest
from serving.client import endpoint_client

if TYPE_CHECKING:
    from flows.schedule.crashes import Crashes

SOON = timedelta(hours=2)
SECONDS_TO_START = 30.0
"""An endpoint that is away for this long does not start: somebody has to look."""


class Reconciler:
    """Ledger, endpoint and MLflow of one home, opened when they are first needed and kept open."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._told: dict[str, tuple[str, ...]] = {}
        self._marked: dict[str, str] = {}
        self._marked_as_revoked: set[tuple[str, str, str]] = set()
        self._heads = Comparison(project.home)
        self._away: tuple[float, str] | None = None
        self._packages = PackageRepair(project.home)

    @property
    def of_releases(self) -> tuple[Callable[[], tuple[str, ...]], ...]:
        """What needs the ledger and the endpoint alone."""
        return (
            self.ring,
            self.keep_head_record,
            self.finish_releases,
            self.raise_alarms,
        )

    @property
    def of_the_record(self) -> tuple[Callable[[], tuple[str, ...]], ...]:
        """What asks MLflow or Prefect, and may wait for either."""
        heads = (
            self.repair_packages,
            self.compare_heads,
            self.put_champions_back,
            self.write_heads,
            self.tell_witness,
        )
        return (*heads, self.end_dead_runs, *self._schedules)

    def ring(self) -> tuple[str, ...]:
        """A doorbell may have been lost: ring again. An endpoint that stays away is told to people; one that starts is given its time."""
        try:
            seen = endpoint_client(self._project.home).ring()
        except ServingError as error:
            since, first = self._away = self._away or (time.monotonic(), str(error))
            if time.monotonic() - since < SECONDS_TO_START:
                raise
            return self._notified(
                "ring",
                f"The endpoint has been away for {SECONDS_TO_START:g} s: {first}",
            )
        self._away = None
        return self._notified(
            "ring", *(f"The endpoint: {alarm}" for alarm in seen.alarms)
        )

    def keep_head_record(self) -> tuple[str, ...]:
        """How far the ledger goes is kept in this home, too."""
        return self._notified(
            "record", *self._heads.mended_record(self._ledger, self._ledger.state())
        )

    def finish_releases(self) -> tuple[str, ...]:
        """Take over a release whose driver is gone; one that is driven is left alone."""
        waiting = [
            name
            for name, model in self._ledger.state().models.items()
            if not is_at_rest(model)
        ]
        if not waiting:
            return ()
        with try_exclusive(release_lock(self._project.home)) as is_free:
            if not is_free:
                return ()
            context = open_release_context(self._project.home)
            return tuple(
                sentence for name in waiting for sentence in self._finish(name, context)
            )

    def put_champions_back(self) -> tuple[str, ...]:
        """The alias `champion` is what the ledger says, whoever moved or deleted it."""
        try:
            ledger_state = self._sure_state()
            sentences = (
                *move_champions(self._store, ledger_state),
                *drop_revoked_challengers(self._store, ledger_state),
            )
        except RegistryError as error:
            sentences = (
                f"Whether each `champion` is what the ledger says is not known: {error}",
            )
        return self._notified("champions", *sentences)

    def compare_heads(self) -> tuple[str, ...]:
        """What version pages, witness and this home remember is what the ledger holds."""
        return self._notified(
            "comparison",
            *self._heads.compare(
                lambda: self._store, self._ledger, self._ledger.state()
            ),
        )

    def write_heads(self) -> tuple[str, ...]:
        """The ledger's head on the page of what serves, and on each revoked version's that it is: a tail that is cut off shows there."""
        ledger_state = (
            self._sure_state()
        )  # nothing is written over a page that remembers more
        current = [
            model.current.release
            for model in ledger_state.models.values()
            if model.current is not None
        ]
        heads = [
            why
            for release in current
            for why in self._marked_page(release, ledger_state)
        ]
        key = load_key(
            self._project.home
        ).public.key_id  # after a rotation the pages are sealed with the new one
        revoked = [
            (name, version, key)
            for name, model in ledger_state.models.items()
            for version in sorted(model.revoked)
        ]
        marks = [
            why for each in revoked for why in self._marked_revoked(each, ledger_state)
        ]
        return self._notified("heads", *heads, *marks)

    def tell_witness(self) -> tuple[str, ...]:
        """Whoever else remembers the ledger is told how far it goes."""
        return self._notified("witness", *self._heads.tell(self._sure_state()))

    def repair_packages(self) -> tuple[str, ...]:
        """A package folder of what serves that is damaged or gone is fetched again, beside it; people are told, whatever came of it."""
        damaged = self._packages.damaged(self._ledger.state())
        return self._notified(
            "packages",
            *(self._packages.repair(release, self._store) for release in damaged),
        )

    def end_dead_runs(self) -> tuple[str, ...]:
        """A run whose process was killed says so in MLflow."""
        return end_dead_runs(self._store, self._project)

    def crashed_runs(self) -> tuple[str, ...]:
        """A run that crashed is told, whatever became of the event that said so."""
        return self._crashes.watch()

    def raise_alarms(self) -> tuple[str, ...]:
        """What runs out while its model serves: told once, and nothing is taken out of service for it."""
        ledger_state, now = self._ledger.state(), datetime.now(UTC)
        leaned_on = {
            generation: held.release
            for model in ledger_state.models.values()
            if (held := model.current) is not None
            for generation in ledger_state.judged[held.judged].waivers
        }
        ending = [
            each
            for each in ledger_state.waivers
            if each.generation in leaned_on and each.until - now < SOON
        ]
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
        current = [
            model.current
            for model in self._ledger.state().models.values()
            if model.current is not None
        ]
        return [sentence for held in current for sentence in self._old(held, now)]

    def _old(self, held: RecordedRelease, now: datetime) -> tuple[str, ...]:
        release = held.release
        try:
            days = load_policy(
                policy_file(self._project.root, release.model)
            ).gates.judge.max_age_days
        except AssayError as error:
            return (
                f"Whether the evidence of {release.model} is too old is not known: {error}",
            )
        if now - held.at <= timedelta(days=days):
            return ()
        since = f"{held.at:%Y-%m-%d}"
        what = f"{release.model} version {release.version}"
        return (
            f"The evidence of {what} is from before {since}: over {days:g} days. It goes on serving.",
        )

    def _sure_state(self) -> LedgerState:
        """How things stand, where the ledger holds all that this home remembers of it; `BrokenLedger` otherwise."""
        ledger_state = self._ledger.state()
        check_home(self._ledger, ledger_state)
        return ledger_state

    def _marked_revoked(
        self, marked: tuple[str, str, str], ledger_state: LedgerState
    ) -> tuple[str, ...]:
        """Nothing where the version's page says, sealed with this key, that it is revoked; else why it does not."""
        model, version, _ = marked
        if marked in self._marked_as_revoked:
            return ()
        try:
            mark_revoked(self._store, self._ledger, ledger_state, model, version)
        except AssayError as error:
            return (
                f"The page of {model} version {version} does not say that it is revoked: {error}",
            )
        self._marked_as_revoked.add(marked)
        return ()

    def _marked_page(
        self, release: Release, ledger_state: LedgerState
    ) -> tuple[str, ...]:
        """Nothing where the release's page says that head; else why it does not. It is tried again in the next round."""
        mark = ledger_state.head.as_tag
        if self._marked.get(release.model) == mark:
            return ()
        try:
            tags = {
                PAGE_TAG: mark,
                **sealed_tag(
                    self._ledger,
                    HeadRecord.about(ledger_state, release.model, release.version),
                ),
            }
            self._store.annotate(
                self._store.get_version(release.model, release.version), tags
            )
        except AssayError as error:
            return (
                f"The page of {release.model} version {release.version} does not say how far the ledger goes: {error}",
            )
        self._marked[release.model] = mark
        return ()

    @property
    def _schedules(self) -> tuple[Callable[[], tuple[str, ...]], ...]:
        from flows.schedule.arrivals import watch_data
        from flows.schedule.overdue import watch_schedules

        def data_arrivals() -> tuple[str, ...]:
            return watch_data(self._project)

        def overdue_runs() -> tuple[str, ...]:
            return watch_schedules(self._project)

        return (data_arrivals, overdue_runs, self.crashed_runs)

    def _finish(self, model: str, context: ReleaseContext) -> tuple[str, ...]:
        try:
            context.endpoint.state()
        except ServingError:
            return ()  # with nothing to load it in, a release waits
        carry_on(model, context)
        current = context.ledger.state().model(model).current
        serves = "nothing" if current is None else f"version {current.release.version}"
        return (
            f"A release of {model} that was left on its way was carried to its end: {serves} serves.",
        )

    def _notified(self, duty: str, *sentences: str) -> tuple[str, ...]:
        """Those that did not hold in the last round are told to people; one that ends and comes back is told again."""
        from core.notify import notify

        new = tuple(each for each in sentences if each not in self._told.get(duty, ()))
        self._told[duty] = sentences
        for sentence in new:
            notify(self._project.home, "Assay: attention", sentence)
        return new

    @cached_property
    def _crashes(self) -> "Crashes":
        from flows.schedule.crashes import Crashes

        return Crashes(self._project)

    @cached_property
    def _ledger(self) -> Ledger:
        return read_ledger(self._project.home)

    @cached_property
    def _store(self) -> Store:
        return open_store(self._project)
