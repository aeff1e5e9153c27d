"""Columns in files: Parquet, Arrow's own files and streams, and folders that `datasets` saved.

The number counts records, from 1, through all files of a folder.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core.errors import UnreadableData
from pipelines.rows.files.records import (
    MAX_ROW_BYTES,
    Entry,
    Records,
    refuse_repeated_columns,
    set_aside,
)
from pipelines.rows.text import make_excerpt

# Few rows at a time: each may have up to MAX_ROW_BYTES.
PARQUET_BATCH = 256
_STATE = "state.json"
_SPLITS = "dataset_dict.json"
# Beside Arrow's own errors: Python decodes the names of columns, and a forged length asks for more
# memory than there is.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, MemoryError)
_PLAIN_NAME = re.compile(r"\w[\w.-]*")


def read_parquet(path: Path, stream: IO[bytes]) -> Records:
    """Yield the records of a Parquet file."""
    from pyarrow import parquet

    def batches() -> Iterator[Any]:
        table = parquet.ParquetFile(stream)
        refuse_repeated_columns(path, table.schema_arrow.names)
        yield from table.iter_batches(batch_size=PARQUET_BATCH)

    yield from _read_batches(path, "Parquet", batches())


def read_arrow_file(path: Path, stream: IO[bytes]) -> Records:
    """Yield the records of an Arrow file, which has its table of contents at its end."""
    from pyarrow import ipc

    def batches() -> Iterator[Any]:
        table = ipc.open_file(stream)
        refuse_repeated_columns(path, table.schema.names)
        for index in range(table.num_record_batches):
            yield table.get_batch(index)

    yield from _read_batches(path, "Arrow", batches())


def read_arrow_stream(path: Path, stream: IO[bytes]) -> Records:
    """Yield the records of an Arrow stream, which `datasets` writes."""
    yield from _read_batches(path, "Arrow", _stream_batches(path, stream))


@dataclass(frozen=True)
class SavedDataset:
    """A folder that `datasets` saved: the files of the split that is read."""

    files: tuple[Path, ...]
    split: str | None
    """None where the folder has no splits."""
    other_splits: tuple[str, ...] = ()


def find_saved_dataset(folder: Path, wanted: str | None) -> SavedDataset:
    """Return what is read of a folder; `UnreadableData` where `datasets` did not save it."""
    splits: tuple[str, ...] = ()
    split = None
    if (folder / _SPLITS).is_file():
        splits = _plain_names(folder / _SPLITS, _read_list(folder / _SPLITS, "splits"))
        split = _choose_split(folder, splits, wanted)
        saved = folder / split
    else:
        saved = folder
    state = saved / _STATE
    if not state.is_file():
        raise UnreadableData(
            f"{folder} is a folder, and `datasets` did not save it. "
            "Name the file of rows in it."
        )
    files = _read_list(state, "_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else 0 for entry in files]
    return SavedDataset(
        files=tuple(saved / name for name in _plain_names(state, names)),
        split=split,
        other_splits=tuple(name for name in splits if name != split),
    )


def read_saved_dataset(folder: Path, saved: SavedDataset) -> Records:
    """Yield the records of every file of a split, in the order in which they were saved."""

    def batches() -> Iterator[Any]:
        for file in saved.files:
            with file.open("rb") as stream:
                batches = _stream_batches(file, stream)
                yield from batches

    yield from _read_batches(folder, "Arrow", batches())


def _stream_batches(path: Path, stream: IO[bytes]) -> Iterator[Any]:
    from pyarrow import ipc

    table = ipc.open_stream(stream)
    refuse_repeated_columns(path, table.schema.names)
    yield from table


def _read_batches(path: Path, kind: str, batches: Iterable[Any]) -> Records:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for index in range(batch.num_rows):
                number += 1
                yield _build_record(number, batch.slice(index, 1))
    except (pa.ArrowException, *_DAMAGE) as error:
        # What the system refuses has a number; what Arrow finds has none.
        if getattr(error, "errno", None) is not None:
            raise
        detail = make_excerpt(str(error))[:80]
        raise UnreadableData(
            f"{path} is not a whole {kind} file ({detail}). Write it again."
        ) from error


def _build_record(number: int, row: Any) -> Entry:
    import pyarrow as pa

    try:
        # A forged file may point outside of itself.
        row.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            return set_aside(number, "invalid UTF-8")
        raise
    columns = {
        name: _decode_dictionary(column)
        for name, column in zip(row.schema.names, row.columns, strict=True)
    }
    size = sum(column.nbytes for column in columns.values())
    if size > MAX_ROW_BYTES:
        return set_aside(number, f"a row of more than {MAX_ROW_BYTES:,} bytes")
    try:
        record = {name: column[0].as_py() for name, column in columns.items()}
    except UnicodeDecodeError:
        return set_aside(number, "invalid UTF-8")
    # A date beyond any calendar, a time zone that nobody knows.
    except (ValueError, ArithmeticError, LookupError) as error:
        detail = make_excerpt(str(error))[:80]
        return set_aside(number, f"a value that cannot be read ({detail})")
    return number, record


def _decode_dictionary(column: Any) -> Any:
    """Return the column with its own values only.

    A dictionary's values are stored beside all its rows: without this, each row would seem
    as large as all of them.
    """
    if hasattr(column, "dictionary_decode"):
        return column.dictionary_decode()
    return column


def _choose_split(folder: Path, splits: tuple[str, ...], wanted: str | None) -> str:
    if wanted in splits:
        return str(wanted)
    if wanted is None and len(splits) == 1:
        return splits[0]
    if wanted is None and "train" in splits:
        return "train"
    what = f"no split {wanted}" if wanted else "no split train"
    raise UnreadableData(
        f"{folder} has {what}; it has {', '.join(splits) or 'none'}. "
        "Name one with `--set data.dataset_split=…`."
    )


def _read_list(path: Path, key: str) -> list[Any]:
    try:
        entries = json.loads(path.read_bytes())[key]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableData(
            f"{path} does not say which files the dataset has. Save it again."
        ) from error
    return entries if isinstance(entries, list) else []


def _plain_names(path: Path, names: list[Any]) -> tuple[str, ...]:
    """Return the names; one that is a path could lead out of the folder."""
    for name in names:
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            raise UnreadableData(
                f"{path} names {make_excerpt(str(name))[:60]!r}, which is no file of its folder. "
                "Save the dataset again."
            )
    return tuple(names)
