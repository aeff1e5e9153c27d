"""A journal of JSON lines as a table, and tables as Parquet; all that knows pyarrow.

Lines are parsed by Arrow itself: to make a table of Python's values it would import pandas, which
takes seconds of the processor from a starting endpoint.
"""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.errors import ServingError
from core.extras import describe_missing
from serving.observing.records import SCHEMA_VERSION, Kind

# Bytes that are parsed at once: a whole journal, since no line may lie in two blocks.
_BLOCK = 256_000_000
_LINE_END = b"}\n"


def require_pyarrow() -> None:
    """Return only if Parquet can be written here; `ServingError` with the extra that brings it."""
    try:
        import pyarrow.json
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ServingError(str(describe_missing(error))) from error


def read_journal(path: Path, columns: Mapping[str, Kind]) -> Any:
    """The rows of a journal as a `pyarrow.Table`; None where it has none.

    The last line of a process that was killed may be half of one: that is left out.
    """
    import pyarrow as pa

    with path.open("rb") as file:
        lines = [line for line in file if line.endswith(_LINE_END)]
    schema = _schema_of(columns)
    try:
        return _parse(lines, schema)
    except pa.ArrowInvalid:
        # A full disk cuts a line, and the next row goes on in it: one such line must not keep
        # all others from being read for ever.
        readable = [line for line in lines if _is_row(line, schema)]
        return _parse(readable, schema)


def _parse(lines: list[bytes], schema: Any) -> Any:
    import pyarrow.json as pj

    if not lines:
        return None
    parsing = pj.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="ignore"
    )
    reading = pj.ReadOptions(block_size=_BLOCK, use_threads=False)
    content = io.BytesIO(b"".join(lines))
    table = pj.read_json(content, read_options=reading, parse_options=parsing)
    # Also gives the table the version of its columns.
    return table.cast(schema)


def _is_row(line: bytes, schema: Any) -> bool:
    import pyarrow as pa

    try:
        return _parse([line], schema) is not None
    except pa.ArrowInvalid:
        return False


def write_parquet(path: Path, table: Any) -> None:
    """Write a `pyarrow.Table` with mode 0600, whole or not at all."""
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            pq.write_table(table, file, compression="zstd")
            # The journal is deleted after this: what replaces it has to be on the disk.
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_parquet(paths: Iterable[Path], columns: Mapping[str, Kind]) -> list[Any]:
    """A `pyarrow.Table` of each file, with exactly these columns."""
    import pyarrow.parquet as pq

    schema = _schema_of(columns)
    tables = [pq.ParquetFile(path).read() for path in paths]
    return [_with_columns(table, schema) for table in tables]


def _with_columns(table: Any, schema: Any) -> Any:
    """The table with the columns of a schema; one that it is too old for holds nothing."""
    import pyarrow as pa

    for field in schema:
        if field.name not in table.column_names:
            empty = pa.nulls(table.num_rows, field.type)
            table = table.append_column(field, empty)
    return table.select(schema.names).cast(schema)


def joined(tables: list[Any], columns: Mapping[str, Kind]) -> Any:
    """One `pyarrow.Table`, which may have no rows."""
    import pyarrow as pa

    return pa.concat_tables(tables) if tables else _schema_of(columns).empty_table()


def _schema_of(columns: Mapping[str, Kind]) -> Any:
    import pyarrow as pa

    types = {
        "time": pa.timestamp("us", tz="UTC"),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
    }
    fields = [(name, types[kind]) for name, kind in columns.items()]
    metadata = {"assay.schema": SCHEMA_VERSION}
    return pa.schema(fields, metadata=metadata)
