"""The prompts that both sides answered, with the same references."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pipelines.metrics import FloatArray
from pipelines.rows.contents import assign_clusters
from pipelines.scoring.evidence_table import EvidenceTable
from registry.report.slices import Described

_T = TypeVar("_T")


class Shared(NamedTuple):
    """Prompts in the order of the second side, and where each of them is on either."""

    prompt_ids: tuple[str, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    only_first: int
    only_second: int
    changed: int
    """Prompts of both whose references are not the same any more."""

    def statistics(
        self, tables: tuple[EvidenceTable, EvidenceTable], metric: str
    ) -> tuple[FloatArray, FloatArray]:
        """Both adapters' statistics of a metric on these prompts alone."""
        own, other = tables
        of_first = own.statistics("adapter", metric)
        of_second = other.statistics("adapter", metric)
        return of_first[list(self.first)], of_second[list(self.second)]

    def clusters(self, second: EvidenceTable) -> tuple[str, ...]:
        """The cluster of each; as the second side has it, which is usually the newer one."""
        groups = take(second.groups, self.second)
        contents = take(second.contents, self.second)
        return assign_clusters(groups, contents)

    def described(
        self, second: EvidenceTable, characters: tuple[int, ...] | None
    ) -> Described:
        """By what these prompts fall into parts."""
        return Described(
            take(second.features, self.second),
            take(second.groups, self.second),
            characters,
        )


def find_shared(first: EvidenceTable, second: EvidenceTable) -> Shared:
    """Pair the prompts of two evidence files."""
    # By name: two runs hold the same prompts in other orders.
    names_of_first = first.prompt_ids
    places = {name: place for place, name in enumerate(names_of_first)}
    of_first = first.reference_digests("adapter")
    of_second = second.reference_digests("adapter")
    names: list[str] = []
    on_first: list[int] = []
    on_second: list[int] = []
    changed = 0
    for place, name in enumerate(second.prompt_ids):
        if name not in places:
            continue
        # Other references make another question of it: a score would be of something else.
        is_changed = of_first[name] != of_second[name]
        if is_changed:
            changed += 1
            continue
        names.append(name)
        on_first.append(places[name])
        on_second.append(place)
    # A prompt that was changed was asked of both: it is neither side's own.
    common = len(names) + changed
    return Shared(
        prompt_ids=tuple(names),
        first=tuple(on_first),
        second=tuple(on_second),
        only_first=len(places) - common,
        only_second=len(of_second) - common,
        changed=changed,
    )


def take(values: Sequence[_T], places: Sequence[int]) -> tuple[_T, ...]:
    """The values at these places."""
    return tuple(values[place] for place in places)
