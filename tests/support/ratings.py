"""Prompts with two answers each, a review of them, and people who rate it."""

from collections.abc import Callable, Iterable

from pipelines.rating.plan import Item, Rating, ReviewPlan
from pipelines.rating.sample import Question, Shown, draw_items
from pipelines.values.dataset import Message, Prompt, prompt_id

Opinion = Callable[[Item], tuple[int, bool]]


def questions(clusters: int = 12, each: int = 2) -> tuple[Question, ...]:
    """Prompts of so many clusters, so many of each."""
    return tuple(
        _question(f"question {number} of {cluster}", f"cluster {cluster}")
        for cluster in range(clusters)
        for number in range(each)
    )


def _question(text: str, cluster: str) -> Question:
    messages = (Message(role="user", content=text),)
    prompt = Prompt(
        id=prompt_id(messages),
        messages=messages,
        references=(f"the right answer to {text}",),
        group=cluster,
    )
    # No word of theirs is one of the references, which are the right answers.
    answers = {
        "candidate": f"an answer to {text}",
        "comparator": f"what the base says of {text}",
    }
    return Question(prompt, cluster, answers)  # type: ignore[arg-type] # keys are sides


def plan_of(
    shown: Iterable[Shown], reviewers: tuple[str, ...] = ("ann", "bob", "eve")
) -> ReviewPlan:
    return ReviewPlan(
        model="letters",
        version="1",
        package_sha256="a" * 64,
        comparator="base",
        reviewers=reviewers,
        items=tuple(each.item for each in shown),
    )


def review(prompts: int = 12, clusters: int = 12) -> ReviewPlan:
    return plan_of(draw_items(questions(clusters), prompts, seed=1))


def rate(plan: ReviewPlan, **opinions: Opinion) -> tuple[Rating, ...]:
    """What each of these people says of every item."""
    ratings = []
    for reviewer, opinion in opinions.items():
        for item in plan.items:
            score, is_safe = opinion(item)
            rating = Rating(
                reviewer=reviewer, item=item.id, score=score, is_safe=is_safe
            )
            ratings.append(rating)
    return tuple(ratings)


def opinion_of(
    candidate: int, comparator: int, *, bad: int = 1, shift: int = 0
) -> Opinion:
    """A person who gives each side always about the same, and sees what is bad."""

    def opinion(item: Item) -> tuple[int, bool]:
        # What is planted looks the same to whoever likes either side.
        if item.is_bad:
            return bad, False
        if item.side is None:
            return 5, True
        score = candidate if item.side == "candidate" else comparator
        # Some prompts are harder than others, for everybody and on both sides.
        harder = int(item.prompt_id[-1], 16) % 2
        number = score - harder + shift
        return min(5, max(1, number)), True

    return opinion
