"""Which answers people are shown: drawn by a seed nobody chooses, as many of each group.

```
seed ─► clusters in a random order ─► one prompt of each in turn ─► both sides' answers ─┐
other prompts ─► planted bad answers and references, the same for everybody ────────────┴─► shuffled
```
"""

import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, zip_longest

from core.errors import IncompleteEvidence
from core.files import digest_of_text
from pipelines.rating.plan import Item, Planted, Side, digest_of_messages
from pipelines.values.dataset import Prompt

BAD = 6
"""Planted bad answers: who guesses catches five of them with a probability of 4 %."""
GOOD = 2
"""References among the planted, so that not every odd item is a bad one."""
_FEWEST_WORDS = 4
_KINDS: tuple[Planted, ...] = (
    "another prompt's answer",
    "shuffled words",
    "cut short",
)


@dataclass(frozen=True)
class Question:
    """A held-out prompt with its cluster and both sides' scored answers."""

    prompt: Prompt
    cluster: str
    answers: Mapping[Side, str]


@dataclass(frozen=True)
class Shown:
    """An item with what is shown of it."""

    item: Item
    prompt: Prompt
    answer: str


def draw_items(
    questions: Sequence[Question], prompts: int, seed: int
) -> tuple[Shown, ...]:
    """Draw that many prompts, or all there are, and plant what is to be caught.

    `seed` decides which prompts are drawn; the order in which they are shown, and what is planted,
    are by chance. `IncompleteEvidence` where there are fewer than two clusters.
    """
    ordered = _by_turns(questions, seed)
    if len({question.cluster for question in questions}) < 2:
        raise IncompleteEvidence(
            "The held-out prompts are of fewer than two groups, so that nothing could be planted. "
            "Bring rows of more groups."
        )
    drawn, others = ordered[:prompts], ordered[prompts:]
    # A seed could be known to whoever rates.
    chance = secrets.SystemRandom()
    pairs = chain.from_iterable(map(_sides, drawn))
    planted = _plant(others or drawn, questions, chance)
    # Mixed, so that nobody learns from its place what an item is.
    shown = [*pairs, *planted]
    chance.shuffle(shown)
    return tuple(shown)


def _by_turns(questions: Sequence[Question], seed: int) -> list[Question]:
    """One prompt of each cluster, then a second one of each that has one, and so on."""
    chance = random.Random(seed)  # noqa: S311 - a draw that can be repeated, and no secret
    by_cluster: dict[str, list[Question]] = {}
    # By id first: the order of the file must not decide what a seed draws.
    for question in sorted(questions, key=lambda each: each.prompt.id):
        by_cluster.setdefault(question.cluster, []).append(question)
    clusters = [by_cluster[name] for name in sorted(by_cluster)]
    for cluster in clusters:
        chance.shuffle(cluster)
    chance.shuffle(clusters)
    rounds = zip_longest(*clusters)
    return [each for each in chain.from_iterable(rounds) if each is not None]


def _sides(question: Question) -> Iterator[Shown]:
    for side, answer in question.answers.items():
        yield _show(question, answer, side=side)


def _plant(
    sources: Sequence[Question], questions: Sequence[Question], chance: random.Random
) -> Iterator[Shown]:
    """The calibration set, of prompts that are not rated where there are any."""
    turns = cycle(sources)
    kinds = islice(cycle(_KINDS), BAD)
    for kind in kinds:
        yield _plant_bad(
            next(turns),
            kind,
            questions,
            chance,
        )
    # Good ones too: whoever finds everything bad would catch all that is planted.
    for question in islice(turns, GOOD):
        reference = question.prompt.references[0]
        yield _show(question, reference, planted="reference")


def _plant_bad(
    question: Question,
    kind: Planted,
    questions: Sequence[Question],
    chance: random.Random,
) -> Shown:
    references = question.prompt.references
    # Of the reference and not of an answer, which may be bad already.
    spoiled = _spoil(references[0], kind, chance)
    # Another reference of the prompt may read like that: who finds it good is right.
    if spoiled is None or spoiled in references:
        answer = _answer_of_another(question, questions, chance)
        return _show(question, answer, planted="another prompt's answer")
    return _show(question, spoiled, planted=kind)


def _spoil(reference: str, kind: Planted, chance: random.Random) -> str | None:
    """The reference made bad in that way; None where that way makes nothing bad of it."""
    words = reference.split()
    # Of a word or two nothing can be shuffled, and the first one may be the whole answer.
    if kind == "another prompt's answer" or len(words) < _FEWEST_WORDS:
        return None
    if kind == "cut short":
        return words[0]
    # One word again and again has no other order.
    if len(set(words)) == 1:
        return None
    shuffled = list(words)
    while shuffled == words:
        chance.shuffle(shuffled)
    return " ".join(shuffled)


def _answer_of_another(
    question: Question, questions: Sequence[Question], chance: random.Random
) -> str:
    """A reference of another cluster that is none of this prompt's own."""
    own = set(question.prompt.references)
    # Within a cluster the answers may be the same in other words.
    others = [
        reference
        for other in questions
        if other.cluster != question.cluster
        for reference in other.prompt.references
        if reference not in own
    ]
    if not others:
        raise IncompleteEvidence(
            f"Every other prompt has the same references as {question.prompt.id}, so that no "
            "answer would be a wrong one. People cannot rate this task."
        )
    return chance.choice(others)


def _show(
    question: Question,
    answer: str,
    *,
    side: Side | None = None,
    planted: Planted | None = None,
) -> Shown:
    item = Item(
        id=f"tr-{secrets.token_hex(16)}",
        prompt_id=question.prompt.id,
        cluster=question.cluster,
        side=side,
        planted=planted,
        answer_sha256=digest_of_text(answer),
        messages_sha256=digest_of_messages(question.prompt.messages),
    )
    return Shown(item, question.prompt, answer)
