"""Label accuracy: the share of answers that name the class of a reference."""

from collections.abc import Sequence

from pipelines.metrics.labels import SIGNATURE, no_labels, normalise_label
from pipelines.metrics.metric import FloatArray, References, ScoredRow
from pipelines.metrics.shares import share_of


class LabelAccuracy:
    """Share of answers, 0 to 1, that are a reference's label apart from case and signs around it.

    Where one class is frequent, an adapter that always names it scores high: `label_f1` does not.
    """

    name = "label_accuracy"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the label is right, and one row."""
        labels = {normalise_label(text) for text in row.references}
        answered = normalise_label(row.prediction)
        is_right = answered in labels
        return float(is_right), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Right labels over rows."""
        return share_of(sums)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as the same label."""
        return f"reference:any|{SIGNATURE}"

    def inapplicable(self, references: References) -> str | None:
        """Where references are no labels."""
        return no_labels(references)
