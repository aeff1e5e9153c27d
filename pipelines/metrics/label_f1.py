"""Macro F1 by class: how well each class is found, the rare ones as much as the frequent ones."""

from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.metrics.labels import SIGNATURE, no_labels, normalise_label
from pipelines.metrics.metric import FloatArray, Metric, References, ScoredRow

MOST_LABELS = 100
_PER_CLASS = 3


class LabelF1:
    """Mean over the classes of a set of prompts of each class's F1, 0 to 1.

    A class counts where some reference is of it. An answer that is no label of the references
    finds nothing. Source: the macro average of Sokolova and Lapalme 2009, "A systematic analysis
    of performance measures for classification tasks".

    Statistics: for each class, and last for all other answers: right answers, answers, references.
    """

    name = "label_f1"
    unit = "0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self._places: dict[str, int] = {}
        for label in labels:
            place = len(self._places)
            self._places[label] = place

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """The class of the answer and that of the reference, which are one where it is right.

        Of several references the answer's counts, else the first one.
        """
        answered = normalise_label(row.prediction)
        labels = [normalise_label(text) for text in row.references]
        is_right = answered in labels
        wanted = labels[0]
        # Any of them is right: the answer must not count as a miss of the first.
        if is_right:
            wanted = answered
        # The last place: answers that no reference has, which find nothing.
        others = len(self._places)
        counts = np.zeros((others + 1, _PER_CLASS))
        answer_place = self._places.get(answered, others)
        wanted_place = self._places.get(wanted, others)
        counts[wanted_place, 0] += is_right
        counts[answer_place, 1] += 1
        counts[wanted_place, 2] += 1
        flat = counts.ravel()
        numbers = map(float, flat)
        return tuple(numbers)

    def corpus(self, sums: FloatArray) -> FloatArray:
        """The mean of each class's F1 over the classes that references have."""
        right = sums[..., 0::_PER_CLASS]
        answers = sums[..., 1::_PER_CLASS]
        references = sums[..., 2::_PER_CLASS]
        # A class that a resample lost is none of it.
        is_there = references > 0
        both = answers + references
        # What nobody named has no F1, and is none of the classes.
        divisor = np.maximum(both, 1)
        f1 = 2 * right / divisor
        counted = np.where(is_there, f1, 0)
        total = counted.sum(axis=-1)
        classes = is_there.sum(axis=-1)
        mean = total / np.maximum(classes, 1)
        return np.asarray(mean)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as the same label, and how many classes the references have."""
        references = [row.references for row in rows]
        classes = len(list_labels(references))
        return f"f1:macro|classes:{classes}|{SIGNATURE}"

    def inapplicable(self, references: References) -> str | None:
        """Where references are no labels, or are of too many classes."""
        labels = list_labels(references)
        if len(labels) > MOST_LABELS:
            return (
                f"{len(references)} prompts have {len(labels)} labels, over the {MOST_LABELS} "
                "that are told apart. Score label_accuracy"
            )
        return no_labels(references)


def list_labels(references: Iterable[Sequence[str]]) -> list[str]:
    """Every label of the references, in order."""
    labels: set[str] = set()
    for texts in references:
        for text in texts:
            label = normalise_label(text)
            labels.add(label)
    return sorted(labels)


def for_references(metric: Metric, references: Iterable[Sequence[str]]) -> Metric:
    """The metric as it counts rows with these references: `label_f1` has to know every class.

    Any other metric is given back as it is.
    """
    if not isinstance(metric, LabelF1):
        return metric
    labels = list_labels(references)
    # With more, the metric does not apply; the cut keeps its evidence small all the same.
    return LabelF1(labels[:MOST_LABELS])
