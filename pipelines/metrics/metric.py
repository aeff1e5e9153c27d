"""What a metric is: statistics of one row, and a formula over their sums.

Every metric is `corpus(sum of row_statistics)`. So a resampled corpus costs one sum, and an
interval is exact also for metrics that are no mean of rows, such as corpus BLEU. To add one: a file
here, and an entry in `METRICS`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.value import Value
from pipelines.values.evidence import TokenLoss

FloatArray = NDArray[np.float64]
References = Sequence[tuple[str, ...]]
"""The references of each prompt."""


class ScoredRow(Value):
    """All that a metric sees of one prompt: answer, references, and each reference's loss."""

    prompt_id: str
    prediction: str
    references: tuple[str, ...] = Field(min_length=1)
    losses: tuple[TokenLoss, ...] = ()
    # Left out where there are none: older evidence has no such column.
    tests: tuple[str, ...] = Field(default=(), exclude_if=lambda tests: not tests)
    tokens: int | None = Field(
        default=None,
        ge=0,
        exclude_if=lambda tokens: tokens is None,
        description="Of prompt and answer, without the end of the turn; None: not counted.",
    )
    adapter_bytes: int | None = Field(
        default=None,
        ge=0,
        exclude_if=lambda size: size is None,
        description="Of the adapter that answered; 0: there is none. None: not measured.",
    )
    # Answers drawn by chance; the prediction is the greedy one all the same.
    samples: tuple[str, ...] = Field(default=(), exclude_if=lambda texts: not texts)


# A protocol, so that a metric of a user inherits nothing.
class Metric(Protocol):
    """One score of a system. Two scores with different signatures are not comparable."""

    # As parameters and policies name it.
    name: str
    # For people, in tables and on version pages.
    unit: str
    higher_is_better: bool
    scale: float
    """How far apart two scores may be.

    Where a metric has no upper end: the width that limits a policy's margins.
    """
    worst: float | None
    """The lowest score that there is; None where a metric has no such end."""
    compares_answers: bool
    """Whether it compares an answer with references, so that a negative control can swap them."""
    stand_in: str | None
    """The metric that judges instead where signatures differ between two systems."""

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """What one row adds to the sums."""
        ...

    def corpus(self, sums: FloatArray) -> FloatArray:
        """The score of each corpus, from sums of shape (..., statistics)."""
        ...

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """How it was computed."""
        ...

    def inapplicable(self, references: References) -> str | None:
        """Why the metric says nothing about these held-out references, or None where it applies.

        One sentence with the numbers, and one with the next step. It judges nothing then. It sees
        references and no answer: an adapter must not switch off its own guardrail.
        """
        ...


def is_half(count: int, total: int) -> bool:
    """Whether a count is at least half of a total, which 0 of 0 is.

    So a metric applies to nothing where there is no reference.
    """
    twice = 2 * count
    is_less = twice < total
    return not is_less


def describe_unfit(
    references: References, is_fit: Callable[[str], object], fault: str
) -> str | None:
    """Why a metric does not apply: half of the prompts have a reference that does not fit.

    `fault` goes on after the number of prompts; None where fewer have one. Each reference may be
    the one that counts, so one that does not fit is enough.
    """
    unfit = 0
    for texts in references:
        are_fit = all(is_fit(text) for text in texts)
        if not are_fit:
            unfit += 1
    total = len(references)
    if not is_half(unfit, total):
        return None
    return f"{prompts_have(unfit, total)} {fault}"


def prompts_have(count: int, total: int) -> str:
    """How many of the prompts, with the verb, as `1 of 2 prompts has`."""
    verb = "have"
    noun = "prompts"
    if count == 1:
        verb = "has"
    if total == 1:
        noun = "prompt"
    return f"{count} of {total} {noun} {verb}"
