"""RELEASE RUNS: each release, refusal and way back as a flow run in Prefect, by the ledger.

The controller carries releases out itself and tells Prefect afterwards, so that Prefect may be down
for an hour and nothing waits for it. What was not shown is shown later, from where
`HOME/release_runs.json` says; a run's key follows from the ledger, so that there is one of each.
"""

import os
import re
import time
from pathlib import Path

from pydantic import Field

from core.address import shown
from core.errors import AssayError, DamagedFile
from core.value import Value
from flows.release_run_text import (
    RUNNING,
    final_state,
    page_of,
    run_subject,
    shown_step,
)
from flows.run.report import link_to
from flows.schedule import prefect_api, prefect_runs
from flows.schedule.prefect_runs import ShownRun
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.release.case import Case
from registry.release.cases import Cases

MOST_IN_A_ROUND = 20
"""A ledger of years is filled in bit by bit: other duties wait for this one."""
SECONDS_AFTER_A_FAILURE = 30.0


class DuePage(Value):
    """A version whose page in MLflow does not say yet in which run it is released."""

    model: str
    version: str
    flow_run_id: str
    is_ended: bool


class RunMemory(Value):
    """How far the ledger was shown to which Prefect, and the run of each version."""

    server: str = ""
    ledger_id: str = ""
    shown: int = 0
    """Every case that ended by that entry is shown, once and for all."""
    due: tuple[DuePage, ...] = ()
    links: dict[str, str] = Field(default_factory=dict)
    """Where each version's last run is, by `NAME VERSION`."""


class ReleaseRuns:
    """The cases of one home's ledger, and what Prefect has of them."""

    def __init__(self, home: Path) -> None:
        self._path = home / "release_runs.json"
        self._cases = Cases()
        self._memory: RunMemory | None = None
        self._failed: float | None = None
        self._synced = 0
        """The entry up to which those that are open were shown."""

    @property
    def memory(self) -> RunMemory:
        """What is remembered; of a damaged file nothing: then all is shown again, each once."""
        # One controller of a home works, so nobody else writes the file.
        if self._memory is None:
            try:
                self._memory = RunMemory.read(self._path)
            except DamagedFile:
                self._memory = RunMemory()
        return self._memory

    def show(self, ledger: Ledger, ledger_state: LedgerState) -> tuple[str, ...]:
        """Have Prefect show what is new in the ledger; gives a sentence for each case that ended.

        `OperationError` where Prefect does not answer: the rest is shown later.
        """
        if not prefect_api.is_configured() or self._has_just_failed:
            return ()
        self._begin_anew_elsewhere(ledger_state)
        self._cases.read(ledger.entries(after=self._cases.generation))
        # In most rounds nothing is new, and Prefect is asked nothing.
        if self._synced == self._cases.generation and not self._cases.ended:
            return ()
        try:
            return self._show_new(ledger, ledger_state.head.ledger_id)
        except AssayError:
            self._failed = time.monotonic()
            raise

    def postpone(self, page: DuePage) -> None:
        """Have a page wait behind the others."""
        due = (
            *self._others(page),
            page,
        )
        self._update(due=due)

    def settle(self, page: DuePage) -> None:
        """Forget a page that says by now what it was to say."""
        due = self._others(page)
        self._update(due=due)

    def _others(self, page: DuePage) -> tuple[DuePage, ...]:
        """Without any page of the same version: only its last run counts."""
        subject = _subject_of(page)
        kept = []
        for each in self.memory.due:
            if _subject_of(each) != subject:
                kept.append(each)  # noqa: PERF401 - one thought a line
        return tuple(kept)

    def _show_new(self, ledger: Ledger, ledger_id: str) -> tuple[str, ...]:
        sentences = []
        for case in self._cases.ended[:MOST_IN_A_ROUND]:
            self._show_case(case, ledger, ledger_id)
            # After it was shown: whoever is killed in between shows it once more.
            self._cases.forget(case)
            self._move_on(case)
            sentence = f"Prefect shows the {case.name} (entry {case.entry})."
            sentences.append(sentence)
        # However many are left of those that ended: people watch these.
        for case in self._cases.open:
            self._show_case(
                case,
                ledger,
                ledger_id,
            )
        if not self._cases.ended:
            self._synced = self._cases.generation
        return tuple(sentences)

    def _show_case(self, case: Case, ledger: Ledger, ledger_id: str) -> None:
        subject = run_subject(
            case,
            ledger,
            ledger_id,
        )
        run = prefect_runs.create_run(subject)
        if case.end is None:
            prefect_runs.set_state(run, RUNNING)
        steps = [shown_step(step, case, ledger) for step in case.steps]
        prefect_runs.record_steps(run, steps)
        text = page_of(case, ledger)
        prefect_runs.put_markdown(
            run,
            _artifact_key(case),
            text,
            case.name,
        )
        # Last: a run that has ended is whole, so whoever is killed before does it again.
        if case.end is not None:
            state = final_state(case, ledger)
            prefect_runs.set_state(run, state)
        self._note(case, run)

    def _note(self, case: Case, run: ShownRun) -> None:
        """Have the version's page in MLflow lead to the run."""
        # A way back of which nothing serves names no version.
        if not case.version:
            return
        page = DuePage(
            model=case.model,
            version=case.version,
            flow_run_id=run.id,
            is_ended=case.end is not None,
        )
        subject = _subject_of(page)
        links = self.memory.links
        link = link_to(run.id)
        # Once while it is on its way, and once more for its report.
        if links.get(subject) == link and not page.is_ended:
            return
        due = (
            *self._others(page),
            page,
        )
        links = {
            **links,
            subject: link,
        }
        self._update(due=due, links=links)

    def _move_on(self, case: Case) -> None:
        """Remember that the case is shown, once all that its last entry ended are."""
        end = case.end
        if end is None:
            return
        # One entry may end two cases: the second would be dropped at the next start.
        for other in self._cases.ended:
            if other.end is None:
                continue
            if other.end.entry == end.entry:
                return
        self._update(shown=end.entry)

    def _begin_anew_elsewhere(self, ledger_state: LedgerState) -> None:
        """Show all of a ledger to a Prefect that has none of it."""
        address = os.environ.get("PREFECT_API_URL", "")
        server = shown(address)
        ledger_id = ledger_state.head.ledger_id
        memory = self.memory
        is_same_server = memory.server == server
        if not is_same_server or memory.ledger_id != ledger_id:
            memory = RunMemory(server=server, ledger_id=ledger_id)
            self._remember(memory)
            self._cases = Cases()
            self._synced = 0
        # At a start of the controller, too: what was shown is known from the file.
        if self._cases.generation == 0:
            self._cases = Cases(after=memory.shown)

    def _update(self, **fields: object) -> None:
        memory = self.memory.model_copy(update=fields)
        self._remember(memory)

    def _remember(self, memory: RunMemory) -> None:
        # Whole or not at all: a torn file would have everything shown again.
        memory.write(self._path)
        self._memory = memory

    @property
    def _has_just_failed(self) -> bool:
        if self._failed is None:
            return False
        now = time.monotonic()
        seconds = now - self._failed
        return seconds < SECONDS_AFTER_A_FAILURE


def _artifact_key(case: Case) -> str:
    """A name as Prefect takes it: small letters, digits and dashes."""
    name = case.model.lower()
    slug = re.sub("[^a-z0-9]+", "-", name)
    return f"release-{slug.strip('-')}"


def _subject_of(page: DuePage) -> str:
    # A model's name holds no space.
    words = (
        page.model,
        page.version,
    )
    return " ".join(words)
