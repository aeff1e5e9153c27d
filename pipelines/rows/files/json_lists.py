"""JSON that is no line a record: a list, a list in an object, or objects one after the other.

The number counts records, from 1.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from core.errors import UnreadableData
from pipelines.rows.files.encodings import BadBytes, Utf8Stream
from pipelines.rows.files.json_cutter import (
    BrokenJson,
    Marks,
    cut_list,
    cut_objects,
    enter_list,
    find_lists,
    find_marks,
)
from pipelines.rows.files.records import (
    MAX_ROW_BYTES,
    Entry,
    Records,
    parse_record,
    set_aside,
)


def read_json_list(path: Path, text: Utf8Stream) -> Records:
    """Yield the elements of the list that the file is."""
    marks = find_marks(text.read)
    # The bracket that opens the list: `text_kinds` saw it.
    next(mark for _, mark in marks if mark)
    elements = _list_and_nothing_more(marks)
    yield from _number(path, text, elements)


def read_wrapped_list(path: Path, text: Utf8Stream, key: str) -> Records:
    """Yield the elements of the list under `key` in the object that the file is."""
    marks = find_marks(text.read)
    elements = _list_under(path, marks, key)
    yield from _number(path, text, elements)


def read_json_objects(path: Path, text: Utf8Stream) -> Records:
    """Yield the objects that stand in the file one after the other."""
    marks = find_marks(text.read)
    objects = cut_objects(marks)
    yield from _number(path, text, objects)


def _list_and_nothing_more(marks: Marks) -> Iterator[bytes | None]:
    yield from cut_list(marks)
    for text, mark in marks:
        if mark or text.strip():
            raise BrokenJson("the file goes on after its list")


def _list_under(path: Path, marks: Marks, key: str) -> Iterator[bytes | None]:
    enter_list(marks, key)
    yield from cut_list(marks)
    for other, holds_objects in find_lists(marks, depth=1):
        if holds_objects:
            raise UnreadableData(
                f"{path} holds two lists of records, under {key} and {other}. "
                "Write the one that is meant into a file of its own."
            )


def _number(
    path: Path, text: Utf8Stream, elements: Iterable[bytes | None]
) -> Iterator[Entry]:
    number = 0
    try:
        for element in elements:
            number += 1
            yield _parse(number, element, text)
    except BrokenJson as error:
        # How many rows are lost is not known, so that the file as a whole is refused.
        raise UnreadableData(
            f"{path} is not whole JSON: after record {number}, {error}. "
            "Repair it, or write one object a line."
        ) from error


def _parse(number: int, element: bytes | None, text: Utf8Stream) -> Entry:
    if element is None:
        return set_aside(number, f"a record of more than {MAX_ROW_BYTES:,} bytes")
    try:
        return parse_record(number, text.decode(element))
    except BadBytes as error:
        return set_aside(number, str(error), element.decode("utf-8", "replace"))
