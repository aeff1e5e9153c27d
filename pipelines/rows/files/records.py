"""What every reader gives: a numbered record, or the row that was set aside in its place."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UnreadableData
from pipelines.rows.text import make_excerpt
from pipelines.values.dataset import QuarantinedRow

MAX_ROW_BYTES = 1_000_000
MAX_DEPTH = 50
JSON_MARK = re.compile(r'\\.|["\[\]{}]')

Record = dict[str, Any]
NumberedRecord = tuple[int, Record]
Entry = NumberedRecord | QuarantinedRow
Records = Iterator[Entry]


@dataclass(frozen=True)
class UnreadableValue:
    """Stands in a record for a value that the file does not hold."""

    reason: str

    def __str__(self) -> str:
        return self.reason


def set_aside(number: int, reason: str, text: str = "") -> QuarantinedRow:
    """Return the row that stands in the place of a record that cannot be read."""
    return QuarantinedRow(
        number=number,
        id=None,
        reason=reason,
        excerpt=make_excerpt(text),
    )


def name_unnamed(place: object) -> str:
    """Return what a column is called that the file gives no name, such as pandas' index."""
    return f"column {place} without a name"


def refuse_repeated_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise `UnreadableData` for a file that names a column twice."""
    counts = Counter(columns)
    repeated = sorted(name for name, times in counts.items() if times > 1)
    if repeated:
        names = ", ".join(repr(make_excerpt(name)) for name in repeated)
        raise UnreadableData(
            f"{path} has more than one column named {names}. Rename or remove one."
        )


def parse_record(number: int, text: str) -> Entry:
    """Parse one JSON object, or set it aside with its reason."""
    try:
        record = parse_json(text)
    except ValueError as error:
        return set_aside(number, str(error), text)
    if not isinstance(record, dict):
        reason = f"not a JSON object but {_name_json_type(record)}"
        return set_aside(number, reason, text)
    return number, record


def parse_json(text: str) -> Any:
    """Parse JSON of bounded depth, without NaN and without repeated keys.

    Anything else is a `ValueError` whose text is the reason for quarantine.
    """
    # Counting brackets is fast and an upper bound: only then is the depth measured.
    brackets = text.count("[") + text.count("{")
    if brackets > MAX_DEPTH and _measure_depth(text) > MAX_DEPTH:
        raise ValueError(f"JSON nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            object_pairs_hook=_build_object,
        )
    except json.JSONDecodeError as error:
        place = error.pos + 1
        raise ValueError(f"not JSON ({error.msg} at character {place})") from error


def _measure_depth(text: str) -> int:
    """Count how deep lists and objects are nested, without recursion."""
    depth = deepest = 0
    is_inside_string = False
    # The pattern takes a backslash with what it escapes, so that \" ends no string.
    for mark in JSON_MARK.findall(text):
        if mark == '"':
            is_inside_string = not is_inside_string
        elif not is_inside_string and mark in "[]{}":
            depth += 1 if mark in "[{" else -1
            deepest = max(deepest, depth)
    return deepest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _build_object(pairs: list[tuple[str, Any]]) -> Record:
    """Build a JSON object; a repeated key is a `ValueError`, where json keeps its last value."""
    document = dict(pairs)
    if len(document) < len(pairs):
        # Counted in one pass: a row may have a hundred thousand keys.
        counts = Counter(name for name, _ in pairs)
        repeated = next(name for name in counts if counts[name] > 1)
        shown = make_excerpt(repeated)
        raise ValueError(f"the key {shown} twice in one object")
    return document


def _name_json_type(document: Any) -> str:
    names = {
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(document), "a number")
