"""Exact match: the share of answers that are a reference, letter for letter."""

from collections.abc import Sequence

from pipelines.metrics.metric import FloatArray, ScoredRow


class ExactMatch:
    """Share of answers, 0 to 1, that equal any of their references once white space at both ends is gone."""

    name = "exact_match"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the row matches, and one row."""
        return float(
            row.prediction.strip()
            in {reference.strip() for reference in row.references}
        ), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Matches over rows."""
        return sums[..., 0] / sums[..., 1]

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as equal."""
        return "reference:any|trim:both ends|case:mixed"
