"""What the gates ask of a bias report: that it agrees with itself, passes over no group, and keeps to the limits for outputs."""

from collections.abc import Iterator
from typing import NamedTuple

from pipelines.gates.policy import AdmitPolicy, GatePolicy
from pipelines.values.dataset import NO_GROUP, BiasReport, GroupRate, Interval
from pipelines.values.verdict import Finding, Outcome

TOLERANCE = 1e-9


def contradictions(report: BiasReport) -> tuple[str, ...]:
    """Where a report's numbers do not follow from the groups that it lists, so that it was not made but edited."""
    compared = [group for group in report.groups if group.n >= report.min_group_size]
    return tuple(_group_contradictions(report)) + tuple(
        sentence
        for name, stated, values in (
            (
                "demographic parity difference",
                report.demographic_parity_difference,
                [group.rate for group in compared],
            ),
            (
                "score difference",
                report.score_difference,
                [group.score for group in compared],
            ),
            (
                "refusal difference",
                report.refusal_difference,
                [group.refused for group in compared],
            ),
        )
        for sentence in _difference_contradictions(name, stated, values)
    )


def passed_over(report: BiasReport, policy: AdmitPolicy) -> tuple[str, ...]:
    """Groups that are too small to be compared and that the policy does not name as such."""
    known = {*policy.small_groups, NO_GROUP}
    return tuple(
        group.group
        for group in report.groups
        if not group.n >= report.min_group_size and group.group not in known
    )


def compared_too_small(report: BiasReport, policy: AdmitPolicy) -> tuple[str, ...]:
    """Groups that were compared though the policy that judges asks for more rows."""
    return tuple(
        group.group
        for group in report.groups
        if report.min_group_size <= group.n < policy.min_group_size
    )


def output_bias(report: BiasReport, gates: GatePolicy) -> Iterator[Finding]:
    """Gaps between groups, in scores and in rates, are within their limits; too little to tell is not a pass."""
    limit, rates = (
        gates.screen.max_output_score_difference,
        gates.screen.max_output_rate_difference,
    )
    if limit is None:
        yield _finding(
            "output bias",
            "passed",
            "The policy sets no limit on differences between groups: bias of outputs is not judged",
        )
        return
    yield _groups(report, gates.admit)
    yield _gap(
        "output bias", report.metric, Gap(report, report.score_difference, limit)
    )
    yield _gap(
        "output refusals",
        "The share of refusals",
        Gap(report, report.refusal_difference, rates),
    )
    if report.favourable_is_declared:
        yield _gap(
            "output selection",
            "The selection rate",
            Gap(report, report.demographic_parity_difference, rates),
        )


class Gap(NamedTuple):
    """One difference between the groups of a report, and what it may come to."""

    report: BiasReport
    found: Interval | None
    limit: float


def _groups(report: BiasReport, policy: AdmitPolicy) -> Finding:
    """The report is whole, and every group that the policy does not excuse is large enough to be compared."""
    rule, wrong = "output groups", contradictions(report)
    if report.subject != "outputs":
        return _finding(
            rule,
            "rejected",
            f"The bias report is about {report.subject}, not about outputs",
        )
    if wrong:
        return _finding(
            rule,
            "rejected",
            f"The bias report contradicts itself: {wrong[0]}. Run the score stage again",
        )
    small = (*compared_too_small(report, policy), *passed_over(report, policy))
    if small:
        fact = f"Too few answers to compare as the policy asks, with {policy.min_group_size} of each group: {', '.join(small)}"
        return _finding(
            rule,
            "undecided",
            f"{fact}. Bring more rows of them, or name them in the policy's small_groups",
        )
    excused = [group for group in report.insufficient if group not in small]
    beside = (
        f"; too small, as the policy allows: {', '.join(excused)}" if excused else ""
    )
    return _finding(
        rule,
        "passed",
        f"{len(report.groups) - len(excused)} groups are compared ({report.method}){beside}",
    )


def _gap(rule: str, what: str, gap: Gap) -> Finding:
    report, found = gap.report, gap.found
    if found is None:
        need = f"insufficient: fewer than two groups with {report.min_group_size} answers that were counted ({report.method})"
        return _finding(
            rule,
            "undecided",
            f"{what} of outputs cannot be judged between groups, {need}",
        )
    text = f"{what} differs between groups by {found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}], limit {gap.limit:g} ({report.method})"
    if found.low <= found.estimate <= found.high <= gap.limit:
        return _finding(rule, "passed", text)
    return _finding(rule, "rejected" if found.low > gap.limit else "undecided", text)


def _group_contradictions(report: BiasReport) -> Iterator[str]:
    names = [group.group for group in report.groups]
    if len(set(names)) != len(names):
        yield "it lists a group twice"
    small = tuple(
        sorted(
            group.group
            for group in report.groups
            if not group.n >= report.min_group_size
        )
    )
    if small != tuple(sorted(report.insufficient)):
        yield f"under {report.min_group_size} rows are {_listed(small)}, it says {_listed(report.insufficient)}"
    for group in report.groups:
        if _is_rated(group) != (group.n >= report.min_group_size):
            yield f"{group.group} has {group.n} rows and {'a' if _is_rated(group) else 'no'} rate"


def _difference_contradictions(
    name: str, stated: Interval | None, values: list[float | None]
) -> Iterator[str]:
    known = [value for value in values if value is not None]
    if len(known) != len(values) or len(known) < 2:
        if stated is not None:
            yield f"it states a {name}, and fewer than two groups have what it is taken from"
        return
    found = max(known) - min(known)
    if stated is None:
        yield f"it states no {name}, and its groups differ by {found:.3g}"
    elif not abs(stated.estimate - found) <= TOLERANCE * max(1.0, abs(found)):
        yield f"its {name} is {stated.estimate:.3g}, and its groups differ by {found:.3g}"
    elif not stated.low <= stated.estimate <= stated.high:
        yield f"its {name}, {stated.estimate:.3g}, is outside of its interval, {stated.low:.3g} to {stated.high:.3g}"


def _is_rated(group: GroupRate) -> bool:
    return group.rate is not None and group.score is not None


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _finding(rule: str, outcome: Outcome, text: str) -> Finding:
    return Finding(rule=rule, outcome=outcome, text=text)
