"""Exact match apart from case, punctuation and English articles, as SQuAD counts it."""

import re
import string
from collections.abc import Sequence

from pipelines.metrics.metric import (
    FloatArray,
    References,
    ScoredRow,
    describe_unfit,
)
from pipelines.metrics.shares import share_of

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class SquadExactMatch:
    """Share of answers, 0 to 1, that equal one of their references once both are normalised.

    Lower case, no ASCII punctuation, no articles, single spaces. Source: Rajpurkar et al. 2016,
    "SQuAD: 100,000+ questions for machine comprehension of text". For short answers in English:
    in code, `a` and signs mean something, and `exact_match` keeps them.
    """

    name = "squad_exact_match"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the row matches, and one row."""
        references = {normalise_answer(reference) for reference in row.references}
        prediction = normalise_answer(row.prediction)
        is_match = prediction in references
        return float(is_match), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Matches over rows."""
        return share_of(sums)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as equal."""
        return "reference:any|case:lower|punctuation:none, ASCII|articles:none, English"

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have a reference of which nothing would be left."""
        return describe_unfit(
            references,
            normalise_answer,
            "a reference that holds nothing but signs and articles. Score exact_match",
        )


def normalise_answer(text: str) -> str:
    """What is left of an answer."""
    lower = text.lower()
    plain = lower.translate(_PUNCTUATION)
    without_articles = _ARTICLES.sub(" ", plain)
    words = without_articles.split()
    return " ".join(words)
