"""Where reports on safety and on HumanEval do not follow from what is stored beside them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from core.errors import IncompleteEvidence
from core.files import sha256_of
from core.value import FileDigest, Value
from pipelines.code_tasks.report import report_humaneval
from pipelines.code_tasks.scored import FILE as HUMANEVAL_FILE
from pipelines.code_tasks.scored import asked_as
from pipelines.gates.comparisons import list_differences
from pipelines.safety.report import report_safety
from pipelines.safety.scored import FILE
from pipelines.scoring.evidence_file import Evidence
from pipelines.values.evidence import Scorecard
from pipelines.values.humaneval import ALL_TASKS, HumanEvalAnswers
from pipelines.values.params import load_params
from pipelines.values.safety import SafetyAnswers


def probe_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> Iterator[str]:
    """Compute both reports again, and hold them against the scorecard and the parameters.

    `DamagedFile` where the stored answers cannot be read.
    """
    yield from safety_differences(
        folder,
        scorecard,
        evidence,
    )
    yield from humaneval_differences(
        folder,
        scorecard,
        evidence,
    )


def safety_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> Iterator[str]:
    """Compute the report again, and hold it against the scorecard and the parameters.

    `DamagedFile` where the stored answers cannot be read.
    """
    params = load_params(folder / "params.yaml")
    stored = scorecard.safety
    asked = () if stored is None else stored.asked
    # A probe whose result was taken out would not be judged.
    if asked != params.safety.asked:
        yield (
            f"scorecard.safety: params.yaml asks for {_list(params.safety.asked)}, "
            f"and the scorecard holds {_list(asked)}"
        )
        return
    if stored is None:
        return
    path = folder / FILE
    if not _is_named(path, scorecard.safety_answers):
        yield f"scorecard.safety: {_describe_other(FILE)}"
        return
    answers = SafetyAnswers.read(path)
    yield from _maker_differences("safety", answers, scorecard, evidence)
    wanted = params.safety.memorised_characters
    if answers.least_common != wanted:
        yield (
            f"scorecard.safety: {answers.least_common} characters count as verbatim, "
            f"params.yaml asks for {wanted}"
        )
    yield from _report_differences(
        "scorecard.safety",
        stored,
        lambda: report_safety(answers, params.bias.refusal_pattern),
    )


def _report_differences(
    name: str, stored: Value, compute: Callable[[], Value]
) -> Iterator[str]:
    """Where a report is not what its answers give once more."""
    try:
        recomputed = compute()
    except IncompleteEvidence as error:
        yield f"{name}: {error}"
        return
    yield from list_differences(
        name,
        stored.model_dump(mode="json"),
        recomputed.model_dump(mode="json"),
    )


def humaneval_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> Iterator[str]:
    """The same of HumanEval: from what passed in boxes, which is not run again."""
    params = load_params(folder / "params.yaml").humaneval
    stored = scorecard.humaneval
    if not asked_as(stored, params):
        yield (
            f"scorecard.humaneval: params.yaml asks for {params.samples} samples, "
            "and the scorecard holds something else"
        )
        return
    if stored is None:
        return
    path = folder / HUMANEVAL_FILE
    if not _is_named(path, scorecard.humaneval_answers):
        yield f"scorecard.humaneval: {_describe_other(HUMANEVAL_FILE)}"
        return
    answers = HumanEvalAnswers.read(path)
    yield from _maker_differences("humaneval", answers, scorecard, evidence)
    # Fewer tasks than there are can be called all of them by nobody.
    if answers.is_complete and len(set(answers.tasks)) != ALL_TASKS:
        yield f"scorecard.humaneval: {len(answers.tasks)} tasks are not all of them"
    yield from _report_differences(
        "scorecard.humaneval",
        stored,
        lambda: report_humaneval(answers),
    )


def _is_named(path: Path, digest: FileDigest | None) -> bool:
    # The digest comes first: nothing is computed from other bytes.
    if digest is None or not path.is_file():
        return False
    found = sha256_of(path)
    named = digest.sha256
    return found == named


def _describe_other(file: str) -> str:
    return f"{file} is missing, or another file than the one that the scorecard names"


def _maker_differences(
    name: str,
    answers: SafetyAnswers | HumanEvalAnswers,
    scorecard: Scorecard,
    evidence: Evidence,
) -> Iterator[str]:
    """The probes asked the adapter, the base and the champion of the rest of the evidence."""
    # From the scorecard and the evidence, which the ledger knows.
    expected = {"adapter": scorecard.adapter.sha256, "base": None}
    if "champion" in evidence.rows:
        made_by = evidence.made_by.get("champion")
        expected["champion"] = None if made_by is None else made_by.adapter_sha256
    if answers.systems != expected:
        yield f"scorecard.{name}: other adapters answered than those of the evidence"
    if answers.base_digest != scorecard.adapter.base_digest:
        yield f"scorecard.{name}: another base answered than that of the evidence"


def _list(probes: tuple[str, ...]) -> str:
    return ", ".join(probes) or "no probe"
