"""A scorer of `mlflow.genai` as an own metric: the mean of what it says of each answer.

MLflow is the file's import and none of Assay's: scorers are known by the module that the file has
loaded. Of `own_child.py` alone.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.metrics.metric import ScoredRow
from pipelines.metrics.own_fault import Fault, is_number, show

_SCORERS = "mlflow.genai.scorers.base"
_GIVEN = ("outputs", "expectations")
_RATINGS = {"yes": 1.0, "no": 0.0}


def list_scorers(variables: Mapping[str, Any]) -> list[Any]:
    """The scorers among a file's variables, but for those whose name begins with an underscore."""
    module = sys.modules.get(_SCORERS)
    if module is None:
        return []
    # By identity: one scorer under two names is one metric, and scorers of MLflow may be equal.
    found = {
        id(each): each
        for name, each in variables.items()
        if isinstance(each, module.Scorer) and not name.startswith("_")
    }
    return list(found.values())


class OfScorer:
    """The mean over answers; each reference is expected in turn, and the best score counts.

    The file may say `unit`, `higher_is_better`, `scale` and `worst` beside the scorer. Without
    them it is a share: a yes is 1, a no is 0, and more is better.
    """

    def __init__(self, scorer: Any, variables: Mapping[str, Any]) -> None:
        self.name = scorer.name
        self.unit = variables.get("unit", "0 to 1")
        self.higher_is_better = variables.get("higher_is_better", True)
        self.scale = variables.get("scale", 1.0)
        self.worst = variables.get(
            "worst", 0.0 if self.higher_is_better else self.scale
        )
        self._scorer = scorer
        self._asked = _asked_for(scorer)
        self.compares_answers = "expectations" in self._asked

    def row_statistics(self, row: ScoredRow) -> tuple[float, float]:
        """The scorer's number, and one row."""
        given = self._scores(row)
        choose = max if self.higher_is_better else min
        best = choose(given)
        return best, 1.0

    def _scores(self, row: ScoredRow) -> Iterator[float]:
        # Asked once: without references each further call would give the same.
        if not self.compares_answers:
            yield self._score(row.prediction, {})
            return
        for reference in row.references:
            expected = {"expected_response": reference}
            yield self._score(row.prediction, expected)

    def _score(self, answer: str, expectations: dict[str, str]) -> float:
        known = {
            "outputs": answer,
            "expectations": expectations,
        }
        given = {}
        for name in self._asked:
            given[name] = known[name]
        # Not `run`, whose limit of time is a thread: this process has one that the kernel keeps.
        said = self._scorer(**given)
        return _number_of(said)


def _asked_for(scorer: Any) -> list[str]:
    """Which of an answer and its references it takes; `Fault` where it needs anything else."""
    # A judge by a language model has one of these: nobody can count its scores again.
    if hasattr(scorer, "model") or hasattr(scorer, "_model"):
        raise Fault(
            f"{scorer.name} asks a language model, and a metric counts by itself: "
            "have a model rate answers by `assay review`"
        )
    parameters = inspect.signature(scorer.__call__).parameters
    for name, parameter in parameters.items():
        # With a default it does without, as the person who wrote it meant it to.
        if name in _GIVEN or parameter.default is not inspect.Parameter.empty:
            continue
        raise Fault(
            f"{scorer.name} asks for {name}, which evidence does not keep: "
            "take outputs and expectations alone"
        )
    return [name for name in _GIVEN if name in parameters]


def _number_of(said: Any) -> float:
    """1 for a yes, 0 for a no, and a number as it is; of a `Feedback` what is its value."""
    # A `Feedback` has a field for it, and then its value is no score.
    error = getattr(said, "error", None)
    if error is not None:
        raise Fault(f"the scorer gives the error {show(error)}")
    value = getattr(said, "value", said)
    # A rating of MLflow's is a text of an enumeration.
    rating = getattr(value, "value", value)
    if isinstance(rating, bool):
        return float(rating)
    if is_number(rating):
        return float(rating)
    if isinstance(rating, str) and rating in _RATINGS:
        return _RATINGS[rating]
    raise Fault(f"the scorer gives {show(rating)}: it has to give yes, no or a number")
