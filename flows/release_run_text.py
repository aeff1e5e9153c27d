"""What a run in Prefect says of a case: subject, states, steps, and a page in Markdown."""

from datetime import datetime

from core.address import redact_secrets
from core.errors import BrokenLedger
from flows.schedule.prefect_runs import RunState, RunSubject, ShownStep
from pipelines.values.verdict import Finding
from registry.ledger.ledger import Ledger
from registry.mlflow.card import escape
from registry.release.case import Case, CaseStep
from registry.release.recorded_verdict import recorded_findings

FLOW = "release"
_TYPES = {"completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}
RUNNING = RunState(type="RUNNING", name="Running")
_LONGEST_REASON = 1000
_MOST_FINDINGS = 20
_ERASED, _EDITED = "(reason erased)", "(reason edited by hand)"


def run_subject(case: Case, ledger: Ledger, ledger_id: str) -> RunSubject:
    """What the run of a case is about; its key follows from the ledger."""
    parameters = {
        "model": case.model,
        "version": case.version,
        "by": case.by,
        "reason": _reason(ledger, case.reason_sha256),
        "generation": str(case.entry),
    }
    return RunSubject(
        flow=FLOW,
        key=f"assay:{ledger_id}:{case.entry}",
        name=case.name,
        at=case.at,
        parameters=parameters,
        tags=("assay", case.model),
    )


def final_state(case: Case, ledger: Ledger) -> RunState:
    """The state in which the run of a case ends."""
    end = case.end
    if end is None:
        return RUNNING
    by = f" by {end.by}" if end.by else ""
    reason = _reason(ledger, end.reason_sha256)
    at = _moment(end.at)
    # Prefect keeps the time at which it was told; this is the ledger's.
    message = f"Entry {end.entry} at {at} UTC{by}"
    if reason:
        message = f"{message}: {reason}"
    return RunState(
        type=_TYPES[end.ending],
        name=end.word,
        message=message,
    )


def shown_step(step: CaseStep, case: Case, ledger: Ledger) -> ShownStep:
    """A step as a task run."""
    message = _step_text(
        step,
        case,
        ledger,
    )
    return ShownStep(
        key=str(step.entry),
        name=step.name,
        began=step.began,
        ended=step.ended,
        has_failed=step.has_failed,
        message=message,
    )


def _step_text(step: CaseStep, case: Case, ledger: Ledger) -> str:
    if step.verdict_sha256 is not None:
        against = [
            finding.text
            for finding in _findings(step, ledger)
            if finding.outcome != "passed"
        ]
        return ". ".join(against)
    # A step that failed is the one in which the case ended.
    if step.has_failed and case.end is not None:
        return _reason(ledger, case.end.reason_sha256)
    return f"Entry {step.entry}"


def _findings(step: CaseStep, ledger: Ledger) -> tuple[Finding, ...]:
    if step.verdict_sha256 is None:
        return ()
    return recorded_findings(ledger, step.verdict_sha256)


def _reason(ledger: Ledger, sha256: str | None) -> str:
    """What a person gave, or the machine; without what looks like a secret."""
    if sha256 is None:
        return ""
    try:
        text = ledger.recall(sha256)
    except BrokenLedger:
        return _EDITED
    # Erased for a person's sake: it must not come back through here.
    if text is None:
        return _ERASED
    # Other people may look into Prefect than into the ledger.
    shown_text = redact_secrets(text)
    return shown_text[:_LONGEST_REASON]


def page_of(case: Case, ledger: Ledger) -> str:
    """Markdown for the run's page: who asked for what and why, and each step."""
    word = "On its way" if case.end is None else case.end.word
    reason = _cell(_reason(ledger, case.reason_sha256)) or "no reason is on record"
    # Names and reasons were typed by people: nothing of them may become markup.
    model = escape(case.model)
    by = escape(case.by)
    lines = [
        f"# {word}: version {case.version} of {model}",
        "",
        f"Asked by {by} at {_moment(case.at)} UTC (entry {case.entry}): {reason}",
        "",
        "| step | entry | from (UTC) | to (UTC) | |",
        "| --- | --- | --- | --- | --- |",
        *(_row(step, case, ledger) for step in case.steps),
        "",
    ]
    if case.end is not None:
        state = final_state(case, ledger)
        lines += [_cell(state.message), ""]
    for step in case.steps:
        lines += _finding_lines(step, ledger)
    return "\n".join(lines) + "\n"


def _row(step: CaseStep, case: Case, ledger: Ledger) -> str:
    text = _step_text(
        step,
        case,
        ledger,
    )
    ended = ""
    # One that runs has no end yet.
    if step.ended is not None:
        ended = _moment(step.ended)
    cells = (
        step.name,
        str(step.entry),
        _moment(step.began),
        ended,
        _cell(text),
    )
    row = " | ".join(cells)
    return f"| {row} |"


def _moment(at: datetime) -> str:
    # UTC, as the ledger has it.
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _finding_lines(step: CaseStep, ledger: Ledger) -> list[str]:
    lines = []
    for finding in _findings(step, ledger):
        text = _cell(finding.text)
        line = f"- {finding.outcome}: {text}"
        lines.append(line)
    # A page for people: the ledger keeps the rest.
    return lines[:_MOST_FINDINGS]


def _cell(text: str) -> str:
    """Text on one line that is neither markup nor a cell's end."""
    shown_text = redact_secrets(text)
    words = shown_text.split()
    line = " ".join(words)
    return escape(line)
