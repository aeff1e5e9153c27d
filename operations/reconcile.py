"""What the controller does in each round.

A duty gives a sentence for each thing that it changed or found. It is tried by itself, and may be
done twice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from core.errors import (
    AssayError,
    BrokenLedger,
    IllegalEntry,
    RegistryError,
    ServingError,
)
from core.locks import release_lock, try_exclusive
from core.project import Project
from flows.admission_there import AdmissionThere
from flows.alias_wishes import AliasWishes
from flows.champions import drop_revoked_challengers, move_champions
from flows.package_repair import PackageRepair
from flows.receive import Pauses, Receiver, describe_origin_revocations
from flows.release_alias import put_releases_back
from flows.run.dead_runs import end_dead_runs
from flows.run.model_files import policy_of
from flows.wishes import answer_wish
from operations.desk import Desks
from operations.release_record import ReleaseRecord
from operations.remembered import HeadComparison
from operations.rescored import RescoreWatch
from operations.unfinished import Finish, finish_release
from operations.webhook import WebhookDuty
from pipelines.gates.policy import load_policy
from registry.ledger.audit import PAGE_TAG, check_home
from registry.ledger.entries import Release
from registry.ledger.heads import HeadRecord
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger, open_ledger, read_ledger
from registry.ledger.state import LedgerState, RecordedRelease
from registry.mlflow.home_store import open_store
from registry.mlflow.pages import mark_revoked, sealed_tag
from registry.mlflow.store import Store
from registry.release.context import ReleaseContext
from registry.release.granting import goes_back
from registry.release.release import is_at_rest
from serving.replicated import following_endpoint

if TYPE_CHECKING:
    from flows.schedule.crashes import Crashes

# Time enough for a person to renew a waiver.
SOON = timedelta(hours=2)
Duty = Callable[[], tuple[str, ...]]
SECONDS_TO_START = 30.0
"""An endpoint that is away for this long does not start: somebody has to look."""


@dataclass(frozen=True)
class _RevokedPage:
    """A revoked version, and the key with which its page was to be sealed."""

    model: str
    version: str
    key_id: str


@dataclass(frozen=True)
class _Absence:
    """Since when the endpoint has been away, and the first error that said so."""

    since: float
    """On the monotonic clock."""
    error: str


class Reconciler:
    """Ledger, endpoint and MLflow of one home, opened when they are first needed and kept open."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._heads = HeadComparison(project.home)
        self._packages = PackageRepair(project.home)
        self._there = AdmissionThere(project)
        self._aliases = AliasWishes(project, self._there)
        self._desks = Desks(project, self._there)
        self._webhook = WebhookDuty(project.home)
        self._rescores = RescoreWatch()
        self._record = ReleaseRecord(project)
        self._pauses = Pauses()
        self._absence: _Absence | None = None
        self._last_sentences: dict[str, tuple[str, ...]] = {}
        self._heads_on_pages: dict[str, str] = {}
        self._marked_as_revoked: set[_RevokedPage] = set()

    @property
    def of_releases(self) -> tuple[Duty, ...]:
        """Duties that need the ledger and the endpoint alone."""
        return (
            self.ring,
            self.keep_head_record,
            self.finish_releases,
            self.raise_alarms,
        )

    @property
    def of_wishes(self) -> tuple[Duty, ...]:
        """What release managers asked for, which may take as long as an engine takes to load."""
        return (self.answer_wishes,)

    @property
    def of_ways_back(self) -> tuple[Duty, ...]:
        """Going back waits for no engine, and so for no other wish."""
        return (self.go_back, self.go_back_from_worse)

    @property
    def of_transfers(self) -> tuple[Duty, ...]:
        """What other installations send: packages of gigabytes, for which nothing else waits."""
        return (self.receive_transfers,)

    @property
    def of_the_record(self) -> tuple[Duty, ...]:
        """Duties that ask MLflow or Prefect, and may wait for either."""
        return (
            self.repair_packages,
            self.compare_heads,
            self.put_champions_back,
            self.put_releases_back,
            self.write_heads,
            self.keep_desks,
            self.tell_witness,
            self.end_dead_runs,
            *self._schedules,
            self.keep_webhook,
            self.show_releases,
            self.link_releases,
        )

    def ring(self) -> tuple[str, ...]:
        """Ring the endpoint's doorbell again, since an earlier ring may have been lost.

        People are notified of an endpoint that stays away; one that starts gets its time, and until
        then its `ServingError` is raised.
        """
        try:
            state = following_endpoint(self._project.home).ring()
        except ServingError as error:
            if self._absence is None:
                self._absence = _Absence(time.monotonic(), str(error))
            # A restart takes seconds and is nothing to call people for.
            now = time.monotonic()
            seconds_away = now - self._absence.since
            if seconds_away < SECONDS_TO_START:
                raise
            sentence = (
                f"The endpoint has been away for {SECONDS_TO_START:g} s: "
                f"{self._absence.error}"
            )
            return self._notify("ring", sentence)
        self._absence = None
        alarms = (f"The endpoint: {alarm}" for alarm in state.alarms)
        return self._notify("ring", *alarms)

    def keep_head_record(self) -> tuple[str, ...]:
        """Keep a record in this home of how far the ledger goes.

        A ledger that was set back is told to people, and to the endpoint by what is kept.
        """
        try:
            ledger_state = self._ledger.state()
        except (BrokenLedger, IllegalEntry) as error:
            self._heads.remember_own(self._ledger.verified)
            return self._notify("record", f"The ledger is not obeyed: {error}")
        sentences = self._heads.repair_record(self._ledger, ledger_state)
        return self._notify("record", *sentences)

    def finish_releases(self) -> tuple[str, ...]:
        """Take over each release whose driver has ended; one that is driven is left alone."""
        unfinished = [
            name
            for name, model in self._ledger.state().models.items()
            if not is_at_rest(model)
        ]
        # In most rounds there is nothing to finish, and no lock to ask for.
        if not unfinished:
            return ()
        finished: list[Finish] = []
        # The lock is held by whoever drives a release; a killed driver holds none.
        with try_exclusive(release_lock(self._project.home)) as is_free:
            if is_free:
                context = self._release_context()
                ends = (finish_release(name, context) for name in unfinished)
                finished += [end for end in ends if end is not None]
        failures = [end.sentence for end in finished if end.has_failed]
        done = [end.sentence for end in finished if not end.has_failed]
        return (*done, *self._notify("releases", *failures))

    def put_champions_back(self) -> tuple[str, ...]:
        """Set the alias `champion` to what the ledger says, whoever moved or deleted it."""
        try:
            ledger_state = self._complete_state()
            moved = move_champions(self._store, ledger_state)
            dropped = drop_revoked_challengers(self._store, ledger_state)
        # MLflow being away must not hide that the aliases are unverified.
        except RegistryError as error:
            sentence = (
                f"Whether each `champion` is what the ledger says is not known: {error}"
            )
            return self._notify("champions", sentence)
        return self._notify("champions", *moved, *dropped)

    def put_releases_back(self) -> tuple[str, ...]:
        """Set the alias `release` to what the ledger released last, whoever moved it."""
        self._complete_state()
        # In an MLflow without admission an alias may be a wish, where people.yaml says so.
        asked = self._aliases.take(self._store, self._ledger)
        ledger_state = self._complete_state()
        moved = put_releases_back(self._store, ledger_state, self._there.sentence)
        if moved:
            self._aliases.forget_moved(self._store)
        return (*asked, *self._notify("release aliases", *moved))

    def answer_wishes(self) -> tuple[str, ...]:
        """Release what release managers asked for, or refuse it with the reason."""
        return self._answer_wishes(is_way_back=False)

    def go_back(self) -> tuple[str, ...]:
        """Go back to what served before, where release managers asked for that."""
        return self._answer_wishes(is_way_back=True)

    def go_back_from_worse(self) -> tuple[str, ...]:
        """Go back from a release that was scored again and is worse, while it bakes."""
        went_back = self._rescores.go_back(
            self._ledger,
            self._ledger.state(),
            self._release_context,
        )
        sentences = (*went_back.done, *went_back.alarms)
        return self._notify("rescores", *sentences)

    def _answer_wishes(self, *, is_way_back: bool) -> tuple[str, ...]:
        ledger_state = self._ledger.state()
        answered = [
            answer_wish(self._project, name, model.wish, self._ledger_to_write)
            for name, model in ledger_state.models.items()
            if model.wish is not None and goes_back(ledger_state, name) == is_way_back
        ]
        failures = [each.sentence for each in answered if each.has_failed]
        done = [each.sentence for each in answered if not each.has_failed]
        duty = "wishes to go back" if is_way_back else "wishes"
        return (*done, *self._notify(duty, *failures))

    def keep_desks(self) -> tuple[str, ...]:
        """Have each version's page begin with what holds of it, and what is missing."""
        ledger_state = self._complete_state()
        sentences = self._desks.keep(self._store, ledger_state, self._record.links)
        return self._notify("desks", *sentences)

    def keep_webhook(self) -> tuple[str, ...]:
        """Have MLflow ring the doorbell, wherever it is since this start."""
        return self._webhook.keep(self._store)

    def show_releases(self) -> tuple[str, ...]:
        """Have Prefect show each release as a run, also those from while it was down."""
        return self._record.show(self._ledger, self._complete_state())

    def link_releases(self) -> tuple[str, ...]:
        """Have a version's page in MLflow lead to its run in Prefect, and back."""
        return self._record.link(lambda: self._store)

    def compare_heads(self) -> tuple[str, ...]:
        """Compare what version pages, witness and this home remember with the ledger."""
        ledger_state = self._ledger.state()
        sentences = self._heads.compare(lambda: self._store, self._ledger, ledger_state)
        return self._notify("comparison", *sentences)

    def write_heads(self) -> tuple[str, ...]:
        """Write the ledger's head on the page of what serves, and on each page that it is revoked.

        A ledger whose end is cut off shows there.
        """
        # Nothing is written over a page that remembers more than the ledger holds.
        ledger_state = self._complete_state()
        sentences: list[str] = []
        for recorded in _serving_releases(ledger_state):
            sentences += self._write_head(recorded.release, ledger_state)
        # After a rotation the pages are sealed again, with the new key.
        key_id = load_key(self._project.home).public.key_id
        for name, model in ledger_state.models.items():
            for version in sorted(model.revoked):
                page = _RevokedPage(name, version, key_id)
                sentences += self._mark_as_revoked(page, ledger_state)
        return self._notify("heads", *sentences)

    def tell_witness(self) -> tuple[str, ...]:
        """Tell whoever else remembers the ledger how far it goes."""
        ledger_state = self._complete_state()
        sentences = self._heads.tell(ledger_state)
        return self._notify("witness", *sentences)

    def repair_packages(self) -> tuple[str, ...]:
        """Fetch a damaged or missing package of what serves again, and notify people."""
        ledger_state = self._ledger.state()
        sentences: list[str] = []
        for release in self._packages.damaged(ledger_state):
            sentence = self._packages.repair(release, self._store)
            sentences.append(sentence)
        return self._notify("packages", *sentences)

    def receive_transfers(self) -> tuple[str, ...]:
        """Take in what other installations sent, if their ledger is one that is listed."""
        receiver = Receiver(
            self._project,
            self._ledger_to_write,
            self._store,
            self._pauses,
        )
        return self._notify("transfers", *receiver.receive_all())

    def end_dead_runs(self) -> tuple[str, ...]:
        """Mark runs in MLflow whose process was killed."""
        return end_dead_runs(self._store, self._project)

    def crashed_runs(self) -> tuple[str, ...]:
        """Notify people of each run that crashed, even where its event was lost."""
        return self._crashes.watch()

    def raise_alarms(self) -> tuple[str, ...]:
        """Notify people once of what expires while its model serves; the model keeps serving."""
        ledger_state = self._ledger.state()
        now = datetime.now(UTC)
        sentences = _describe_ending_waivers(ledger_state, now)
        sentences += describe_origin_revocations(ledger_state)
        for recorded in _serving_releases(ledger_state):
            sentences += self._describe_old_evidence(recorded, now)
        return self._notify("waivers", *sentences)

    def _describe_old_evidence(
        self, recorded: RecordedRelease, now: datetime
    ) -> list[str]:
        """Say that a release's evidence is older than the policy allows for a new release."""
        release = recorded.release
        try:
            policy = load_policy(policy_of(self._project.root, release.model))
        except AssayError as error:
            sentence = f"Whether the evidence of {release.model} is too old is not known: {error}"
            return [sentence]
        # The policy as it is now, which may differ from that of the judgement.
        days = policy.gates.judge.max_age_days
        age = now - recorded.at
        if age <= timedelta(days=days):
            return []
        name = f"{release.model} version {release.version}"
        sentence = (
            f"The evidence of {name} is from before {recorded.at:%Y-%m-%d}: "
            f"over {days:g} days. It continues to serve."
        )
        return [sentence]

    def _complete_state(self) -> LedgerState:
        """Give the ledger's state; `BrokenLedger` where this home remembers more of it."""
        ledger_state = self._ledger.state()
        check_home(self._ledger, ledger_state)
        return ledger_state

    def _mark_as_revoked(
        self, page: _RevokedPage, ledger_state: LedgerState
    ) -> tuple[str, ...]:
        """Seal on a version's page that it is revoked; a sentence where that fails."""
        # Asked of MLflow once, and not in every round.
        if page in self._marked_as_revoked:
            return ()
        try:
            mark_revoked(
                self._store, self._ledger, ledger_state, page.model, page.version
            )
        except AssayError as error:
            sentence = (
                f"The page of {page.model} version {page.version} does not say "
                f"that it is revoked: {error}"
            )
            return (sentence,)
        self._marked_as_revoked.add(page)
        return ()

    def _write_head(
        self, release: Release, ledger_state: LedgerState
    ) -> tuple[str, ...]:
        """Write the head on the release's page; a sentence where that fails.

        The next round tries it again.
        """
        head = ledger_state.head.as_tag
        # The ledger moves seldom, and each page costs two requests.
        if self._heads_on_pages.get(release.model) == head:
            return ()
        try:
            self._annotate_page(release, ledger_state)
        except AssayError as error:
            sentence = (
                f"The page of {release.model} version {release.version} "
                f"does not say how far the ledger goes: {error}"
            )
            return (sentence,)
        self._heads_on_pages[release.model] = head
        return ()

    def _annotate_page(self, release: Release, ledger_state: LedgerState) -> None:
        record = HeadRecord.about(ledger_state, release.model, release.version)
        tags = {
            PAGE_TAG: ledger_state.head.as_tag,
            **sealed_tag(self._ledger, record),
        }
        version = self._store.get_version(release.model, release.version)
        self._store.annotate(version, tags)

    @property
    def _schedules(self) -> tuple[Duty, ...]:
        from flows.schedule.arrivals import watch_data
        from flows.schedule.overdue import watch_schedules

        # A duty's name is what the controller's log calls it.
        def data_arrivals() -> tuple[str, ...]:
            return watch_data(self._project)

        def overdue_runs() -> tuple[str, ...]:
            return watch_schedules(self._project)

        return (data_arrivals, overdue_runs, self.crashed_runs)

    def _notify(self, duty: str, *sentences: str) -> tuple[str, ...]:
        """Notify people of each sentence that the duty did not give in its last round.

        One that ends and comes back is told again.
        """
        from core.notify import notify

        last_sentences = self._last_sentences.get(duty, ())
        new = tuple(
            sentence for sentence in sentences if sentence not in last_sentences
        )
        # Kept before people are notified: an address that fails must not repeat the rest.
        self._last_sentences[duty] = sentences
        for sentence in new:
            notify(self._project.home, "Assay: attention", sentence)
        return new

    @cached_property
    def _crashes(self) -> "Crashes":
        from flows.schedule.crashes import Crashes

        return Crashes(self._project)

    def _release_context(self) -> ReleaseContext:
        endpoint = following_endpoint(self._project.home)
        return ReleaseContext(self._ledger_to_write, endpoint)

    @cached_property
    def _ledger(self) -> Ledger:
        return read_ledger(self._project.home)

    @cached_property
    def _ledger_to_write(self) -> Ledger:
        return open_ledger(self._project.home)

    @cached_property
    def _store(self) -> Store:
        return open_store(self._project)


def _serving_releases(ledger_state: LedgerState) -> list[RecordedRelease]:
    models = ledger_state.models.values()
    currents = [model.current for model in models]
    return [current for current in currents if current is not None]


def _describe_ending_waivers(ledger_state: LedgerState, now: datetime) -> list[str]:
    """Name the waivers that a serving release depends on and that have ended or end soon."""
    serving = _serving_releases(ledger_state)
    judged = ledger_state.judged
    releases_by_waiver = {
        generation: recorded.release
        for recorded in serving
        for generation in judged[recorded.judged].waivers
    }
    sentences = []
    for waiver in ledger_state.waivers:
        release = releases_by_waiver.get(waiver.generation)
        # A waiver that no serving release used may end unnoticed.
        if release is None or not waiver.until - now < SOON:
            continue
        verb = "ended" if waiver.until <= now else "ends"
        until = f"{waiver.until:%Y-%m-%d %H:%M} UTC"
        name = f"{waiver.model} version {release.version}"
        sentences.append(
            f"The waiver of {waiver.rule} that {name} depends on {verb} at {until}. "
            "It continues to serve."
        )
    return sentences
