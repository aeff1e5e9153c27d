"""Field F1: how many values of a JSON answer stand in its reference, and the other way round."""

from collections.abc import Sequence

from pipelines.metrics.json_answers import SIGNATURE, Leaf, leaves
from pipelines.metrics.json_valid import no_json
from pipelines.metrics.metric import FloatArray, References, ScoredRow


class JsonFieldF1:
    """F1 over all values of all answers, 0 to 1; of several references the nearest counts.

    A value counts with its path: it is right where the reference has the same value at the same
    path. An answer that is no JSON is one value that stands in no reference.

    Statistics: values that both have, values of the answer, values of the reference.
    """

    name = "json_field_f1"
    unit = "0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Shared values, those of the answer, and those of the nearest reference."""
        prediction = row.prediction
        answered = leaves(prediction)
        counts = []
        for text in row.references:
            wanted = leaves(text)
            count = _count(answered, wanted)
            counts.append(count)
        # Each reference is a right answer by itself: the nearest one counts.
        return max(counts, key=_f1)

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Twice what is shared over what both sides have."""
        shared = sums[..., 0]
        # Each side has at least one value a row.
        answered = sums[..., 1]
        wanted = sums[..., 2]
        both = answered + wanted
        return 2 * shared / both

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as JSON, and as the same value."""
        return f"f1:micro|reference:nearest|lists:by place|{SIGNATURE}"

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have a reference that is no JSON."""
        return no_json(references)


def _count(
    answered: frozenset[Leaf], wanted: frozenset[Leaf]
) -> tuple[float, float, float]:
    shared = answered & wanted
    right = float(len(shared))
    said = float(len(answered))
    due = float(len(wanted))
    return right, said, due


def _f1(counts: tuple[float, float, float]) -> float:
    shared, answered, wanted = counts
    both = answered + wanted
    return 2 * shared / both
