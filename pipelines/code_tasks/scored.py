"""What `score` keeps of HumanEval: the report, and the answers that it was computed from."""

from pathlib import Path
from typing import NamedTuple

from core.errors import IncompleteEvidence
from core.value import FileDigest
from pipelines.code_tasks.report import report_humaneval
from pipelines.values.humaneval import (
    HumanEvalAnswers,
    HumanEvalParams,
    HumanEvalReport,
)
from pipelines.values.params import Params

FILE = "humaneval.json"


class ScoredHumanEval(NamedTuple):
    """Both, or neither where the tasks were not asked."""

    report: HumanEvalReport | None
    answers: FileDigest | None


def humaneval_of(
    answers: HumanEvalAnswers | None, params: Params, into: Path
) -> ScoredHumanEval:
    """Count HumanEval, and write what was answered below `into`.

    `IncompleteEvidence` where the tasks were asked otherwise than the parameters say.
    """
    # Answers of an earlier run may still lie there, at another k.
    if not asked_as(answers, params.humaneval):
        raise IncompleteEvidence(
            "HumanEval's tasks were asked otherwise than humaneval.samples and "
            "humaneval.k in params.yaml say. Run the generate stage again."
        )
    if answers is None:
        return ScoredHumanEval(None, None)
    report = report_humaneval(answers)
    path = into / FILE
    # Whoever checks the report counts it again from this very file.
    answers.write(path)
    return ScoredHumanEval(report, FileDigest.of(path))


def asked_as(
    answers: HumanEvalAnswers | HumanEvalReport | None, params: HumanEvalParams
) -> bool:
    """Whether as many samples were asked for as the parameters say, to be counted at the same k."""
    if answers is None:
        return params.samples == 0
    asked = (answers.samples, answers.k)
    wanted = (params.samples, params.k)
    return asked == wanted
