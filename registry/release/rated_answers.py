"""The answers that people rate: what the version's own evidence holds of it and its comparator."""

from pathlib import Path

from core.errors import IncompleteEvidence
from core.files import digest_of_text
from pipelines.rating.plan import Comparator, ReviewPlan
from pipelines.rating.sample import Question
from pipelines.scoring.evidence_file import read_evidence
from registry.release.known_answers import EVIDENCE, drawable_prompts


def comparator_of(package: Path) -> Comparator:
    """What the version is compared with: the champion of its evidence, else the base."""
    evidence = read_evidence(package / EVIDENCE)
    return "champion" if "champion" in evidence.rows else "base"


def questions_of(package: Path, comparator: Comparator) -> tuple[Question, ...]:
    """Every held-out prompt with both scored answers.

    `IncompleteEvidence` where the package holds no prompts, as older ones do not.
    """
    prompts = {prompt.id: prompt for prompt in drawable_prompts(package)}
    if not prompts:
        raise IncompleteEvidence(
            "The package holds no held-out prompts, so that nobody can be asked about them. "
            "Train it again."
        )
    # By prompt and not by place: the evidence has an order of its own.
    evidence = read_evidence(package / EVIDENCE)
    rows = zip(
        evidence.clusters,
        evidence.rows["adapter"],
        evidence.rows[comparator],
        strict=True,
    )
    return tuple(
        Question(
            prompt=prompts[own.row.prompt_id],
            cluster=cluster,
            answers={
                "candidate": own.row.prediction,
                "comparator": other.row.prediction,
            },
        )
        for cluster, own, other in rows
    )


def find_forgery(plan: ReviewPlan, package: Path) -> str:
    """Where a plan is not about the answers of the package; empty where it is."""
    evidence = read_evidence(package / EVIDENCE)
    comparator = plan.comparator
    is_scored = comparator in evidence.rows
    # Against a weaker opponent than the evidence has, a rating proves too little.
    if not is_scored or comparator != comparator_of(package):
        return f"the review compares with {comparator}, the evidence does not"
    questions = questions_of(package, comparator)
    by_id = {question.prompt.id: question for question in questions}
    for item in plan.items:
        question = by_id.get(item.prompt_id)
        if question is None or question.cluster != item.cluster:
            return f"item {item.id} is about a prompt that was not scored"
        # What was planted is in no evidence: the seal alone stands for it.
        if item.side is None:
            continue
        scored = digest_of_text(question.answers[item.side])
        if scored != item.answer_sha256:
            return f"item {item.id} is not the {item.side}'s scored answer"
    return ""
