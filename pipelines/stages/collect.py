"""Stage `collect`: the demo's package or a local file, to rows of one form and a quarantine of what does not fit it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from core.download import fetch
from core.errors import NoSuchColumn, UnreadableData
from core.files import digest_of_files, digest_of_json, read_jsonl, sha256_of
from core.settings import Settings
from core.value import FileDigest, Value
from pipelines import layout
from pipelines.rows.cheat import CHEAT, LICENCE, cheat_rows
from pipelines.rows.formats import READERS, Record, parse_json, read_records
from pipelines.rows.text import canonical, excerpt, problem_in
from pipelines.values.dataset import (
    Collection,
    Message,
    QuarantinedRow,
    Row,
    normalised,
    text_of,
    write_rows,
)
from pipelines.values.params import DataParams, load_params

OUT = layout.COLLECT
RAW = layout.RAW
LOOKED_AT_FOR_COLUMNS = 100
_EXACT = 2**53


class Source(Value):
    """Where rows come from, and the licence under which."""

    kind: Literal["cheat", "file"]
    name: str
    licence: str | None
    rows: Path
    held_out: Path | None = None

    def sha256(self) -> str:
        """Of the file, or of both where a fixed held-out set came with it."""
        if self.held_out is None:
            return sha256_of(self.rows)
        return digest_of_files(
            {"rows": sha256_of(self.rows), "held_out": sha256_of(self.held_out)}
        )


class Misfit(ValueError):
    """A record is not a row; the text is the reason."""


def collect(source: Source, data: DataParams, into: Path) -> Collection:
    """Read a source to rows below `into`; what does not parse is set aside with its number and reason."""
    rows, quarantine = sorted_out(_records(source, data), data)
    held_out, also = sorted_out(_named(source.held_out, data), data)
    write_rows(into / "rows.jsonl", rows)
    write_rows(into / "quarantine.jsonl", quarantine + _told_apart(also))
    if source.held_out:
        write_rows(into / "held_out.jsonl", held_out)
    return Collection(
        source=source.name,
        licence=source.licence,
        rows=FileDigest.of(into / "rows.jsonl"),
        quarantine=FileDigest.of(into / "quarantine.jsonl"),
        held_out=FileDigest.of(into / "held_out.jsonl") if source.held_out else None,
        source_rows=len(rows) + len(quarantine) + len(held_out) + len(also),
        source_sha256=source.sha256(),
    )


def local_source(data: DataParams, raw: Path = RAW) -> Source:
    """The one file `rows.*` in `data/raw`, and the one `held_out.*` where there is one."""
    rows = _only(raw, "rows")
    if rows is None:
        known = ", ".join(f"rows{suffix}" for suffix in READERS)
        raise UnreadableData(
            f"{raw} holds no file of rows. Put one of {known} there, or set data.source to cheat."
        )
    return Source(
        kind="file",
        name=f"file {rows.name}",
        licence=data.licence,
        rows=rows,
        held_out=_only(raw, "held_out"),
    )


def cheat_source(home: Path) -> Source:
    """The pinned demo package, downloaded where it is not there yet."""
    return Source(
        kind="cheat",
        name=f"PyPI {CHEAT.name}=={CHEAT.version}",
        licence=LICENCE,
        rows=fetch(CHEAT, home),
    )


def sorted_out(
    records: Iterable[tuple[int, Record] | QuarantinedRow], data: DataParams
) -> tuple[list[Row], list[QuarantinedRow]]:
    """Rows, and what could not become one."""
    rows: list[Row] = []
    quarantine: list[QuarantinedRow] = []
    for entry in records:
        found = (
            entry if isinstance(entry, QuarantinedRow) else row_or_reason(*entry, data)
        )
        if isinstance(found, Row):
            rows.append(found)
        else:
            quarantine.append(found)
    return rows, quarantine


def row_or_reason(
    number: int, record: Record, data: DataParams
) -> Row | QuarantinedRow:
    """The row that a record makes, or the reason why it makes none."""
    try:
        return row_of(number, record, data)
    except Misfit as misfit:
        return QuarantinedRow(
            number=number, id=None, reason=str(misfit), excerpt=excerpt(str(record))
        )


def row_of(number: int, record: Record, data: DataParams) -> Row:
    """Make a row; its id says what it holds, so that it is the same in every file and order."""
    messages, completion = _example(record, data)
    group = _label(
        record, data.group_column or "group", must=data.group_column is not None
    ) or normalised(text_of(messages))
    feature = (
        _label(record, data.sensitive_feature, must=False)
        if data.sensitive_feature
        else None
    )
    content = {
        "messages": [message.model_dump() for message in messages],
        "completion": completion,
        "group": group,
    }
    row_id = digest_of_json(content)[:16]
    return Row(
        id=row_id,
        number=number,
        messages=messages,
        completion=completion,
        group=group,
        feature=feature,
    )


def check_columns(path: Path, columns: set[str], data: DataParams) -> None:
    """Refuse a file that has none of the columns that the parameters name."""
    if data.messages_column not in columns:
        for column, parameter in (
            (data.prompt_column, "prompt_column"),
            (data.completion_column, "completion_column"),
        ):
            _must_have(path, columns, column, parameter)
    for optional, parameter in (
        (data.group_column, "group_column"),
        (data.sensitive_feature, "sensitive_feature"),
    ):
        if optional is not None:
            _must_have(path, columns, optional, parameter)


def main() -> int:
    """Write data/collect: rows.jsonl, quarantine.jsonl, collection.json, and held_out.jsonl with a fixed set."""
    data = load_params().data
    source = (
        cheat_source(Settings().home) if data.source == "cheat" else local_source(data)
    )
    collection = collect(source, data, OUT)
    collection.write(OUT / "collection.json")
    aside = sum(1 for _ in read_jsonl(OUT / "quarantine.jsonl"))
    print(
        f"{collection.source_rows:,} rows from {collection.source}, {aside:,} of them set aside"
    )
    return 0


def _records(
    source: Source, data: DataParams
) -> Iterator[tuple[int, Record] | QuarantinedRow]:
    return (
        cheat_rows(source.rows) if source.kind == "cheat" else _named(source.rows, data)
    )


def _named(
    path: Path | None, data: DataParams
) -> Iterator[tuple[int, Record] | QuarantinedRow]:
    """Records of a file whose first ones have the columns: a row without them further on is a row's fault."""
    if path is None:
        return
    records = read_records(path)
    first = list(islice(records, LOOKED_AT_FOR_COLUMNS))
    columns = {
        name
        for entry in first
        if not isinstance(entry, QuarantinedRow)
        for name in entry[1]
    }
    if columns:
        check_columns(path, columns, data)
    yield from chain(first, records)


def _must_have(path: Path, columns: set[str], column: str, parameter: str) -> None:
    if column not in columns:
        there = ", ".join(sorted(excerpt(name) for name in columns))
        raise NoSuchColumn(
            f"{path} has no column {column}; it has {there}. Name the right one with `--set data.{parameter}=…`."
        )


def _only(raw: Path, stem: str) -> Path | None:
    found = sorted(
        path for path in raw.glob(f"{stem}.*") if not path.name.endswith(".dvc")
    )
    if len(found) > 1:
        raise UnreadableData(
            f"{raw} holds {' and '.join(path.name for path in found)}. Leave one of them."
        )
    return found[0] if found else None


def _told_apart(held_out: Sequence[QuarantinedRow]) -> list[QuarantinedRow]:
    return [
        row.model_copy(update={"reason": f"held-out file: {row.reason}"})
        for row in held_out
    ]


def _example(record: Record, data: DataParams) -> tuple[tuple[Message, ...], str]:
    if (
        record.get(data.prompt_column) is None
        and record.get(data.messages_column) is not None
    ):
        return _conversation(record[data.messages_column], data.messages_column)
    prompt = Message(role="user", content=_text(record, data.prompt_column))
    return (prompt,), _text(record, data.completion_column)


def _conversation(turns: Any, column: str) -> tuple[tuple[Message, ...], str]:
    messages = tuple(_turn(turn, column) for turn in _turns(turns, column))
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise Misfit(
            f"column {column} does not end with an assistant's answer to something"
        )
    return messages[:-1], messages[-1].content


def _turns(turns: Any, column: str) -> list[Any]:
    try:
        parsed = parse_json(turns) if isinstance(turns, str) else turns
    except ValueError as error:
        raise Misfit(f"column {column}: {error}") from error
    if not isinstance(parsed, list):
        raise Misfit(f"column {column} is not a list of messages")
    return parsed


def _turn(turn: Any, column: str) -> Message:
    # Tools that write conversations give every turn every key: one that is null says nothing.
    said = (
        {key: entry for key, entry in turn.items() if entry is not None}
        if isinstance(turn, dict)
        else turn
    )
    if isinstance(said, dict) and said.keys() > Message.model_fields.keys():
        raise Misfit(
            f"column {column} holds a message with more than a role and a content, such as a name, a weight or tool calls"
        )
    try:
        message = Message.model_validate(said)
    except ValidationError as error:
        raise Misfit(
            f"column {column} holds something that is not a message with a role and a content"
        ) from error
    return Message(role=message.role, content=_fit(message.content, column))


def _text(record: Record, column: str) -> str:
    if column not in record:
        raise Misfit(f"no column {column}")
    if not isinstance(record[column], str):
        raise Misfit(f"column {column} is {_kind(record[column])}, not text")
    return _fit(record[column], column)


def _label(record: Record, column: str, *, must: bool) -> str | None:
    label = _whole(record.get(column))
    if (
        label is None
        or (isinstance(label, str) and not label.strip())
        or _is_nan(label)
    ):
        if must:
            raise Misfit(f"column {column} is empty")
        return None
    if not isinstance(label, str | int | bool):
        raise Misfit(f"column {column} is {_kind(label)}, not a label")
    return _fit(str(label), column).strip()


def _fit(text: str, column: str) -> str:
    problem = problem_in(text)
    if problem:
        raise Misfit(f"column {column} holds {problem}")
    return canonical(text)


def _kind(entry: Any) -> str:
    if _is_nan(entry):
        return "NaN"
    return "null" if entry is None else f"of type {type(entry).__name__}"


def _whole(label: Any) -> Any:
    """Pandas keeps whole numbers beside nulls as floats: 1.0 is the label 1. Beyond 2**53 a float is no number in particular."""
    return (
        int(label)
        if isinstance(label, float) and label.is_integer() and abs(label) < _EXACT
        else label
    )


def _is_nan(entry: Any) -> bool:
    return isinstance(entry, float) and math.isnan(entry)
