"""Stage `split`: whole groups to train, dev and held-out, by a hash of the group, so that no other group decides where one goes."""

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
    normalised,
    read_rows,
    write_rows,
)
from pipelines.values.params import SplitParams, load_params

COLLECTED = layout.COLLECT
OUT = layout.SPLIT


class Splits(Value):
    """Every distinct row in its split."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    held_out: tuple[Row, ...]
    duplicates: int

    def of(self, name: str) -> tuple[Row, ...]:
        """The rows of a split by its name."""
        rows: tuple[Row, ...] = getattr(self, name)
        return rows


def split(
    rows: Sequence[Row], held_out: Sequence[Row] | None, params: SplitParams
) -> Splits:
    """Remove exact duplicates and share whole groups out; a fixed held-out set stays whole and is repeated by nobody's choice."""
    pool, fixed = distinct(rows), None if held_out is None else distinct(held_out)
    if fixed is not None and not fixed:
        raise EmptySplit(
            "The held-out file data/raw/held_out.* holds no row that can be used. Put rows in it, or run without --held-out."
        )
    kept: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for row in pool:
        kept[assign(row.group, params, held_out_is_fixed=fixed is not None)].append(row)
    removed = len(rows) - len(pool) + len(held_out or ()) - len(fixed or ())
    judging = kept["held_out"] if fixed is None else fixed
    return Splits(
        train=tuple(kept["train"]),
        dev=tuple(kept["dev"]),
        held_out=tuple(judging),
        duplicates=removed,
    )


def distinct(rows: Iterable[Row]) -> list[Row]:
    """The first of all rows with the same normalised prompt and the same completion."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((normalised(row.prompt), row.completion), row)
    return list(first.values())


def assign(group: str, params: SplitParams, *, held_out_is_fixed: bool) -> str:
    """The split of a group: its own hash decides, so a group that grows stays and a new one moves no other."""
    place = (
        int.from_bytes(
            hashlib.sha256(f"{params.salt}\n{group}".encode()).digest()[:8], "big"
        )
        / 2**64
    )
    if held_out_is_fixed:
        return "dev" if place < params.dev / (1 - params.held_out) else "train"
    if place < params.held_out:
        return "held_out"
    return "dev" if place < params.held_out + params.dev else "train"


def overlap(splits: Splits) -> dict[str, int]:
    """Distinct held-out prompts that train or dev repeat, and the rows there that repeat them."""
    judged = {normalised(row.prompt) for row in splits.held_out}
    repeats = [
        text
        for row in splits.train + splits.dev
        if (text := normalised(row.prompt)) in judged
    ]
    return {"prompts": len(set(repeats)), "rows": len(repeats)}


def version_of(
    splits: Splits, collection: Collection, under: Path = Path()
) -> DatasetVersion:
    """What the split data is, by digest and by counts."""
    return DatasetVersion(
        path=collection.rows.path,
        md5=md5_of(under / collection.rows.path),
        sha256=collection.rows.sha256,
        source=collection.source,
        licence=collection.licence,
        source_rows=collection.source_rows,
        duplicates=splits.duplicates,
        rows={name: len(splits.of(name)) for name in SPLITS},
        groups={name: len({row.group for row in splits.of(name)}) for name in SPLITS},
        overlap=overlap(splits),
        held_out_is_fixed=collection.held_out is not None,
    )


def main() -> int:
    """Write data/split: train.jsonl, dev.jsonl, held_out.jsonl and dataset.json."""
    params = load_params().split
    collection = Collection.read(COLLECTED / "collection.json")
    rows = read_rows(collection.rows.checked())
    fixed = read_rows(collection.held_out.checked()) if collection.held_out else None
    splits = split(rows, fixed, params)
    for name in SPLITS:
        write_rows(OUT / f"{name}.jsonl", splits.of(name))
    version = version_of(splits, collection)
    version.write(OUT / "dataset.json")
    shares = ", ".join(
        f"{name} {version.rows[name]:,} rows in {version.groups[name]:,} groups"
        for name in SPLITS
    )
    print(f"{shares}; {version.duplicates:,} duplicates removed")
    return 0
