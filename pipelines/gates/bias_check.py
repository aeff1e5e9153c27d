"""What the gates check of a bias report.

Its numbers follow from its groups, no group is left out, and outputs keep to the limits.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from pipelines.gates.admit_policy import AdmitPolicy
from pipelines.values.dataset import NO_GROUP, BiasReport, GroupRate, Interval
from pipelines.values.verdict import Finding, Outcome

if TYPE_CHECKING:
    from pipelines.gates.policy import GatePolicy

TOLERANCE = 1e-9
"""The same sums in another order may differ in their last digits."""


def find_contradictions(report: BiasReport) -> tuple[str, ...]:
    """Where a report's numbers do not follow from the groups that it lists.

    Such a report was edited, or is from another version of Assay.
    """
    compared = [group for group in report.groups if _has_enough_rows(group, report)]
    stated = (
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
    # The ratio is not among them: no gate judges it.
    sentences = list(_group_contradictions(report))
    for name, interval, values in stated:
        sentences += _difference_contradictions(name, interval, values)
    return tuple(sentences)


def _has_enough_rows(group: GroupRate, report: BiasReport) -> bool:
    return group.n >= report.min_group_size


def find_uncompared_groups(report: BiasReport, policy: AdmitPolicy) -> tuple[str, ...]:
    """Groups that are too small to be compared and that the policy does not excuse."""
    # Rows without a value are no group that somebody belongs to.
    excused = {*policy.small_groups, NO_GROUP}
    return tuple(
        group.group
        for group in report.groups
        if not _has_enough_rows(group, report) and group.group not in excused
    )


def find_groups_compared_too_small(
    report: BiasReport, policy: AdmitPolicy
) -> tuple[str, ...]:
    """Groups that were compared though the policy that judges asks for more rows."""
    return tuple(
        group.group
        for group in report.groups
        if report.min_group_size <= group.n < policy.min_group_size
    )


def output_bias(report: BiasReport, gates: "GatePolicy") -> Iterator[Finding]:
    """Findings on gaps between groups, in scores and in rates.

    Too few answers to tell make a finding undecided, which is not a pass.
    """
    score_limit = gates.screen.max_output_score_difference
    rate_limit = gates.screen.max_output_rate_difference
    if score_limit is None:
        yield _finding(
            "output bias",
            "passed",
            "The policy sets no limit on differences between groups: "
            "bias of outputs is not judged",
        )
        return
    # First, since a gap over edited or missing groups means nothing.
    yield _check_groups(report, gates.admit)
    yield _check_gap(
        "output bias",
        Gap(report, f"the mean {report.metric}", "score", score_limit),
    )
    yield _check_gap(
        "output refusals",
        Gap(report, "the share of refusals", "refused", rate_limit),
    )
    if report.favourable_is_declared:
        yield _check_gap(
            "output selection",
            Gap(report, describe_favourable(report), "rate", rate_limit),
        )


class Gap(NamedTuple):
    """One quantity that the groups of a report are compared by, and the limit of their gap."""

    report: BiasReport
    name: str
    quantity: Literal["rate", "score", "refused"]
    limit: float

    @property
    def interval(self) -> Interval | None:
        """The widest gap between two groups with its bounds; None where nothing is compared."""
        intervals = {
            "rate": self.report.demographic_parity_difference,
            "score": self.report.score_difference,
            "refused": self.report.refusal_difference,
        }
        return intervals[self.quantity]

    @property
    def values(self) -> dict[str, float]:
        """What each compared group has of the quantity."""
        pairs = [
            (each.group, getattr(each, self.quantity)) for each in self.report.groups
        ]
        return {group: value for group, value in pairs if value is not None}

    @property
    def whom(self) -> str:
        """Whom the gap is about: a statement about names is none about people."""
        if self.report.method == "name templates":
            return "for these names"
        return f"for these groups of {self.report.feature}"


def describe_favourable(report: BiasReport) -> str:
    """What a selection rate is the share of."""
    if report.favourable_is_declared:
        return "the share that bias.favourable_pattern matches"
    return "the share that is longer than the median"


def judge_gap(gap: Gap, interval: Interval) -> Outcome:
    """Within the limit with its upper bound, over it with its lower one, or neither."""
    # Asked as a pass, so that bounds out of order do not pass.
    if interval.low <= interval.estimate <= interval.high <= gap.limit:
        return "passed"
    is_over = interval.low > gap.limit
    return "rejected" if is_over else "undecided"


def describe_gap(gap: Gap, interval: Interval) -> str:
    """What was compared, what is shown of it, and both numbers; no more than that."""
    shown = {
        "passed": "differs by at most",
        "rejected": "differs by more than",
        "undecided": "may differ by more than",
    }
    outcome = judge_gap(gap, interval)
    text = (
        f"{gap.whom} {gap.name} {shown[outcome]} {gap.limit:g}: by {interval.estimate:.3g}"
        f"{_describe_widest_pair(gap.values)}, "
        f"bounds {interval.low:.3g} to {interval.high:.3g}"
    )
    if outcome != "undecided":
        return text
    return f"{text}. {_describe_rows_needed(gap, interval)}"


def _describe_widest_pair(values: dict[str, float]) -> str:
    in_order = sorted(values, key=lambda group: values[group])
    count = len(in_order)
    # An edited report may state a gap of groups that it does not list.
    if count < 2:
        return ""
    pairs = count * (count - 1) // 2
    text = f" between {in_order[-1]} and {in_order[0]}"
    if pairs == 1:
        return text
    return f"{text}, the widest of {pairs} pairs"


def _describe_rows_needed(gap: Gap, interval: Interval) -> str:
    """How many rows of each group would decide, if the gap stays what it is."""
    distance = abs(gap.limit - interval.estimate)
    reach = interval.high - interval.estimate
    groups = gap.report.groups
    sizes = [each.n for each in groups if each.rate is not None]
    fewest = min(sizes, default=0)
    # Right at the limit no number decides.
    if not distance > 0.05 * gap.limit:
        return "More rows of each group may decide"
    times = max(1.0, reach / distance)
    needed = math.ceil(fewest * times**2)
    what = "answers" if gap.report.subject == "outputs" else "rows"
    advice = f"About {needed:,} {what} of each group would decide"
    if gap.report.method == "name templates":
        return f"{advice}, in ten names each or more (bias.names, bias.prompts)"
    return advice


def _check_groups(report: BiasReport, policy: AdmitPolicy) -> Finding:
    """The report is consistent, and every group is compared that the policy does not excuse."""
    rule = "output groups"
    if report.subject != "outputs":
        text = f"The bias report is about {report.subject}, not about outputs"
        return _finding(rule, "rejected", text)
    wrong = find_contradictions(report)
    if wrong:
        text = (
            f"The bias report contradicts itself: {wrong[0]}. Run the score stage again"
        )
        return _finding(rule, "rejected", text)
    # Compared on too few rows, or not compared at all: neither shows that a group is treated well.
    small = (
        *find_groups_compared_too_small(report, policy),
        *find_uncompared_groups(report, policy),
    )
    if small:
        minimum = policy.min_group_size
        return _finding(
            rule,
            "undecided",
            f"Too few answers to compare as the policy asks, with {minimum} of each group: "
            f"{', '.join(small)}. "
            "Bring more rows of them, or name them in the policy's small_groups",
        )
    excused = [group for group in report.insufficient if group not in small]
    count = len(report.groups) - len(excused)
    text = f"{count} groups are compared ({report.method})"
    if excused:
        text += f"; too small, as the policy allows: {', '.join(excused)}"
    return _finding(rule, "passed", text)


def _check_gap(rule: str, gap: Gap) -> Finding:
    interval = gap.interval
    if interval is None:
        minimum = gap.report.min_group_size
        return _finding(
            rule,
            "undecided",
            f"{gap.name} of outputs cannot be judged between groups, insufficient: "
            f"fewer than two groups with {minimum} answers that were counted "
            f"({gap.report.method})",
        )
    return _finding(rule, judge_gap(gap, interval), describe_gap(gap, interval))


def _group_contradictions(report: BiasReport) -> Iterator[str]:
    names = [group.group for group in report.groups]
    if len(set(names)) != len(names):
        yield "it lists a group twice"
    minimum = report.min_group_size
    small = sorted(
        group.group for group in report.groups if not _has_enough_rows(group, report)
    )
    insufficient = report.insufficient
    if small != sorted(insufficient):
        yield f"under {minimum} rows are {_list(small)}, it says {_list(insufficient)}"
    for group in report.groups:
        is_rated = group.rate is not None and group.score is not None
        if is_rated != _has_enough_rows(group, report):
            article = "a" if is_rated else "no"
            yield f"{group.group} has {group.n} rows and {article} rate"


def _difference_contradictions(
    name: str, stated: Interval | None, values: list[float | None]
) -> Iterator[str]:
    # With one group, or with a group without a value, there is nothing to compare.
    present = [value for value in values if value is not None]
    if len(present) != len(values) or len(present) < 2:
        if stated is not None:
            yield (
                f"it states a {name}, and fewer than two groups have what it is taken from"
            )
        return
    difference = max(present) - min(present)
    if stated is None:
        yield f"it states no {name}, and its groups differ by {difference:.3g}"
        return
    estimate = f"{stated.estimate:.3g}"
    tolerance = TOLERANCE * max(1.0, abs(difference))
    if not abs(stated.estimate - difference) <= tolerance:
        yield f"its {name} is {estimate}, and its groups differ by {difference:.3g}"
    elif not stated.low <= stated.estimate <= stated.high:
        bounds = f"{stated.low:.3g} to {stated.high:.3g}"
        yield f"its {name}, {estimate}, is outside of its interval, {bounds}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _finding(rule: str, outcome: Outcome, text: str) -> Finding:
    return Finding(
        rule=rule,
        outcome=outcome,
        text=text,
    )
