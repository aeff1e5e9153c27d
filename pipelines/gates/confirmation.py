"""THE SECOND LOOK: whether what passed `screen` is better on rows that chose nothing.

    Finalist of screen ─ a sealed block is opened ─ Confirmation ─ Finalist or Undecided

A set that judges each night's candidate for a year picks the lucky one. So what passes there is
only proposed: it is confirmed on a block of groups that no candidate was scored on before, at the
level that `pipelines.statistics.spending` leaves it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from core.errors import IncompleteEvidence
from pipelines.gates.policy import FEWEST_CLUSTERS, ScreenPolicy
from pipelines.rows.contents import digest_contents
from pipelines.scoring.evidence_file import Evidence
from pipelines.scoring.signatures import is_comparable
from pipelines.statistics.bootstrap import paired_difference, sums_by_group
from pipelines.values.dataset import Row, group_prompts
from pipelines.values.evidence import Resampling, System
from pipelines.values.reserve import (
    Block,
    Confirmation,
    Opponent,
    digest_of_rows,
    key_of,
)
from pipelines.values.verdict import Comparison, Finalist, Finding, Undecided

RULE = "confirmation"
ENOUGH = 0.75
"""Of the groups that judge every candidate: what a block has to have."""
NO_RESERVE = (
    "No reserve is sealed (screen.reserve: none): the same rows judge every candidate. With one a "
    "night, none of them better, 72 of 100 years release one falsely"
)
"""Simulated over 365 nights at a level of 0.05: docs/explanation/statistics.md."""


YEAR_RULE = "error of a year"
"""The rule of `screen` under which a policy without a reserve says what that means."""


class Cut(NamedTuple):
    """The next block of the reserve, or how many groups it lacks."""

    rows: tuple[Row, ...]
    lacking: int


def name_error(policy: ScreenPolicy) -> tuple[Finding, ...]:
    """What a year of candidates means without a reserve; nothing where one is sealed."""
    if policy.reserve == "sealed":
        return ()
    # Passed: it is the policy's own choice, and whoever reads the verdict has to know it.
    return (Finding(rule=YEAR_RULE, outcome="passed", text=NO_RESERVE),)


def cut_block(
    standing: Sequence[Row], sealed: Sequence[Row], ordered: Sequence[str], fewest: int
) -> Cut:
    """Take the next groups of the reserve: as many as judge every candidate, or nearly.

    Three quarters will do, since a hash parts the two and gives none of them exactly half. `fewest`
    are needed in any case. `ordered`: the reserve's groups in the order in which they are opened. A
    group that repeats a content of the standing rows, or of an earlier group, shows nothing new and
    is left out.
    """
    as_many = len({row.group for row in standing})
    needed = max(fewest, math.ceil(ENOUGH * as_many))
    # By content and not by name: the same question may come back in another group.
    known = set(digest_contents(group_prompts(standing)))
    by_group: dict[str, list[Row]] = {group: [] for group in ordered}
    for row in sealed:
        by_group[row.group].append(row)
    chosen: list[list[Row]] = []
    for rows in by_group.values():
        contents = set(digest_contents(group_prompts(rows)))
        if contents & known:
            continue
        known |= contents
        chosen.append(rows)
    lacking = max(0, needed - len(chosen))
    # A small block would spend a level of the year and could show hardly anything.
    if lacking:
        return Cut((), lacking)
    most = max(needed, as_many)
    block = [row for rows in chosen[:most] for row in rows]
    return Cut(tuple(block), 0)


_PROMPTS: tuple[Opponent, ...] = ("few_shot", "retrieval")


def choose_prompt(
    comparisons: Sequence[Comparison], primary: str, itself: System | None = None
) -> Opponent:
    """The baseline that came nearest to the candidate on the rows that judge every one.

    One comparison is made on a block, and these rows chose nothing there. A prompt that is a
    baseline `itself` is not compared with it.
    """
    leads = {
        comparison.against: comparison.difference
        for comparison in comparisons
        if comparison.metric == primary
    }
    others = [prompt for prompt in _PROMPTS if prompt != itself and prompt in leads]
    # The few-shot prompt has nothing but the base beside it, unless rows were retrieved.
    if not others:
        return "base" if itself == "few_shot" else "few_shot"
    # Of equals the first, which every policy asks for.
    return min(others, key=lambda prompt: leads[prompt])


def margin_on_block(policy: ScreenPolicy, against: Opponent) -> float:
    """What the primary metric may lose on a block: nothing, unless it has to be cheaper."""
    cheaper = policy.cheaper
    if cheaper is None or against not in cheaper.than:
        return 0.0
    return cheaper.margin


def compare_on_block(
    evidence: Evidence, policy: ScreenPolicy, against: Opponent, level: float
) -> Comparison:
    """The primary metric of the adapter against its opponent, with one-sided bounds at `level`.

    `IncompleteEvidence` where both were not computed in the same way.
    """
    metric = evidence.metric_named(policy.primary)
    if not is_comparable(evidence, metric, against):
        raise IncompleteEvidence(
            f"{metric.name} of the {against} was computed otherwise than the adapter's, so that "
            "the block compares nothing. Have the policy name another primary metric."
        )
    clusters = evidence.clusters
    own = evidence.statistics("adapter", metric.name)
    other = evidence.statistics(against, metric.name)
    own_sums = sums_by_group(clusters, own)
    other_sums = sums_by_group(clusters, other)
    resampling = Resampling(resamples=policy.resamples, seed=policy.seed)
    # Paired: what makes a prompt hard is hard for both, and cancels.
    difference = paired_difference(
        metric,
        own_sums,
        other_sums,
        level,
        resampling,
    )
    document = {
        "metric": metric.name,
        "against": against,
        **difference.model_dump(),
    }
    return Comparison.model_validate(document)


def find_confirmed(confirmation: Confirmation) -> Finding:
    """What a confirmation shows: passed only with a bound above 0, or above a loss allowed."""
    block, comparison = confirmation.block, confirmation.comparison
    if block is None or comparison is None:
        return Finding(rule=RULE, outcome="undecided", text=confirmation.missing)
    text = (
        f"Confirmation {block.number} of this year at level {block.level:.4f} on "
        f"{comparison.clusters} sealed groups: {comparison.metric} better than "
        f"{comparison.against} by {comparison.difference:.3g}, bound {comparison.low:.3g}"
    )
    if comparison.clusters < FEWEST_CLUSTERS:
        return Finding(
            rule=RULE,
            outcome="undecided",
            text=f"{text}; under {FEWEST_CLUSTERS} groups nothing passes",
        )
    if block.margin:
        text = f"{text}; the policy allows a loss under {block.margin:g}"
    # Asked as a pass: a NaN is above nothing.
    if comparison.low > -block.margin:
        return Finding(rule=RULE, outcome="passed", text=text)
    shown = "better" if not block.margin else "as good"
    return Finding(
        rule=RULE,
        outcome="undecided",
        text=f"{text}, which is not above {-block.margin or 0:g}: "
        f"it was {shown} on the rows that chose it alone",
    )


def confirm(finalist: Finalist, confirmation: Confirmation) -> Finalist | Undecided:
    """The verdict of `screen` with what its confirmation shows."""
    finding = find_confirmed(confirmation)
    findings = (*finalist.findings, finding)
    if finding.outcome == "passed":
        return finalist.model_copy(update={"findings": findings})
    return Undecided(
        gate="screen",
        findings=findings,
        comparisons=finalist.comparisons,
        policy_sha256=finalist.policy_sha256,
        statistics=finalist.statistics,
    )


def find_block_faults(
    block: Block, rows: Sequence[Row], standing: Sequence[Row]
) -> tuple[str, ...]:
    """Where a block's rows are not those that were opened, or were no longer sealed."""
    # All of them, and not the first alone: each points at another kind of change.
    faults = []
    if digest_of_rows(tuple(rows)) != block.rows_sha256:
        faults.append(
            "confirmation: its rows are not those of the block that was opened"
        )
    if {key_of(row.group) for row in rows} != set(block.groups):
        faults.append("confirmation: its rows are of other groups than were opened")
    if {row.group for row in rows} & {row.group for row in standing}:
        faults.append(
            "confirmation: a group of it judges every candidate, and is not sealed"
        )
    return tuple(faults)
