"""What people wrote becomes ratings: the latest valid value of each person for each item.

Whoever writes to MLflow can write anything, so that all else is left out and named.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from pydantic import Field

from core.value import Value
from pipelines.rating.plan import (
    HIGHEST,
    LOWEST,
    ItemId,
    Rating,
    Ratings,
    ReviewPlan,
)

SCORE = "Quality of the answer"
SAFE = "Safe to show"
"""The two questions that people are asked of each item."""


class Written(Value):
    """A value that MLflow holds for an item, as somebody wrote it."""

    item: ItemId
    by: str
    is_by_person: bool
    question: str
    answer: Any
    at_ms: int


class Found(Value):
    """What MLflow holds of a review when it is closed."""

    written: tuple[Written, ...]
    altered: tuple[ItemId, ...] = Field(
        default=(), description="Items whose texts are not those that were sealed."
    )


def collect_ratings(plan: ReviewPlan, found: Found) -> Ratings:
    """The ratings that count, in the order of the plan, and a sentence on what is left out."""
    faults: Counter[str] = Counter()
    answers: dict[tuple[str, str, str], int | bool] = {}
    # What people read of an altered item is nobody's answer.
    altered = set(found.altered)
    items = {item.id for item in plan.items} - altered
    # The latest one last, which takes the place of the others.
    in_turn = sorted(found.written, key=attrgetter("at_ms"))
    for each in in_turn:
        fault = _find_fault(each, plan, items)
        if fault:
            faults[fault] += 1
        else:
            key = (each.by, each.item, each.question)
            answers[key] = _parse(each)
    ratings = tuple(_pair(plan, answers, faults))
    dropped = []
    for fault, count in sorted(faults.items()):
        sentence = f"{fault} ({count})"
        dropped.append(sentence)
    return Ratings(
        ratings=ratings, dropped=tuple(dropped), altered=tuple(sorted(altered))
    )


def _find_fault(each: Written, plan: ReviewPlan, items: set[str]) -> str:
    """Why a value does not count; empty where it does."""
    # The beginning of a name that anybody may have chosen: it stands in a report.
    by = each.by[:60]
    if each.item not in items:
        return f"{by!r} rated what is no item of this review, or an altered one"
    if each.question not in {SCORE, SAFE}:
        return f"{by!r} answered what nobody asked"
    if not each.is_by_person or each.by not in plan.reviewers:
        kind = "reviewer of this review" if each.is_by_person else "person"
        return f"{by!r} is no {kind}"
    if _is_late(each, plan):
        return f"{by!r} rated after the review's end"
    if _parse(each) is None:
        scale = f"{LOWEST} to {HIGHEST}" if each.question == SCORE else "yes or no"
        return f"{by!r} wrote a value that is not {scale}"
    return ""


def _is_late(each: Written, plan: ReviewPlan) -> bool:
    """Whether it was written after the end, so that a later closing finds the same ratings."""
    end = plan.closes_at
    if end is None:
        return False
    end_ms = end.timestamp() * 1000
    return each.at_ms > end_ms


def _parse(each: Written) -> Any:
    """The value as the question asks for it; None for anything else."""
    answer = each.answer
    if each.question == SAFE:
        return answer if isinstance(answer, bool) else None
    # MLflow's page keeps the chosen option as text; a yes is a number for Python.
    if isinstance(answer, str) and answer.isascii() and answer.isdigit():
        answer = int(answer[:3])
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
    # A half is no option of the page, and a NaN is unlike itself.
    if not is_number or answer != answer // 1:
        return None
    score = int(answer)
    return score if LOWEST <= score <= HIGHEST else None


def _pair(
    plan: ReviewPlan,
    answers: dict[tuple[str, str, str], int | bool],
    faults: Counter[str],
) -> Iterator[Rating]:
    """A rating for each item of which a person answered both questions."""
    # In the order of the plan, so that equal ratings are equal files.
    for reviewer in plan.reviewers:
        for item in plan.items:
            score = answers.get((reviewer, item.id, SCORE))
            is_safe = answers.get((reviewer, item.id, SAFE))
            if score is not None and is_safe is not None:
                yield Rating(
                    reviewer=reviewer,
                    item=item.id,
                    score=score,
                    is_safe=bool(is_safe),
                )
            elif score is not None or is_safe is not None:
                faults[f"{reviewer!r} answered one of the two questions"] += 1


def find_unfinished(plan: ReviewPlan, ratings: Sequence[Rating]) -> dict[str, int]:
    """How many items each reviewer who is not done has still to rate."""
    rated = Counter(rating.reviewer for rating in ratings)
    total = len(plan.items)
    unfinished = {}
    # Of the plan and not of the ratings: who wrote nothing yet is unfinished as well.
    for name in plan.reviewers:
        left = total - rated[name]
        if left > 0:
            unfinished[name] = left
    return unfinished
