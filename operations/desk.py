"""The release manager's desk: what stands first on a version's page in MLflow.

One sentence (fit, not yet, rejected, serves), what is missing, who approved, and the ledger's
entries. The controller keeps it current for each challenger and for what serves.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.errors import AssayError, first_line
from core.files import digest_of_text, sha256_of
from core.project import Project
from flows.admission_there import PUT_BACK, AdmissionThere
from flows.run.model_files import policy_of
from operations.gate_report.fitness import fitness
from operations.gate_report.markdown import plain
from operations.history import HistoryEntry, read_history
from operations.origin_text import describe_origin
from operations.release_report.publish import report_address
from registry.ledger.state import LedgerState, RecordedRelease
from registry.mlflow.recorded import CHALLENGER, RELEASE_REASON, ModelVersion
from registry.mlflow.store import Store
from registry.release.approvals import Target, describe_approvals
from registry.release.people import FILE

if TYPE_CHECKING:
    from flows.judgement import Judgement

_MOST_ENTRIES = 8
_LONGEST_LINE = 200
_SECONDS_BETWEEN_ATTEMPTS = 60.0
"""To judge a version takes seconds: a page that fails is not tried in every round."""
_HOW_TO_RELEASE = (
    f"Set the tag `{RELEASE_REASON}` to why, then the alias `release` on this page."
)
_ONE_ENTRY_ABOUT = frozenset(
    {
        "received",
        "approved",
        "approval_withdrawn",
        "wished",
        "wish_closed",
        "waived",
        "release_begun",
        "release_completed",
        "release_aborted",
        "rolled_back",
        "revoked",
    }
)
"""Kinds of entries that a release manager wants to see; the others follow from these."""


@dataclass(frozen=True)
class Place:
    """A version whose page is kept."""

    model: str
    version: str

    @property
    def subject(self) -> str:
        """As a sentence calls it."""
        return f"Version {self.version} of {self.model}"


class Desks:
    """The pages of one project's models, each written where something about it changed."""

    def __init__(self, project: Project, there: AdmissionThere | None = None) -> None:
        self._project = project
        self._there = there or AdmissionThere(project)
        self._written: dict[Place, str] = {}
        self._links: dict[str, str] = {}
        self._failed: dict[Place, float] = {}
        """When a page could last not be written, on the monotonic clock."""

    def keep(
        self,
        store: Store,
        ledger_state: LedgerState,
        links: dict[str, str] | None = None,
    ) -> tuple[str, ...]:
        """Write the desks that are out of date; gives a sentence for each that could not be.

        `links`: where the run of a version's last release is, by `NAME VERSION`.
        """
        self._links = links or {}
        sentences: list[str] = []
        for place in self._places(store, ledger_state):
            # Whatever a verdict depends on beside the version's own bytes.
            mark = self._mark(place, ledger_state)
            written = self._written.get(place)
            if written == mark or self._has_just_failed(place):
                continue
            try:
                self._write(place, store, ledger_state)
            # One page that cannot be written must not keep the others from being.
            except (AssayError, OSError, ValueError) as error:
                self._failed[place] = time.monotonic()
                fact = first_line(error)
                sentences.append(f"The page of {place.subject} is out of date: {fact}")
                continue
            self._written[place] = mark
        return tuple(sentences)

    def _has_just_failed(self, place: Place) -> bool:
        failed = self._failed.get(place)
        if failed is None:
            return False
        seconds_ago = time.monotonic() - failed
        return seconds_ago < _SECONDS_BETWEEN_ATTEMPTS

    def _places(self, store: Store, ledger_state: LedgerState) -> list[Place]:
        """Every challenger that Assay registered, and what serves or is on its way."""
        # Versions that others registered are none of Assay's business.
        places = {
            Place(name, number)
            for name, number in store.holders(CHALLENGER).items()
            if ledger_state.registration(name, number) is not None
        }
        for name, model in ledger_state.models.items():
            # What served once, too: its page must not go on saying so.
            versions = {each.release.version for each in model.once_served}
            if model.pending is not None:
                versions.add(model.pending.release.version)
            versions |= model.revoked
            places |= {Place(name, number) for number in versions}
        places |= set(_newest_received(ledger_state))
        return sorted(places, key=lambda place: (place.model, place.version))

    def _mark(self, place: Place, ledger_state: LedgerState) -> str:
        root = self._project.root
        files = (policy_of(root, place.model), root / FILE)
        digests = [sha256_of(path) if path.is_file() else "none" for path in files]
        now = datetime.now(UTC)
        in_force = [
            waiver.generation
            for waiver in ledger_state.waivers
            if waiver.model == place.model and now < waiver.until
        ]
        model = ledger_state.model(place.model)
        facts = (
            self._there.sentence(place.model),
            digests,
            in_force,
            # Evidence grows older by the day.
            f"{now:%Y-%m-%d}",
            [each for each in ledger_state.approvals if each.model == place.model],
            ledger_state.frozen,
            ledger_state.revoked_keys,
            sorted(ledger_state.revoked_adapters),
            sorted(ledger_state.revoked_in_origin),
            ledger_state.registration(place.model, place.version),
            model.model_dump(mode="json", exclude={"wish"}),
            self._link(place),
        )
        return digest_of_text(repr(facts))

    def _write(self, place: Place, store: Store, ledger_state: LedgerState) -> None:
        registered = store.known(place.model, place.version)
        # A version that MLflow lost has no page.
        if registered is None:
            return
        # Where MLflow asks nobody, "set the alias" would be a wrong advice.
        there = self._there.sentence(place.model)
        sentences = self._sentences(place, ledger_state)
        if there == PUT_BACK:
            order = f"Ask with `assay promote {place.version} --model {place.model}`."
            sentences = [each.replace(_HOW_TO_RELEASE, order) for each in sentences]
        lines = [
            *sentences,
            *([there, ""] if there else []),
            *_origin(place, ledger_state),
            _approvals(place, ledger_state),
            *self._links_of(place, registered, store.address),
            *_entries(place),
        ]
        store.put_first(registered, "\n".join(lines))

    def _link(self, place: Place) -> str | None:
        return self._links.get(f"{place.model} {place.version}")

    def _links_of(self, place: Place, version: ModelVersion, server: str) -> list[str]:
        """Where its last release is seen, and the report that was attached when that ended."""
        link = self._link(place)
        if link is None:
            return []
        lines = [f"[Its last release in Prefect]({link})", ""]
        report = report_address(version, server)
        if report is not None:
            lines += [f"[The report of its last release]({report})", ""]
        return lines

    def _sentences(self, place: Place, ledger_state: LedgerState) -> list[str]:
        """What holds of the version, and what a person can do."""
        model = ledger_state.model(place.model)
        if place.version in model.revoked:
            return [f"**{place.subject} is revoked.** It never serves again.", ""]
        answering = model.answering
        if _is_of(answering, place) and answering is not None:
            since = f"{answering.at:%Y-%m-%d %H:%M} UTC"
            by = plain(answering.by)
            released = f"released by {by} on {since} (entry {answering.begun})"
            return [f"**{place.subject} serves**, {released}.", ""]
        if _is_of(model.pending, place):
            return [f"**{place.subject} is on its way** to full traffic.", ""]
        if any(_is_of(recorded, place) for recorded in model.once_served):
            return [f"**{place.subject} served before.** {_HOW_TO_RELEASE}", ""]
        return self._judged(place)

    def _judged(self, place: Place) -> list[str]:
        judgement = self._judge(place)
        verdict = judgement.verdict
        sentence = plain(fitness(place.subject, verdict))
        missing = [
            f"- {plain(finding.text)}"
            for finding in verdict.findings
            if finding.outcome != "passed"
        ]
        # The next step of what is missing is in its own sentence.
        step = [] if missing else [_HOW_TO_RELEASE]
        return [f"**{sentence}**", "", *missing, *step, ""]

    def _judge(self, place: Place) -> "Judgement":
        from flows.judgement import judge_version

        return judge_version(self._project, place.model, place.version)


def _newest_received(ledger_state: LedgerState) -> Iterator[Place]:
    """Of each model the version that came last from another installation."""
    newest: dict[str, Place] = {}
    # In the order of their entries.
    for registration in ledger_state.registrations.values():
        made = registration.made
        is_received = registration.received is not None
        if is_received:
            place = Place(
                made.model,
                made.version,
            )
            newest[made.model] = place
    yield from newest.values()


def _is_of(recorded: RecordedRelease | None, place: Place) -> bool:
    return recorded is not None and recorded.release.version == place.version


def _origin(place: Place, ledger_state: LedgerState) -> list[str]:
    """Where a version came from that was not made here."""
    registration = ledger_state.registration(place.model, place.version)
    sentences = describe_origin(registration)
    # Nearly all versions are made here.
    if not sentences:
        return []
    return [plain(" ".join(sentences)), ""]


def _approvals(place: Place, ledger_state: LedgerState) -> str:
    registration = ledger_state.registration(place.model, place.version)
    package = None if registration is None else registration.made.package_sha256
    target = Target(place.model, place.version, package)
    approvals = describe_approvals(target, ledger_state)
    return f"Approvals: {plain(approvals)}.\n"


def _entries(place: Place) -> list[str]:
    """The last entries of the ledger about the version, each with its reason."""
    history = read_history(place.model)
    # Entries of the whole model, such as a waiver, count for each version of it.
    about = [entry for entry in history.entries if _is_about(entry, place)]
    lines = [
        f"- {plain(entry.line.strip()[:_LONGEST_LINE])}"
        for entry in about[-_MOST_ENTRIES:]
    ]
    if not lines:
        return []
    return ["Ledger:", "", *lines, ""]


def _is_about(entry: HistoryEntry, place: Place) -> bool:
    is_of_version = entry.version in {place.version, None}
    is_of_model = entry.model == place.model
    return is_of_model and is_of_version and entry.kind in _ONE_ENTRY_ABOUT
