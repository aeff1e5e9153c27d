"""Parts of the prompts, each by itself: a gain on the whole may hide a loss in a part.

A part says something from so many clusters on as a gate asks for. Under that floor its numbers are
shown, and no interval: it would be one of a handful of groups.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from core.errors import IncompleteEvidence
from pipelines.gates.policy import FEWEST_CLUSTERS
from pipelines.metrics import FloatArray, Metric
from pipelines.statistics.bootstrap import (
    Difference,
    paired_difference,
    sums_by_group,
)
from pipelines.values.evidence import Resampling, System
from registry.report.html import LONGEST_CELL, cut, paragraph, section, shown, table
from registry.report.paired import reference_system
from registry.report.scored import Scored

_MOST_SLICES = 20
_RESAMPLES = 2000
_QUARTERS = 4


class Slice(NamedTuple):
    """Some of the prompts, by their places."""

    name: str
    places: tuple[int, ...]


class Pair(NamedTuple):
    """Two systems' statistics of one metric, with the cluster of each prompt."""

    metric: Metric
    clusters: tuple[str, ...]
    own: FloatArray
    other: FloatArray

    def part(self, places: tuple[int, ...]) -> "Pair":
        """The same of some prompts alone."""
        chosen = list(places)
        clusters = tuple(self.clusters[place] for place in chosen)
        return Pair(self.metric, clusters, self.own[chosen], self.other[chosen])

    def difference(self, alpha: float, resampling: Resampling) -> Difference | None:
        """How much better the first is; None under the floor, and where a number is none."""
        if len(set(self.clusters)) < FEWEST_CLUSTERS:
            return None
        own = sums_by_group(self.clusters, self.own)
        other = sums_by_group(self.clusters, self.other)
        try:
            return paired_difference(self.metric, own, other, alpha, resampling)
        # A part may hold no n-gram at all, or no positive label.
        except IncompleteEvidence:
            return None


def show_slices(scored: Scored) -> str:
    """The primary metric on each part of the prompts, against the system shown elsewhere."""
    against = reference_system(scored.evidence)
    primary = scored.screen.primary
    if against is None or primary not in scored.evidence.metrics:
        return ""
    pair = _pair(scored, primary, against)
    slices = list(find_slices(scored, pair))
    titles = ("part", "prompts", "clusters", "adapter", against, "difference", "bounds")
    rows = [_row(scored, each, pair) for each in slices[:_MOST_SLICES]]
    caption = (
        f"{primary} by part; a part has bounds from {FEWEST_CLUSTERS} clusters on, which is its "
        "floor. No rule of the gate judges a part: with many of them some look worse by chance"
    )
    parts = [table(caption, titles, rows)]
    more = len(slices) - _MOST_SLICES
    if more > 0:
        parts.append(paragraph(f"{more} smaller parts are not shown."))
    return section("slices", "Parts of the prompts", *parts)


def find_slices(scored: Scored, pair: Pair) -> Iterator[Slice]:
    """All prompts, then by the declared feature, by the length of the references, by group."""
    total = len(pair.clusters)
    yield Slice("all prompts", tuple(range(total)))
    yield from _by_value("feature", scored.evidence.features)
    yield from _by_length(scored)
    # Groups come last: each is one cluster, so that none has bounds.
    yield from _by_value("group", scored.evidence.groups)


def _pair(scored: Scored, metric: str, against: System) -> Pair:
    evidence = scored.evidence
    return Pair(
        evidence.metric_named(metric),
        evidence.clusters,
        evidence.statistics("adapter", metric),
        evidence.statistics(against, metric),
    )


def _by_value(kind: str, values: tuple[str | None, ...]) -> Iterator[Slice]:
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        if value is not None:
            places.setdefault(value, []).append(place)
    # The largest first: they say most. By name where two are equal.
    in_order = sorted(places.items(), key=lambda each: (-len(each[1]), each[0]))
    for name, found in in_order:
        yield Slice(f"{kind} {name}", tuple(found))


def _by_length(scored: Scored) -> Iterator[Slice]:
    """Quarters of the prompts by the length of their prompt's text, the shortest first."""
    texts = scored.prompts
    ids = scored.evidence.prompt_ids
    # Older packages keep no prompts, and then there is no length to go by.
    if not all(name in texts for name in ids) or len(ids) < _QUARTERS:
        return
    lengths = np.array([len(texts[name]) for name in ids])
    order = np.argsort(lengths, kind="stable")
    for part in np.array_split(order, _QUARTERS):
        shortest, longest = lengths[part[0]], lengths[part[-1]]
        name = f"prompts of {shortest:,} to {longest:,} characters"
        yield Slice(name, tuple(int(place) for place in part))


def _row(scored: Scored, each: Slice, whole: Pair) -> tuple[str, ...]:
    pair = whole.part(each.places)
    clusters = len(set(pair.clusters))
    own = _score(pair.metric, pair.own)
    other = _score(pair.metric, pair.other)
    screen = scored.screen
    resampling = Resampling(resamples=_RESAMPLES, seed=screen.seed)
    found = pair.difference(screen.alpha, resampling)
    bounds = f"too few to tell: under {FEWEST_CLUSTERS} clusters"
    if clusters >= FEWEST_CLUSTERS:
        bounds = "not a number on these prompts"
    difference = ""
    if found is not None:
        difference = f"{found.difference:+.3g}"
        bounds = f"{found.low:+.3g} to {found.high:+.3g}"
    return (
        cut(each.name, LONGEST_CELL),
        str(len(each.places)),
        str(clusters),
        shown(own),
        shown(other),
        shown(difference),
        shown(bounds),
    )


def _score(metric: Metric, statistics: FloatArray) -> str:
    with np.errstate(all="ignore"):
        score = float(metric.corpus(statistics.sum(axis=0)))
    return f"{score:.3g}" if np.isfinite(score) else "none"
