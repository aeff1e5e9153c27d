"""What was asked of each model, one case each, with the steps that it went through.

    Wished ─ judged ─ loaded and probed ─ canary steps ─ full traffic ─ Completed
                  └ Failed: refused          └ Failed: aborted     └ Cancelled: a person stopped it

Whether a case is open is read from the ledger's own state and told by nobody: whatever entry ends
a wish or a release ends its case.
"""

from collections.abc import Iterable

from registry.ledger.chain import follow
from registry.ledger.entries import Entry, Judged, ReleaseBegun, RolledBack, Wished
from registry.ledger.state import LedgerState, RecordedRelease
from registry.release.case import (
    Case,
    CaseEnd,
    CaseStep,
    and_step,
    awaits,
    ended,
    is_open,
    with_step,
)


class Cases:
    """The cases of a ledger, which is read on from where it was read last."""

    def __init__(self, after: int = 0) -> None:
        """`after`: cases that had ended by that entry are dropped."""
        self._state: LedgerState | None = None
        self._after = after
        # By their entries: a release names the verdict that it relies on.
        self._verdicts: dict[int, Entry] = {}
        self._open: dict[int, Case] = {}
        self._ended: list[Case] = []

    @property
    def generation(self) -> int:
        """Up to which entry it was read."""
        if self._state is None:
            return 0
        head = self._state.head
        return head.generation

    @property
    def open(self) -> tuple[Case, ...]:
        """Those of which more is to come, the oldest first."""
        cases = self._open.values()
        return tuple(cases)

    @property
    def ended(self) -> tuple[Case, ...]:
        """Those that ended and were not forgotten, in the order of their end."""
        return tuple(self._ended)

    def forget(self, case: Case) -> None:
        """Drop a case that ended."""
        # By value: two cases never have the same entry.
        self._ended.remove(case)

    def read(self, entries: Iterable[Entry]) -> None:
        """Read the next entries; `BrokenLedger` or `IllegalEntry` where one does not follow."""
        for entry in entries:
            # Verified on the way: nobody is shown an entry that the endpoint would not obey.
            after = follow(self._state, (entry,))
            self._state = after
            self._take(entry, after)

    def _take(self, entry: Entry, after: LedgerState) -> None:
        body = entry.body
        if isinstance(body, Judged):
            self._verdicts[entry.generation] = entry
            self._judged(entry, body)
        if isinstance(body, ReleaseBegun):
            self._begin_release(entry, body)
        for case in self.open:
            changed = with_step(case, entry)
            model = after.model(case.model)
            # By the state and not by the kind: a brake for all models ends it, too.
            if not is_open(changed, model):
                changed = ended(changed, entry)
            self._put(changed)
        # Last: what begins here is not ended by its own entry.
        self._begin(entry, after)

    def _put(self, case: Case) -> None:
        end = case.end
        begun = case.entry
        if end is None:
            self._open[begun] = case
            return
        self._open.pop(begun, None)
        # What was shown before must not be shown once more.
        was_shown = end.entry <= self._after
        if not was_shown:
            self._ended.append(case)

    def _judged(self, entry: Entry, body: Judged) -> None:
        step = _verdict_step(entry, body)
        for case in self.open:
            if not awaits(case, body):
                continue
            # Judged because of the wish, and so since the wish.
            began = {"began": case.at}
            step = step.model_copy(update=began)
            changed = and_step(case, step)
            self._put(changed)
            return
        # A command was refused: nothing else of it is in the ledger.
        if body.verdict != "passed":
            refused = _refused_command(
                entry,
                body,
                step,
            )
            self._put(refused)

    def _begin_release(self, entry: Entry, body: ReleaseBegun) -> None:
        """The wish that it answers goes on as a release; a command begins a case of its own."""
        loading = CaseStep(
            entry=entry.generation,
            name="load and probe",
            began=entry.at,
        )
        # No case has the entry 0: a command that was typed answers no wish.
        wished = body.wished or 0
        case = self._open.get(wished)
        if case is None:
            verdict = self._verdicts.get(body.judged)
            case = _typed_release(
                entry,
                body,
                verdict,
            )
        begun = {"begun": entry.generation}
        case = case.model_copy(update=begun)
        changed = and_step(case, loading)
        self._put(changed)

    def _begin(self, entry: Entry, after: LedgerState) -> None:
        body = entry.body
        if isinstance(body, Wished):
            case = _wish(entry, body)
            self._put(case)
        if not isinstance(body, RolledBack):
            return
        # One that answers a wish is that wish's case.
        if body.wished is not None:
            return
        model = after.model(body.model)
        way_back = _way_back(
            entry,
            body,
            model.current,
        )
        self._put(way_back)


def _wish(entry: Entry, body: Wished) -> Case:
    return Case(
        entry=entry.generation,
        model=body.model,
        version=body.version,
        act="release",
        at=entry.at,
        by=body.by,
        reason_sha256=body.reason_sha256,
    )


def _typed_release(entry: Entry, body: ReleaseBegun, verdict: Entry | None) -> Case:
    steps: tuple[CaseStep, ...] = ()
    # A release may have waited for hours between its verdict and its beginning.
    if verdict is not None and isinstance(verdict.body, Judged):
        steps = (_verdict_step(verdict, verdict.body),)
    return Case(
        entry=entry.generation,
        model=body.release.model,
        version=body.release.version,
        act="release",
        at=entry.at if verdict is None else verdict.at,
        by=body.by,
        reason_sha256=body.reason_sha256,
        steps=steps,
    )


def _verdict_step(entry: Entry, body: Judged) -> CaseStep:
    return CaseStep(
        entry=entry.generation,
        name=f"judge: {body.verdict}",
        began=entry.at,
        ended=entry.at,
        has_failed=body.verdict != "passed",
        verdict_sha256=body.verdict_sha256,
    )


def _refused_command(entry: Entry, body: Judged, step: CaseStep) -> Case:
    # Its beginning and its end are one entry.
    end = CaseEnd(entry=entry.generation, at=entry.at, ending="failed", word="Refused")
    return Case(
        entry=entry.generation,
        model=body.model,
        version=body.version,
        act="release",
        at=entry.at,
        by="a command",
        steps=(step,),
        end=end,
    )


def _way_back(entry: Entry, body: RolledBack, target: RecordedRelease | None) -> Case:
    step = CaseStep(
        entry=entry.generation,
        name="full traffic",
        began=entry.at,
        ended=entry.at,
    )
    end = CaseEnd(
        entry=entry.generation,
        at=entry.at,
        ending="completed",
        word="WentBack",
        by=body.by,
        reason_sha256=body.reason_sha256,
    )
    return Case(
        entry=entry.generation,
        model=body.model,
        version="" if target is None else target.release.version,
        act="rollback",
        at=entry.at,
        by=body.by,
        reason_sha256=body.reason_sha256,
        steps=(step,),
        end=end,
    )
