"""JSON validity: the share of answers that every reader of JSON can read."""

from collections.abc import Sequence

from pipelines.metrics.json_answers import SIGNATURE, is_json
from pipelines.metrics.metric import (
    FloatArray,
    References,
    ScoredRow,
    describe_unfit,
)
from pipelines.metrics.shares import share_of


class JsonValid:
    """Share of answers, 0 to 1, that are one JSON value and nothing else.

    It says nothing of what stands in it; `json_field_f1` does.
    """

    name = "json_valid"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = False
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the answer is JSON, and one row."""
        prediction = row.prediction
        is_valid = is_json(prediction)
        return float(is_valid), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Valid answers over rows."""
        return share_of(sums)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as JSON."""
        return SIGNATURE

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have a reference that is no JSON."""
        return no_json(references)


def no_json(references: References) -> str | None:
    """Why JSON says nothing about these references; None where it does."""
    return describe_unfit(
        references,
        is_json,
        "a reference that is no JSON. "
        "Score chrf or exact_match, or bring rows whose completions are JSON",
    )
