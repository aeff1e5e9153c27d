"""Paired differences of two sides, by metric; positive: the second is better."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.errors import IncompleteEvidence, ParameterError
from core.value import Value
from operations.compare.shared import Shared, find_shared
from operations.compare.sides import Side
from pipelines.gates.policy import FEWEST_CLUSTERS, ScreenPolicy
from pipelines.metrics import Metric, ScoredRow
from pipelines.scoring.evidence_table import EvidenceTable
from pipelines.statistics.bootstrap import (
    interval,
    paired_difference,
    sums_by_group,
)
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Resampling
from pipelines.values.verdict import STATISTICS
from registry.report.slices import Pair

_OF_ROWS = ("tokens:", "bytes:", "classes:", "nrefs:")
"""Parts of signatures that other rows change, and that are counted again for the shared ones."""
_RERUN = "Have both scored by one Assay, with `assay run`"


class MetricDifference(Value):
    """One metric of both sides on the prompts that both answered."""

    metric: str
    higher_is_better: bool
    first: Interval
    second: Interval
    difference: float
    low: float
    high: float
    clusters: int

    @property
    def says(self) -> str:
        """What the bounds show of the second side."""
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return "not shown to differ"


class Change(Value):
    """One prompt; a positive difference: the second side answered it better."""

    prompt_id: str
    group: str
    difference: float


class TwoSides(Value):
    """What `assay compare` found."""

    first: str
    second: str
    shared: int
    clusters: int
    only_first: int
    only_second: int
    changed: int
    level: float
    primary: str
    metrics: tuple[MetricDifference, ...]
    not_compared: tuple[str, ...]
    better: tuple[Change, ...]
    worse: tuple[Change, ...]


MOST_CHANGES = 10


@dataclass(frozen=True)
class Comparing:
    """Two sides, and the prompts that both answered."""

    first: Side
    second: Side

    @cached_property
    def tables(self) -> tuple[EvidenceTable, EvidenceTable]:
        """The evidence of both."""
        return self.first.scored.evidence, self.second.scored.evidence

    @cached_property
    def shared(self) -> Shared:
        """The prompts that both answered."""
        return find_shared(*self.tables)

    @property
    def policy(self) -> ScreenPolicy:
        """The limits of the second side, which is usually the newer one."""
        return self.second.scored.screen

    @cached_property
    def clusters(self) -> tuple[str, ...]:
        """The cluster of each shared prompt."""
        return self.shared.clusters(self.tables[1])

    def pair(self, name: str) -> Pair:
        """Both sides' statistics of a metric: the second as `own`, so that it may be better."""
        first, second = self.shared.statistics(self.tables, name)
        metric = self.tables[1].metric_named(name)
        return Pair(metric, self.clusters, second, first)


def compare_sides(comparing: Comparing) -> TwoSides:
    """Compare two sides on what both answered.

    `ParameterError` says why that cannot be done: other statistics, hardly a prompt in common, or
    no metric that was counted in one way.
    """
    _check_statistics(comparing)
    _check_clusters(comparing)
    found, refused = [], []
    # One metric that cannot be compared must not hide all the others.
    for name in _names(comparing):
        reason = _find_obstacle(comparing, name)
        if reason is not None:
            refused.append(f"{name}: {reason}")
            continue
        try:
            found.append(_measure(comparing, name))
        except IncompleteEvidence as error:
            refused.append(f"{name}: {error}")
    if not found:
        raise ParameterError(
            f"No metric of {comparing.first.name} and {comparing.second.name} was counted in one "
            f"way ({'; '.join(refused) or 'they have none in common'}). {_RERUN}."
        )
    shared = comparing.shared
    better, worse = _changes(comparing, found[0].metric)
    return TwoSides(
        first=comparing.first.name,
        second=comparing.second.name,
        shared=len(shared.prompt_ids),
        clusters=len(set(comparing.clusters)),
        only_first=shared.only_first,
        only_second=shared.only_second,
        changed=shared.changed,
        level=comparing.policy.alpha,
        primary=found[0].metric,
        metrics=tuple(found),
        not_compared=tuple(refused),
        better=better,
        worse=worse,
    )


def _check_statistics(comparing: Comparing) -> None:
    for side in (comparing.first, comparing.second):
        scored = side.scored
        verdict = scored.verdict
        version = verdict.statistics
        # An older one may hold, and nobody could tell by which bounds.
        if version != STATISTICS:
            named = "without a number" if version is None else str(version)
            raise ParameterError(
                f"{side.name} was judged by statistics {named}, and statistics {STATISTICS} hold "
                f"now, whose bounds are others. {_RERUN}."
            )


def _check_clusters(comparing: Comparing) -> None:
    shared = comparing.shared
    clusters = len(set(comparing.clusters)) if shared.prompt_ids else 0
    # Asked as a pass: of fewer no bound holds.
    if clusters >= FEWEST_CLUSTERS:
        return
    raise ParameterError(
        f"{comparing.first.name} and {comparing.second.name} answered {len(shared.prompt_ids)} "
        f"prompts in common, in {clusters} clusters; under {FEWEST_CLUSTERS} nothing can be told "
        f"apart ({shared.changed} more have other references now). Score one of them on the "
        "other's held-out rows: `assay run --held-out FILE`."
    )


def _names(comparing: Comparing) -> list[str]:
    """The primary metric first, then the guardrails, then whatever else was scored."""
    # In the order in which a policy weighs them.
    guardrails = [each.metric for each in comparing.policy.guardrails]
    first, second = comparing.tables
    names = [comparing.policy.primary, *guardrails, *second.metrics, *first.metrics]
    scored = {*first.metrics, *second.metrics}
    return [name for name in dict.fromkeys(names) if name in scored]


def _find_obstacle(comparing: Comparing, name: str) -> str | None:
    """Why a metric of both cannot be compared; None where it can."""
    first, second = comparing.tables
    for side in (comparing.first, comparing.second):
        if name not in side.scored.evidence.metrics:
            return f"{side.name} was not scored by it"
    own = first.metric_named(name)
    other = second.metric_named(name)
    is_alike = _sign(comparing, first, own) == _sign(comparing, second, other)
    # As stored, too: what this machine would use today says nothing about either run.
    was_alike = _stored_method(comparing.first, name) == _stored_method(
        comparing.second, name
    )
    if not (is_alike and was_alike):
        return "it was counted in two ways"
    references = [row.references for row in _rows(comparing, second)]
    return other.inapplicable(references)


def _stored_method(side: Side, name: str) -> tuple[str, ...]:
    """The parts of a scorecard's signature that do not depend on which rows were counted."""
    system = side.scored.scorecard.system("adapter")
    scores = () if system is None else system.metrics
    # Of the adapter alone: a run counts every system alike, or says why not.
    for score in scores:
        if score.name == name:
            parts = score.signature.split("|")
            return tuple(part for part in parts if not part.startswith(_OF_ROWS))
    return ()


def _sign(comparing: Comparing, table: EvidenceTable, metric: Metric) -> str:
    """How a side's answers to the shared prompts were counted."""
    # Perplexities count tokens: on the shared prompts they must be the same ones.
    rows = list(_rows(comparing, table))
    return metric.signature(rows)


def _rows(comparing: Comparing, table: EvidenceTable) -> Iterator[ScoredRow]:
    return table.scored_rows("adapter", comparing.shared.prompt_ids)


def _measure(comparing: Comparing, name: str) -> MetricDifference:
    # Paired: what makes a prompt hard is hard for both, and cancels.
    pair = comparing.pair(name)
    policy = comparing.policy
    # With the policy's seed: the same two files always give the same bounds.
    resampling = Resampling(resamples=policy.resamples, seed=policy.seed)
    # Two releases of Assay may count a metric by other parts.
    if pair.own.shape != pair.other.shape:
        raise IncompleteEvidence("its statistics have other columns on either side")
    second = sums_by_group(pair.clusters, pair.own)
    first = sums_by_group(pair.clusters, pair.other)
    difference = paired_difference(
        pair.metric,
        second,
        first,
        policy.alpha,
        resampling,
    )
    return MetricDifference(
        metric=name,
        higher_is_better=pair.metric.higher_is_better,
        first=interval(pair.metric, first, resampling),
        second=interval(pair.metric, second, resampling),
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
        clusters=difference.clusters,
    )


def _changes(
    comparing: Comparing, name: str
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """The prompts that gained most, and those that lost most, the largest change first."""
    pair = comparing.pair(name)
    with np.errstate(all="ignore"):
        differences = pair.metric.corpus(pair.own) - pair.metric.corpus(pair.other)
    # So that a positive difference is a gain, whichever way the metric goes.
    if not pair.metric.higher_is_better:
        differences = -differences
    groups = comparing.shared.described(comparing.tables[1], None).groups
    changes = []
    for place, difference in enumerate(differences):
        # A prompt may have no number of its own, such as one without a single n-gram.
        if np.isfinite(difference) and difference != 0:
            changes.append(
                Change(
                    prompt_id=comparing.shared.prompt_ids[place],
                    group=groups[place],
                    difference=float(difference),
                )
            )
    # By the identifier where two are equal: the same evidence gives the same list.
    changes.sort(key=lambda each: (each.difference, each.prompt_id))
    worse = [each for each in changes if each.difference < 0][:MOST_CHANGES]
    better = [each for each in reversed(changes) if each.difference > 0][:MOST_CHANGES]
    return tuple(better), tuple(worse)
