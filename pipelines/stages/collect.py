"""Stage `collect`: read the demo's package or a local file.

In: `data/raw/rows.*`, and `held_out.*` beside it for a fixed held-out set; or PyPI's `cheat`.
Out: `data/collect` with rows of one form, a quarantine of what does not fit it, and
`collection.json`, which counts both and names the licence.
Refuses: no file or two, a format that is not known, a file without the named columns.
"""

import math
from collections.abc import Iterable, Sequence
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
from pipelines.rows.cheat import CHEAT, LICENCE, read_cheat_rows
from pipelines.rows.formats import (
    READERS,
    NumberedRecord,
    Record,
    Records,
    parse_json,
    read_records,
)
from pipelines.rows.text import canonicalise, find_problem, make_excerpt
from pipelines.values.dataset import (
    Collection,
    Message,
    QuarantinedRow,
    Row,
    normalise_text,
    text_of,
    write_rows,
)
from pipelines.values.params import DataParams, load_params

ROWS_READ_FOR_COLUMNS = 100
# From here on a float no longer says which whole number was meant.
_EXACT = 2**53


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
            return sha256_of(self.rows)
        digests = {
            "rows": sha256_of(self.rows),
            "held_out": sha256_of(self.held_out),
        }
        return digest_of_files(digests)


class Misfit(ValueError):
    """A record is not a row; the text is the reason."""


def collect(source: RowSource, data: DataParams, into: Path) -> Collection:
    """Read a source to rows below `into`; what does not parse is set aside with its reason.

    `UnreadableData` and `NoSuchColumn` where a file as a whole cannot be used.
    """
    rows, quarantine = sort_records(_read_source(source, data), data)
    held_out, held_out_quarantine = sort_records(
        _read_file(source.held_out, data), data
    )
    write_rows(into / "rows.jsonl", rows)
    write_rows(
        into / "quarantine.jsonl",
        quarantine + _mark_held_out(held_out_quarantine),
    )
    if source.held_out:
        write_rows(into / "held_out.jsonl", held_out)
    # Every record that was read counts, set aside or not: quarantine is a share of them.
    counted = (rows, quarantine, held_out, held_out_quarantine)
    return Collection(
        source=source.name,
        licence=source.licence,
        rows=FileDigest.of(into / "rows.jsonl"),
        quarantine=FileDigest.of(into / "quarantine.jsonl"),
        held_out=FileDigest.of(into / "held_out.jsonl") if source.held_out else None,
        source_rows=sum(len(entries) for entries in counted),
        source_sha256=source.sha256(),
    )


def find_local_source(data: DataParams, raw: Path = layout.RAW) -> RowSource:
    """Return the one file `rows.*` in `data/raw`, and the one `held_out.*` where there is one.

    `UnreadableData` where there are no rows, or two files of one name.
    """
    rows = _find_only(raw, "rows")
    if rows is None:
        names = ", ".join(f"rows{suffix}" for suffix in READERS)
        raise UnreadableData(
            f"{raw} holds no file of rows. "
            f"Put one of {names} there, or set data.source to cheat."
        )
    return RowSource(
        kind="file",
        name=f"file {rows.name}",
        licence=data.licence,
        rows=rows,
        held_out=_find_only(raw, "held_out"),
    )


def fetch_cheat_source(home: Path) -> RowSource:
    """Return the pinned demo package, downloaded where it is not there yet."""
    return RowSource(
        kind="cheat",
        name=f"PyPI {CHEAT.name}=={CHEAT.version}",
        licence=LICENCE,
        rows=fetch(CHEAT, home),
    )


def sort_records(
    records: Iterable[NumberedRecord | QuarantinedRow], data: DataParams
) -> tuple[list[Row], list[QuarantinedRow]]:
    """Return the rows, and what could not become one."""
    rows: list[Row] = []
    quarantine: list[QuarantinedRow] = []
    for entry in records:
        # What the reader could not parse comes already set aside.
        outcome = (
            entry
            if isinstance(entry, QuarantinedRow)
            else make_row_or_quarantine(*entry, data)
        )
        if isinstance(outcome, Row):
            rows.append(outcome)
        else:
            quarantine.append(outcome)
    return rows, quarantine


def make_row_or_quarantine(
    number: int, record: Record, data: DataParams
) -> Row | QuarantinedRow:
    """Return the row that a record makes, or the reason why it makes none."""
    try:
        return make_row(number, record, data)
    except Misfit as misfit:
        return QuarantinedRow(
            number=number,
            id=None,
            reason=str(misfit),
            excerpt=make_excerpt(str(record)),
        )


def make_row(number: int, record: Record, data: DataParams) -> Row:
    """Make a row of a record; `Misfit`, with the reason, where it is none.

    The row's id digests what it holds, so that it is the same in every file and order.
    """
    messages, completion = _read_example(record, data)
    # Without a group every prompt is a group of its own.
    group = _read_group(record, data) or normalise_text(text_of(messages))
    feature = _read_feature(record, data)
    # Neither the number nor the feature: they do not change what is learned.
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
    """Raise `NoSuchColumn` for a file without the columns that the parameters name."""
    required: list[tuple[str | None, str]] = []
    # A conversation holds prompt and completion in one column.
    if data.messages_column not in columns:
        required += [
            (data.prompt_column, "prompt_column"),
            (data.completion_column, "completion_column"),
        ]
    required += [
        (data.group_column, "group_column"),
        (data.sensitive_feature, "sensitive_feature"),
    ]
    for column, parameter in required:
        if column is not None:
            _check_column(path, columns, column, parameter)


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
    quarantine = read_jsonl(layout.COLLECT / "quarantine.jsonl")
    set_aside = sum(1 for _ in quarantine)
    print(
        f"{collection.source_rows:,} rows from {collection.source}, "
        f"{set_aside:,} of them set aside"
    )
    return 0


def _read_source(source: RowSource, data: DataParams) -> Records:
    if source.kind == "cheat":
        return read_cheat_rows(source.rows)
    return _read_file(source.rows, data)


def _read_file(path: Path | None, data: DataParams) -> Records:
    """Yield the records of a file whose first ones have the columns; no path, no records.

    A row without them further on is a row's fault, not the file's.
    """
    if path is None:
        return
    records = read_records(path)
    first_records = list(islice(records, ROWS_READ_FOR_COLUMNS))
    columns: set[str] = set()
    for entry in first_records:
        if not isinstance(entry, QuarantinedRow):
            _, record = entry
            columns.update(record)
    # Where no record can be read, the quarantine explains the file.
    if columns:
        check_columns(path, columns, data)
    yield from chain(first_records, records)


def _check_column(path: Path, columns: set[str], column: str, parameter: str) -> None:
    if column in columns:
        return
    present = ", ".join(sorted(make_excerpt(name) for name in columns))
    raise NoSuchColumn(
        f"{path} has no column {column}; it has {present}. "
        f"Name the right one with `--set data.{parameter}=…`."
    )


def _find_only(raw: Path, stem: str) -> Path | None:
    # A `.dvc` file only describes data; the data itself is beside it.
    files = raw.glob(f"{stem}.*")
    paths = sorted(path for path in files if path.suffix != ".dvc")
    if not paths:
        return None
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise UnreadableData(f"{raw} holds {names}. Leave one of them.")
    return paths[0]


def _mark_held_out(quarantine: Sequence[QuarantinedRow]) -> list[QuarantinedRow]:
    """Say in each reason that the row's number counts in the held-out file."""
    return [
        row.model_copy(update={"reason": f"held-out file: {row.reason}"})
        for row in quarantine
    ]


def _read_example(record: Record, data: DataParams) -> tuple[tuple[Message, ...], str]:
    has_prompt = record.get(data.prompt_column) is not None
    conversation = record.get(data.messages_column)
    # A file may have both columns: each row uses one.
    if conversation is not None and not has_prompt:
        return _read_conversation(conversation, data.messages_column)
    prompt = _read_text(record, data.prompt_column)
    completion = _read_text(record, data.completion_column)
    message = Message(role="user", content=prompt)
    return (message,), completion


def _read_conversation(
    conversation: Any, column: str
) -> tuple[tuple[Message, ...], str]:
    entries = _read_message_list(conversation, column)
    messages = [_read_message(entry, column) for entry in entries]
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise Misfit(
            f"column {column} does not end with an assistant's answer to something"
        )
    answer = messages.pop()
    return tuple(messages), answer.content


def _read_message_list(conversation: Any, column: str) -> list[Any]:
    """Return the list of messages; CSV holds it as JSON text."""
    entries = conversation
    if isinstance(conversation, str):
        try:
            entries = parse_json(conversation)
        except ValueError as error:
            raise Misfit(f"column {column}: {error}") from error
    if not isinstance(entries, list):
        raise Misfit(f"column {column} is not a list of messages")
    return entries


def _read_message(entry: Any, column: str) -> Message:
    fields = entry
    if isinstance(entry, dict):
        # Tools that write conversations give every message every key:
        # one that is null says nothing.
        fields = {key: value for key, value in entry.items() if value is not None}
        if fields.keys() > Message.model_fields.keys():
            raise Misfit(
                f"column {column} holds a message with more than a role and a content, "
                "such as a name, a weight or tool calls"
            )
    try:
        message = Message.model_validate(fields)
    except ValidationError as error:
        raise Misfit(
            f"column {column} holds something that is not a message "
            "with a role and a content"
        ) from error
    return Message(role=message.role, content=_check_text(message.content, column))


def _read_text(record: Record, column: str) -> str:
    if column not in record:
        raise Misfit(f"no column {column}")
    entry = record[column]
    if not isinstance(entry, str):
        raise Misfit(f"column {column} is {_describe_type(entry)}, not text")
    return _check_text(entry, column)


def _read_group(record: Record, data: DataParams) -> str | None:
    # A column that the parameters name has to be filled; one that happens to be called
    # `group` may be empty.
    is_required = data.group_column is not None
    return _read_label(record, data.group_column or "group", is_required=is_required)


def _read_feature(record: Record, data: DataParams) -> str | None:
    if not data.sensitive_feature:
        return None
    return _read_label(record, data.sensitive_feature, is_required=False)


def _read_label(record: Record, column: str, *, is_required: bool) -> str | None:
    label = _restore_whole_number(record.get(column))
    if _is_empty(label):
        if is_required:
            raise Misfit(f"column {column} is empty")
        return None
    if not isinstance(label, str | int | bool):
        raise Misfit(f"column {column} is {_describe_type(label)}, not a label")
    return _check_text(str(label), column).strip()


def _is_empty(label: Any) -> bool:
    if isinstance(label, str):
        return not label.strip()
    return label is None or _is_nan(label)


def _check_text(text: str, column: str) -> str:
    # Refused and not repaired: without its hidden characters it would be another text.
    problem = find_problem(text)
    if problem:
        raise Misfit(f"column {column} holds {problem}")
    return canonicalise(text)


def _describe_type(entry: Any) -> str:
    if _is_nan(entry):
        return "NaN"
    if entry is None:
        return "null"
    return f"of type {type(entry).__name__}"


def _restore_whole_number(label: Any) -> Any:
    """Return 1 for 1.0: pandas stores whole numbers beside nulls as floats.

    Beyond 2**53 a float is no number in particular, and stays what it is.
    """
    if not isinstance(label, float):
        return label
    if label.is_integer() and abs(label) < _EXACT:
        return int(label)
    return label


def _is_nan(entry: Any) -> bool:
    if not isinstance(entry, float):
        return False
    return math.isnan(entry)
