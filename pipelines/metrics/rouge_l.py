"""ROUGE-L: how long a row of words an answer and its reference have in common, in order."""

import re
from collections.abc import Sequence

from pipelines.metrics.metric import (
    FloatArray,
    References,
    ScoredRow,
    describe_unfit,
)
from pipelines.metrics.shares import share_of

_WORD = re.compile(r"[^\W_]+")


class RougeL:
    """Mean F-measure of the longest common subsequence of words, 0 to 1; the best reference counts.

    Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries". Of English texts it
    equals `rougeL` of the package `rouge-score` without its stemmer; words of other alphabets are
    kept, which that package drops. Chinese, Japanese and Thai write no words apart: score chrf.
    """

    name = "rouge_l"
    unit = "0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """The F-measure against the nearest reference, and one row."""
        answer = _words(row.prediction)
        scores = []
        for text in row.references:
            reference = _words(text)
            score = _f_measure(answer, reference)
            scores.append(score)
        # Each reference is a right answer by itself: the nearest one counts.
        best = max(scores)
        return best, 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """The mean over rows."""
        return share_of(sums)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as a word."""
        return "reference:best|words:letters and digits|case:lower|stemmer:no"

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have a reference without a word."""
        return describe_unfit(
            references,
            _words,
            "a reference without a word. Score exact_match or chrf",
        )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _f_measure(answer: Sequence[str], reference: Sequence[str]) -> float:
    both = len(answer) + len(reference)
    # As `rouge-score` has it: nothing beside nothing is no match.
    if not both:
        return 0.0
    return 2 * longest_common(answer, reference) / both


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    By bits of one number, a step a word: Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited". A zero bit says that the subsequence grows at that word.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        bit = 1 << place
        places.setdefault(word, 0)
        places[word] |= bit
    full = (1 << len(one)) - 1
    bits = full
    for word in other:
        there = places.get(word, 0)
        matches = bits & there
        grown = bits + matches
        rest = bits - matches
        bits = (grown | rest) & full
    return len(one) - bits.bit_count()
