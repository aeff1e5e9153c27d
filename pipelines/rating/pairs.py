"""Rated pairs as rows for preference training, in the form that trl's DPO trainer reads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.rating.plan import Rating, ReviewPlan
from pipelines.rating.sample import Question


def preference_rows(
    plan: ReviewPlan, ratings: Sequence[Rating], questions: Mapping[str, Question]
) -> Iterator[dict[str, Any]]:
    """A row for each rated prompt on which one answer is found better: prompt, chosen, rejected.

    `margin` is by how many points of the scale from 1 to 5, as the mean of those who rated both.
    """
    by_item: dict[str, dict[str, int]] = {}
    for rating in ratings:
        scores = by_item.setdefault(rating.item, {})
        scores[rating.reviewer] = rating.score
    # Both by prompt: the plan has them in a shuffled order.
    comparator = plan.side("comparator")
    for prompt_id, item in plan.side("candidate").items():
        own = by_item.get(item.id, {})
        other = by_item.get(comparator[prompt_id].id, {})
        # Of those who rated both: a strict person on one side alone would tip it.
        both = []
        for name, score in own.items():
            if name in other:
                both.append(score - other[name])
        margin = float(np.mean(both)) if both else 0.0
        # A tie teaches nothing.
        if margin != 0:
            yield _row(questions[prompt_id], margin)


def _row(question: Question, margin: float) -> dict[str, Any]:
    candidate = question.answers["candidate"]
    comparator = question.answers["comparator"]
    # The better one of the two, whoever gave it.
    chosen, rejected = candidate, comparator
    if margin < 0:
        chosen, rejected = comparator, candidate
    return {
        "prompt": [message.model_dump() for message in question.prompt.messages],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "margin": abs(margin),
    }
