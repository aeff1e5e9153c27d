"""Stage `split`: share whole groups out to train, dev and held-out.

In: `data/collect`, and the parameters `split`.
Out: `data/split` with one file a split, without exact duplicates, and `dataset.json`, the
version of the data with its counts and the overlap between splits.
Refuses: a fixed held-out file without one usable row. Empty splits are for `admit` to judge.

A hash of the group decides, so that no other group decides where one goes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.errors import EmptySplit
from core.files import md5_of
from core.value import Value
from pipelines import layout
from pipelines.values.dataset import (
    SPLITS,
    Collection,
    DatasetVersion,
    Row,
    normalise_text,
    read_rows,
    write_rows,
)
from pipelines.values.params import SplitParams, load_params


class Splits(Value):
    """Every distinct row in its split."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    held_out: tuple[Row, ...]
    duplicates: int

    def of(self, name: str) -> tuple[Row, ...]:
        """Return the rows of a split by its name."""
        rows: tuple[Row, ...] = getattr(self, name)
        return rows


def split(
    rows: Sequence[Row], held_out: Sequence[Row] | None, params: SplitParams
) -> Splits:
    """Remove exact duplicates and share whole groups out.

    `held_out` is a fixed held-out set, which stays whole, or None. `EmptySplit` where a fixed
    set has no row.
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
    return Splits(
        train=tuple(by_split["train"]),
        dev=tuple(by_split["dev"]),
        held_out=tuple(by_split["held_out"] if fixed is None else fixed),
        duplicates=rows_read - rows_left,
    )


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
    salted = f"{params.salt}\n{group}"
    digest = hashlib.sha256(salted.encode()).digest()
    # The hash as a number from 0 to 1, of which each split owns a range.
    place = int.from_bytes(digest[:8], "big") / 2**64
    if held_out_is_fixed:
        # dev keeps its ratio to train: the share of held-out is not dealt out.
        dev_end = params.dev / (1 - params.held_out)
    elif place < params.held_out:
        return "held_out"
    else:
        dev_end = params.held_out + params.dev
    return "dev" if place < dev_end else "train"


def count_overlap(splits: Splits) -> dict[str, int]:
    """Count the distinct held-out prompts that train or dev repeat, and the rows that do."""
    held_out = {normalise_text(row.prompt) for row in splits.held_out}
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
    groups = {name: {row.group for row in splits.of(name)} for name in SPLITS}
    return DatasetVersion(
        path=collection.rows.path,
        md5=md5_of(under / collection.rows.path),
        sha256=collection.rows.sha256,
        source=collection.source,
        licence=collection.licence,
        source_rows=collection.source_rows,
        duplicates=splits.duplicates,
        rows={name: len(splits.of(name)) for name in SPLITS},
        groups={name: len(groups[name]) for name in SPLITS},
        overlap=count_overlap(splits),
        held_out_is_fixed=collection.held_out is not None,
    )


def main() -> int:
    """Write data/split: train.jsonl, dev.jsonl, held_out.jsonl and dataset.json."""
    params = load_params().split
    collection = Collection.read(layout.COLLECT / "collection.json")
    rows = read_rows(collection.rows.checked())
    held_out = None
    if collection.held_out:
        held_out = read_rows(collection.held_out.checked())
    splits = split(rows, held_out, params)
    for name in SPLITS:
        write_rows(layout.SPLIT / f"{name}.jsonl", splits.of(name))
    version = describe_version(splits, collection)
    version.write(layout.DATASET)
    counts = ", ".join(
        f"{name} {version.rows[name]:,} rows in {version.groups[name]:,} groups"
        for name in SPLITS
    )
    print(f"{counts}; {version.duplicates:,} duplicates removed")
    return 0
