"""What `score` keeps of the probes: the report, and the answers that it was computed from."""

from pathlib import Path
from typing import NamedTuple

from core.errors import IncompleteEvidence
from core.value import FileDigest
from pipelines.safety.report import report_safety
from pipelines.values.params import Params
from pipelines.values.safety import SafetyAnswers, SafetyReport

FILE = "safety.json"


class ScoredSafety(NamedTuple):
    """Both, or neither where no probe was asked for."""

    report: SafetyReport | None
    answers: FileDigest | None


def safety_of(
    answers: SafetyAnswers | None, params: Params, into: Path
) -> ScoredSafety:
    """Report the probes, and write what they saw below `into`.

    `IncompleteEvidence` where a probe was asked for whose answers are not there.
    """
    asked = params.safety.asked
    # Answers of an earlier run may still lie there, to fewer probes.
    if tuple(answers.asked if answers else ()) != asked:
        raise IncompleteEvidence(
            f"The probes of safety in params.yaml are {', '.join(asked) or 'none'}, "
            "and other ones were asked. Run the generate stage again."
        )
    if answers is None:
        return ScoredSafety(None, None)
    pattern = params.bias.refusal_pattern
    report = report_safety(answers, pattern)
    path = into / FILE
    # Whoever checks the report computes it again from this very file.
    answers.write(path)
    return ScoredSafety(report, FileDigest.of(path))
