"""Stage `collect`: read the demo's package or a local file.

In: `data/raw/rows.*`, and `held_out.*` beside it for a fixed held-out set; or PyPI's `cheat`.
A file is recognised by what it holds.
Out: `data/collect` with rows of one form, a quarantine of what does not fit it, and
`collection.json`, which counts both and names the licence.
Refuses: no file or two, a file that holds no rows, a file without the named columns.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from core.download import fetch
from core.errors import UnreadableData
from core.files import digest_of_files, folder_digests, sha256_of
from core.settings import Settings
from core.value import FileDigest, Value
from pipelines import layout
from pipelines.rows.cheat import CHEAT, LICENCE, read_cheat_rows
from pipelines.rows.formats import (
    OpenFile,
    ReadAs,
    describe_lost_characters,
    read_records,
)
from pipelines.rows.places import find_only
from pipelines.rows.reading import read_rows_of
from pipelines.values.dataset import Collection, QuarantinedRow, write_rows
from pipelines.values.params import DataParams, load_params


class RowSource(Value):
    """Where rows come from, and the licence under which."""

    kind: Literal["cheat", "file"]
    name: str
    licence: str | None
    rows: Path
    held_out: Path | None = None

    def sha256(self) -> str:
        """Digest the file, or both files where a fixed held-out set came with it."""
        if self.held_out is None:
            return _digest_source(self.rows)
        digests = {
            "rows": _digest_source(self.rows),
            "held_out": _digest_source(self.held_out),
        }
        return digest_of_files(digests)


def collect(source: RowSource, data: DataParams, into: Path) -> Collection:
    """Read a source to rows below `into`; what does not parse is set aside with its reason.

    `UnreadableData`, `NoSuchColumn` and `ParameterError` where a file as a whole cannot be used.
    """
    file = _open_source(source, data)
    rows = read_rows_of(file.records, data, str(source.rows))
    quarantine = rows.quarantine
    readings = [rows.describe()]
    notes = list(file.notes)
    held_out = None
    if source.held_out is not None:
        held_out_file = read_records(source.held_out, ReadAs.of(data))
        # Its shape is its own.
        held_out = read_rows_of(held_out_file.records, data, str(source.held_out))
        notes += held_out_file.notes
        quarantine = quarantine + _mark_held_out(held_out.quarantine)
        readings.append(held_out.describe())
        write_rows(into / "held_out.jsonl", held_out.rows)
    write_rows(into / "rows.jsonl", rows.rows)
    write_rows(into / "quarantine.jsonl", quarantine)
    return Collection(
        source=source.name,
        licence=source.licence,
        rows=FileDigest.of(into / "rows.jsonl"),
        quarantine=FileDigest.of(into / "quarantine.jsonl"),
        held_out=FileDigest.of(into / "held_out.jsonl") if held_out else None,
        # Every record that was read, set aside or not: quarantine is a share of them.
        source_rows=sum(reading.records for reading in readings),
        source_sha256=source.sha256(),
        readings=tuple(readings),
        notes=(*notes, *describe_lost_characters(quarantine)),
    )


def find_local_source(data: DataParams, raw: Path = layout.RAW) -> RowSource:
    """Return the one file `rows.*` in `data/raw`, and the one `held_out.*` where there is one.

    `UnreadableData` where there are no rows, or two files of one name.
    """
    rows = find_only(raw, "rows")
    if rows is None:
        raise UnreadableData(
            f"{raw} holds no file of rows. Put it there as rows with any suffix, "
            "such as rows.jsonl, or set data.source to cheat."
        )
    return RowSource(
        kind="file",
        name=f"file {rows.name}",
        licence=data.licence,
        rows=rows,
        held_out=find_only(raw, "held_out"),
    )


def fetch_cheat_source(home: Path) -> RowSource:
    """Return the pinned demo package, downloaded where it is not there yet."""
    return RowSource(
        kind="cheat",
        name=f"PyPI {CHEAT.name}=={CHEAT.version}",
        licence=LICENCE,
        rows=fetch(CHEAT, home),
    )


def main() -> int:
    """Write data/collect: rows, quarantine, collection.json, and a fixed held-out set."""
    data = load_params().data
    source = (
        fetch_cheat_source(Settings().home)
        if data.source == "cheat"
        else find_local_source(data)
    )
    collection = collect(source, data, layout.COLLECT)
    collection.write(layout.COLLECT / "collection.json")
    for line in describe_collection(collection):
        print(line)
    return 0


def describe_collection(collection: Collection) -> list[str]:
    """Lines for people: how many rows there are, how they were read, and what is lost."""
    rows, *held_out = collection.readings
    set_aside = sum(sum(reading.set_aside.values()) for reading in collection.readings)
    summary = (
        f"{collection.source_rows:,} rows from {collection.source}, "
        f"{set_aside:,} of them set aside"
    )
    lines = [summary, *collection.notes, *rows.lines]
    for reading in held_out:
        lines += [f"held-out file: {line}" for line in reading.lines]
    return lines


def _digest_source(path: Path) -> str:
    return digest_of_files(folder_digests(path)) if path.is_dir() else sha256_of(path)


def _open_source(source: RowSource, data: DataParams) -> OpenFile:
    if source.kind == "cheat":
        rows = read_cheat_rows(source.rows)
        return OpenFile(rows, notes=())
    return read_records(source.rows, ReadAs.of(data))


def _mark_held_out(quarantine: Sequence[QuarantinedRow]) -> list[QuarantinedRow]:
    """Say in each reason that the row's number counts in the held-out file."""
    return [
        row.model_copy(update={"reason": f"held-out file: {row.reason}"})
        for row in quarantine
    ]
