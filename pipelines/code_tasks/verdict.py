"""Whether an adapter is worse at code than its base by more than a margin: passed, or not known."""

from collections.abc import Sequence

from pipelines.code_tasks.score import CodeDifference, CodeScore
from pipelines.values.verdict import Outcome

LEAST_TASKS = 10
"""With fewer clusters a bound says too little."""


def decide(
    scores: Sequence[CodeScore], differences: Sequence[CodeDifference], margin: float
) -> tuple[Outcome, str]:
    """The outcome for every k together, and a sentence for it.

    A comparison that shows nothing is undecided: of fewer than `LEAST_TASKS` tasks, or of systems
    that solve none.
    """
    if not differences:
        return "undecided", "there is nothing to compare with"
    # The least of them: the comparison is as good as its smaller side.
    tasks = min(score.tasks for score in scores)
    if tasks < LEAST_TASKS:
        return (
            "undecided",
            f"{tasks} tasks are too few to compare: at least {LEAST_TASKS} are needed",
        )
    solved = max(each.interval.high for score in scores for each in score.pass_at)
    # Without a spread there is no bound: two zeros would be equal to the last digit.
    if not solved > 0:
        return "undecided", "no system solves a task, so nothing can be lost"
    return _compare(differences, margin)


def _compare(
    differences: Sequence[CodeDifference], margin: float
) -> tuple[Outcome, str]:
    # The worst of all k: a loss at one of them is a loss.
    worst = min(differences, key=lambda each: each.low)
    # Asked as a pass: nothing that is not a number passes.
    if all(each.low >= -margin for each in differences):
        text = f"worse by at most {-worst.low:.3f} at pass@{worst.k}, within {margin:g}"
        return "passed", text
    for each in differences:
        if each.high < -margin:
            text = (
                f"worse by at least {-each.high:.3f} at pass@{each.k}, over {margin:g}"
            )
            return "rejected", text
    return (
        "undecided",
        f"worse by up to {-worst.low:.3f} at pass@{worst.k}, which may be over {margin:g}",
    )
