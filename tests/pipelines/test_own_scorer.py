"""A scorer of `mlflow.genai` in a file of the project is an own metric."""

from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from core.errors import ParameterError
from pipelines.metrics import ScoredRow
from pipelines.metrics.own import count_rows, describe_file
from pipelines.metrics.own_fault import Fault
from pipelines.metrics.own_file import read_metric_file
from pipelines.metrics.own_scorer import OfScorer
from tests.support.own_metrics import NAME, write_metric

ROWS = (
    ScoredRow(prompt_id="p0", prediction="red", references=("blue", "red")),
    ScoredRow(prompt_id="p1", prediction="Answer: green", references=("green",)),
)
DISTANCE = """
from mlflow.entities import Feedback
from mlflow.genai.scorers import scorer

unit = "letters"
higher_is_better = False
scale = 100.0

@scorer
def word_error(outputs, expectations) -> Feedback:
    return Feedback(value=abs(len(outputs) - len(expectations["expected_response"])))
"""
BUILT_IN = f"""
from mlflow.genai.scorers import RegexMatch

prefix = RegexMatch(name={NAME!r}, pattern="^Answer:")
"""


class Equal:
    """A scorer as MLflow calls it, of a class of its own."""

    name = NAME

    def __call__(self, *, outputs: str, expectations: dict[str, str]) -> bool:
        return outputs == expectations["expected_response"]


class Says(Equal):
    """One that says the same of everything."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def __call__(self, *, outputs: str, trace: object = None) -> Any:  # type: ignore[override]
        del outputs, trace
        return self.said


class OfTrace(Equal):
    """One that asks for what nobody keeps."""

    def __call__(self, *, trace: object) -> bool:  # type: ignore[override]
        return trace is not None


class Judge(Equal):
    """One that asks a language model."""

    model = "openai:/some"


class Rating(StrEnum):
    """As MLflow's built-in scorers answer."""

    YES = "yes"


# MLflow needs seconds to be imported, in each of two processes.
@pytest.mark.ci
@pytest.mark.parametrize(
    ("text", "expected", "unit", "compares"),
    [
        (DISTANCE, [0.0, 8.0], "letters", True),
        (BUILT_IN, [0.0, 1.0], "0 to 1", False),
    ],
    ids=["function", "built in"],
)
def test_a_scorer_counts_rows(
    tmp_path: Path, text: str, expected: list[float], unit: str, compares: bool
) -> None:
    write_metric(tmp_path, text)
    file = read_metric_file(NAME, tmp_path)
    metric = count_rows(file, ROWS, [row.references for row in ROWS])
    counted = [metric.row_statistics(row) for row in ROWS]
    assert counted == [(number, 1.0) for number in expected]
    assert (metric.unit, metric.compares_answers) == (unit, compares)
    # The file is part of the identity as that of a class is.
    assert metric.signature(ROWS).endswith(f"sha256:{file.sha256}")


@pytest.mark.ci
def test_a_file_has_one_scorer(tmp_path: Path) -> None:
    write_metric(tmp_path, DISTANCE + "also = scorer(lambda outputs: 1, name='b')\n")
    with pytest.raises(ParameterError, match="2 metrics, word_error and b: leave one"):
        describe_file(read_metric_file(NAME, tmp_path))


def test_the_best_reference_counts_and_a_yes_is_one() -> None:
    metric = OfScorer(Equal(), {})
    assert [metric.row_statistics(row) for row in ROWS] == [(1.0, 1.0), (0.0, 1.0)]
    assert (metric.worst, metric.scale, metric.higher_is_better) == (0.0, 1.0, True)
    turned = OfScorer(Equal(), {"higher_is_better": False, "scale": 5.0})
    assert turned.row_statistics(ROWS[0]) == (0.0, 1.0)
    assert turned.worst == 5.0


@pytest.mark.parametrize(
    ("said", "number"), [(True, 1), ("no", 0), (Rating.YES, 1), (7, 7), (0.5, 0.5)]
)
def test_what_a_scorer_says_is_a_number(said: object, number: float) -> None:
    assert OfScorer(Says(said), {}).row_statistics(ROWS[0]) == (number, 1.0)


@pytest.mark.parametrize("said", ["good", None, float("nan"), [1.0], {"score": 1}])
def test_what_a_scorer_says_besides_is_no_score(said: object) -> None:
    with pytest.raises(Fault, match="it has to give yes, no or a number"):
        OfScorer(Says(said), {}).row_statistics(ROWS[0])


@pytest.mark.parametrize(
    ("scorer", "sentence"),
    [
        (OfTrace(), "asks for trace, which evidence does not keep"),
        (Judge(), "asks a language model, and a metric counts by itself"),
    ],
)
def test_a_scorer_that_nobody_could_count_again_is_refused(
    scorer: Equal, sentence: str
) -> None:
    with pytest.raises(Fault, match=sentence):
        OfScorer(scorer, {})
