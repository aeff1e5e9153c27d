"""Parts of the prompts, each by itself: a gain on the whole may hide a loss in a part.

A part says something from so many clusters on as a gate asks for. Under that floor its numbers are
shown, and no interval: it would be one of a handful of groups.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from core.errors import IncompleteEvidence
from pipelines.gates.policy import FEWEST_CLUSTERS, ScreenPolicy
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
            return paired_difference(
                self.metric,
                own,
                other,
                alpha,
                resampling,
            )
        # A part may hold no n-gram at all, or no positive label.
        except IncompleteEvidence:
            return None


class Described(NamedTuple):
    """What is known of each prompt: prompts that share a value are a part."""

    features: tuple[str | None, ...]
    groups: tuple[str, ...]
    characters: tuple[int, ...] | None
    """None where the texts of the prompts are not there."""


def show_slices(scored: Scored) -> str:
    """The primary metric on each part of the prompts, against the system shown elsewhere."""
    against = reference_system(scored.evidence)
    primary = scored.screen.primary
    if against is None or primary not in scored.evidence.metrics:
        return ""
    evidence = scored.evidence
    pair = _pair(scored, primary, against)
    characters = count_characters(scored, evidence.prompt_ids)
    described = Described(
        evidence.features,
        evidence.groups,
        characters,
    )
    titles = ("adapter", against)
    table_of_parts = parts_table(titles, described, pair, scored.screen)
    return section("slices", "Parts of the prompts", table_of_parts)


def parts_table(
    systems: tuple[str, str], described: Described, pair: Pair, policy: ScreenPolicy
) -> str:
    """A table of the parts, each with its floor."""
    slices = list(find_slices(described))
    titles = ("part", "prompts", "clusters", *systems, "difference", "bounds")
    # The first of them: all prompts, features and lengths come before single groups.
    first = slices[:_MOST_SLICES]
    rows = [_row(each, pair, policy) for each in first]
    caption = (
        f"{pair.metric.name} by part; a part has bounds from {FEWEST_CLUSTERS} clusters on, which "
        "is its floor. No rule of the gate judges a part: of many some look worse by chance"
    )
    parts = [table(caption, titles, rows)]
    more = len(slices) - _MOST_SLICES
    if more > 0:
        parts.append(paragraph(f"{more} smaller parts are not shown."))
    return "\n".join(parts)


def find_slices(described: Described) -> Iterator[Slice]:
    """All prompts, then by the declared feature, by the length of the prompt, by group."""
    total = len(described.groups)
    yield Slice("all prompts", tuple(range(total)))
    yield from _by_value("feature", described.features)
    if described.characters is not None:
        yield from _by_length(described.characters)
    # Groups come last: each is one cluster, so that none has bounds.
    yield from _by_value("group", described.groups)


def count_characters(
    scored: Scored, prompt_ids: Sequence[str]
) -> tuple[int, ...] | None:
    """The length of each prompt's text; None where one is not kept, as in older packages."""
    texts = scored.prompts
    # Quarters of some of the prompts would look like quarters of all.
    if not all(name in texts for name in prompt_ids):
        return None
    return tuple(len(texts[name]) for name in prompt_ids)


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


def _by_length(characters: tuple[int, ...]) -> Iterator[Slice]:
    """Quarters of the prompts by the length of their texts, the shortest first."""
    if len(characters) < _QUARTERS:
        return
    lengths = np.array(characters)
    order = np.argsort(lengths, kind="stable")
    # By rank and not by length: each quarter then has as many prompts.
    for part in np.array_split(order, _QUARTERS):
        shortest = lengths[part[0]]
        longest = lengths[part[-1]]
        places = part.tolist()
        yield Slice(f"prompts of {shortest:,} to {longest:,} characters", tuple(places))


def _row(each: Slice, whole: Pair, policy: ScreenPolicy) -> tuple[str, ...]:
    places = each.places
    pair = whole.part(places)
    metric = pair.metric
    names = set(pair.clusters)
    clusters = len(names)
    prompts = len(places)
    resampling = Resampling(resamples=_RESAMPLES, seed=policy.seed)
    found = pair.difference(policy.alpha, resampling)
    difference = ""
    bounds = f"too few to tell: under {FEWEST_CLUSTERS} clusters"
    if clusters >= FEWEST_CLUSTERS:
        bounds = "not a number on these prompts"
    if found is not None:
        difference = f"{found.difference:+.3g}"
        bounds = f"{found.low:+.3g} to {found.high:+.3g}"
    return (
        cut(each.name, LONGEST_CELL),
        str(prompts),
        str(clusters),
        _score(metric, pair.own),
        _score(metric, pair.other),
        shown(difference),
        shown(bounds),
    )


def _score(metric: Metric, statistics: FloatArray) -> str:
    with np.errstate(all="ignore"):
        score = float(metric.corpus(statistics.sum(axis=0)))
    return f"{score:.3g}" if np.isfinite(score) else "none"
