"""What `screen` says of HumanEval: not worse than base and champion by more than a margin."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from core.value import Settable
from pipelines.values.humaneval import HumanEvalReport, PassDifference
from pipelines.values.safety import ProbedSystem
from pipelines.values.verdict import Finding, Outcome

NAME = "humaneval_pass_at_k"


class HumanEvalPolicy(Settable):
    """The section `humaneval` of a policy; judged where a run asks the tasks."""

    required: bool = Field(
        default=False,
        description="Every run has to ask the tasks, and code has to run in boxes.",
    )
    margin: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.05,
        description="How much lower pass@k may be than that of base and champion, at the bound.",
    )


def check_humaneval(
    report: HumanEvalReport | None, policy: HumanEvalPolicy, *, has_champion: bool
) -> Iterator[Finding]:
    """Yield a finding for each comparator and each k; what was not run is undecided."""
    if report is None:
        if policy.required:
            text = (
                f"The policy requires {NAME}, and its tasks were not asked. "
                "Set humaneval.samples in params.yaml"
            )
            yield _finding(f"{NAME} asked", "undecided", text)
        return
    against: list[ProbedSystem] = ["base"]
    if has_champion:
        against.append("champion")
    for system in against:
        for k in report.k:
            yield _check_one(report, system, k, policy.margin)


def _check_one(
    report: HumanEvalReport, system: ProbedSystem, k: int, margin: float
) -> Finding:
    rule = f"{NAME} at {k} not inferior to {system}"
    # A machine without boxes proves nothing, for or against the adapter.
    if report.unavailable is not None:
        text = f"No code was run, so that pass@{k} is not known: {report.unavailable}"
        return _finding(rule, "undecided", text.rstrip("."))
    matching = [
        each for each in report.differences if each.against == system and each.k == k
    ]
    # Of two, whoever added one would choose which counts.
    if len(matching) != 1:
        text = f"pass@{k} has no comparison with {system}. Run the generate stage again"
        return _finding(rule, "undecided", text)
    outcome, reason = _judge(report, matching[0], margin)
    text = f"{_describe(report, matching[0])}{reason}"
    return _finding(rule, outcome, text)


def _judge(
    report: HumanEvalReport, found: PassDifference, margin: float
) -> tuple[Outcome, str]:
    if not report.is_complete:
        return "undecided", ": a part of the tasks is not HumanEval"
    solved = [
        share.interval.estimate
        for share in report.shares
        if share.k == found.k and share.system in ("adapter", found.against)
    ]
    # Asked as a pass: without any share nothing was solved either.
    if not any(share > 0 for share in solved):
        return "undecided", ": neither solves a task, which is no evidence"
    difference = found.difference
    # A NaN is in no order, and bounds that are turned around prove nothing.
    is_ordered = difference.low <= difference.estimate <= difference.high
    if is_ordered and difference.low > -margin:
        return "passed", f"; the policy allows a loss under {margin:g}"
    # Last: what is shown neither to hold nor to fail needs more tasks.
    if difference.high < -margin:
        return "rejected", f": shown to lose more than the margin, {margin:g}"
    return "undecided", f": a loss of {margin:g} is not excluded"


def _describe(report: HumanEvalReport, found: PassDifference) -> str:
    difference = found.difference
    estimate = f"{difference.estimate:.3g}"
    low = f"{difference.low:.3g}"
    high = f"{difference.high:.3g}"
    return (
        f"{NAME}, k = {found.k}, against {found.against}: "
        f"better by {estimate}, bounds {low} to {high} on {report.tasks} tasks"
    )


def _finding(rule: str, outcome: Outcome, text: str) -> Finding:
    return Finding(
        rule=rule,
        outcome=outcome,
        text=text,
    )
