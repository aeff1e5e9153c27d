"""Exact match: the share of answers that are a reference, letter for letter."""

from collections.abc import Sequence

from pipelines.metrics.metric import FloatArray, References, ScoredRow


class ExactMatch:
    """Share of answers, 0 to 1, that equal one of their references.

    White space at both ends does not count.
    """

    name = "exact_match"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the row matches, and one row."""
        # Case and inner spaces count: in commands and code they change the meaning.
        references = {reference.strip() for reference in row.references}
        prediction = row.prediction.strip()
        is_match = prediction in references
        return float(is_match), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Matches over rows."""
        matches = sums[..., 0]
        rows = sums[..., 1]
        return matches / rows

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as equal."""
        return "reference:any|trim:both ends|case:mixed"

    def inapplicable(self, references: References) -> str | None:
        """Everywhere."""
        return None
