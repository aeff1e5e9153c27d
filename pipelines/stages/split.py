"""Stage `split`: share whole groups out to train, dev and held-out, and seal a reserve.

In: `data/collect`, the parameters `split`, the policy, and which groups were scored before.
Out: `data/split` with one file a split, without exact duplicates, and `dataset.json`, the
version of the data with its counts and the overlap between splits.
Refuses: a fixed held-out file without one usable row. Empty splits are for `admit` to judge.

A hash of the group decides, so that no other group decides where one goes. Where the policy asks
for a sealed reserve, another hash puts half of the held-out groups into it, but for those that some
candidate was scored on.
"""

import hashlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from core.errors import EmptySplit
from core.files import md5_of
from core.value import Value
from pipelines import layout
from pipelines.gates.reserve_policy import is_reserve_sealed
from pipelines.values.dataset import (
    PARTS,
    SPLITS,
    Collection,
    DatasetVersion,
    Row,
    normalise_text,
    read_rows,
    write_rows,
)
from pipelines.values.params import SplitParams, load_params
from pipelines.values.reserve import SeenGroups, key_of

SEALED_SHARE = 0.5
"""Of the held-out groups."""


class Splits(Value):
    """Every distinct row in its split."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    held_out: tuple[Row, ...]
    reserve: tuple[Row, ...] = ()
    duplicates: int

    def of(self, name: str) -> tuple[Row, ...]:
        """Return the rows of a split by its name."""
        rows: tuple[Row, ...] = getattr(self, name)
        return rows


def split(
    rows: Sequence[Row],
    held_out: Sequence[Row] | None,
    params: SplitParams,
    seen: Container[str] | None = None,
) -> Splits:
    """Remove exact duplicates and share whole groups out.

    `held_out` is a fixed held-out set, or None. `seen` holds the keys of groups that were scored
    before, which no reserve may hold; None: no reserve is sealed. `EmptySplit` where a fixed set
    has no row.
    """
    # Duplicates first: copies are no evidence, and must not count as rows.
    pool = remove_duplicates(rows)
    fixed = None if held_out is None else remove_duplicates(held_out)
    if fixed is not None and not fixed:
        raise EmptySplit(
            "The held-out file data/raw/held_out.* holds no row that can be used. "
            "Put rows in it, or run without --held-out."
        )
    is_fixed = fixed is not None
    by_split: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for row in pool:
        name = assign_split(row.group, params, held_out_is_fixed=is_fixed)
        by_split[name].append(row)
    rows_read = len(rows) + len(held_out or ())
    rows_left = len(pool) + len(fixed or ())
    judging = by_split["held_out"] if fixed is None else fixed
    standing, sealed = seal(judging, params, seen)
    return Splits(
        train=tuple(by_split["train"]),
        dev=tuple(by_split["dev"]),
        held_out=standing,
        reserve=sealed,
        duplicates=rows_read - rows_left,
    )


def seal(
    rows: Sequence[Row], params: SplitParams, seen: Container[str] | None
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Part the held-out rows into those that judge every candidate, and the sealed reserve."""
    if seen is None:
        return tuple(rows), ()
    groups = {row.group for row in rows}
    sealed_groups = {
        group
        for group in groups
        # Scored once is scored for ever: such a group chose what serves now.
        if key_of(group) not in seen and place_in_reserve(group, params) < SEALED_SHARE
    }
    standing = tuple(row for row in rows if row.group not in sealed_groups)
    sealed = tuple(row for row in rows if row.group in sealed_groups)
    return standing, sealed


def place_in_reserve(group: str, params: SplitParams) -> float:
    """A number from 0 to 1 by the group's own hash: which half it is in, and which block."""
    return _hash_to_unit(f"{params.salt}\nreserve\n{group}")


def remove_duplicates(rows: Iterable[Row]) -> list[Row]:
    """Return the first of all rows with the same normalised prompt and the same completion."""
    by_content: dict[tuple[str, str], Row] = {}
    for row in rows:
        prompt = normalise_text(row.prompt)
        content = (prompt, row.completion)
        # The first one stays: its line number is the one that people find.
        by_content.setdefault(content, row)
    return list(by_content.values())


def assign_split(group: str, params: SplitParams, *, held_out_is_fixed: bool) -> str:
    """Return the name of a group's split.

    Its own hash decides, so a group that grows stays and a new one moves no other.
    """
    # Each split owns a range.
    place = _hash_to_unit(f"{params.salt}\n{group}")
    if held_out_is_fixed:
        # dev keeps its ratio to train: the share of held-out is not dealt out.
        dev_end = params.dev / (1 - params.held_out)
    elif place < params.held_out:
        return "held_out"
    else:
        dev_end = params.held_out + params.dev
    return "dev" if place < dev_end else "train"


def _hash_to_unit(salted: str) -> float:
    digest = hashlib.sha256(salted.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def order_of_reserve(rows: Iterable[Row], params: SplitParams) -> tuple[str, ...]:
    """The reserve's groups in the order in which blocks are cut: nobody's choice."""
    groups = {row.group for row in rows}
    return tuple(sorted(groups, key=lambda group: place_in_reserve(group, params)))


def count_overlap(splits: Splits) -> dict[str, int]:
    """Count the distinct held-out prompts that train or dev repeat, and the rows that do."""
    judging = splits.held_out + splits.reserve
    held_out = {normalise_text(row.prompt) for row in judging}
    repeats: list[str] = []
    for row in splits.train + splits.dev:
        prompt = normalise_text(row.prompt)
        if prompt in held_out:
            repeats.append(prompt)
    return {
        "prompts": len(set(repeats)),
        "rows": len(repeats),
    }


def describe_version(
    splits: Splits, collection: Collection, under: Path = Path()
) -> DatasetVersion:
    """Describe the split data by digest and by counts; `under` is the workspace."""
    # Without a reserve there is no such split: the version is as it was before there were any.
    names = PARTS if splits.reserve else SPLITS
    groups = {name: {row.group for row in splits.of(name)} for name in names}
    return DatasetVersion(
        path=collection.rows.path,
        md5=md5_of(under / collection.rows.path),
        sha256=collection.rows.sha256,
        source=collection.source,
        licence=collection.licence,
        source_rows=collection.source_rows,
        duplicates=splits.duplicates,
        rows={name: len(splits.of(name)) for name in names},
        groups={name: len(groups[name]) for name in names},
        overlap=count_overlap(splits),
        held_out_is_fixed=collection.held_out is not None,
    )


def main() -> int:
    """Write data/split: a file for each split, the reserve's too, and dataset.json."""
    params = load_params().split
    collection = Collection.read(layout.COLLECT / "collection.json")
    rows = read_rows(collection.rows.checked())
    held_out = None
    if collection.held_out:
        held_out = read_rows(collection.held_out.checked())
    seen = None
    if is_reserve_sealed(layout.POLICY):
        seen = frozenset(SeenGroups.read(layout.SEEN_GROUPS).groups)
    splits = split(rows, held_out, params, seen)
    for name in PARTS:
        write_rows(layout.SPLIT / f"{name}.jsonl", splits.of(name))
    version = describe_version(splits, collection)
    version.write(layout.DATASET)
    counts = ", ".join(
        f"{name} {version.rows[name]:,} rows in {version.groups[name]:,} groups"
        for name in version.rows
    )
    print(f"{counts}; {version.duplicates:,} duplicates removed")
    return 0
