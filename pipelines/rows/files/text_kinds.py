"""What a text holds: which JSON, which CSV, or nothing that has rows."""

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from core.errors import UnreadableData
from pipelines.rows.files.delimited import Delimiter, judge_delimiter
from pipelines.rows.files.json_cutter import (
    BrokenJson,
    cut_objects,
    find_lists,
    find_marks,
)
from pipelines.rows.files.records import parse_json
from pipelines.rows.files.signatures import refuse
from pipelines.rows.text import make_excerpt

JSON_LINES = "JSON lines"
JSON_LIST = "a JSON list"
WRAPPED_LIST = "a JSON list in an object"
JSON_OBJECTS = "JSON objects one after the other"
DELIMITED = "CSV"

# Under these keys programs put the list of records that they write.
WRAPPERS = ("data", "rows", "records", "examples", "items", "instances", "samples")
_COLUMNS_OF_A_RECORD = ({"prompt", "completion"}, {"instruction", "output"})
_UNFINISHED = ("{", "[", ",", ":", "}")
_COMMA = Delimiter(",", is_certain=True)
_NAME_OF_COLUMN = re.compile(r"[\w.-]{1,100}")
_POINTERS = (
    ("version https://git-lfs", "a pointer of Git LFS", "Fetch it: `git lfs pull`."),
    ("outs:\n- md5:", "DVC's description of a file", "Bring the file itself."),
)
_MARKUP = re.compile(r"<(\?xml|!doctype|html|table|[a-z]+[\s>])", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """The beginning of a text."""

    content: bytes
    """UTF-8."""
    is_whole: bool

    @property
    def text(self) -> str:
        """The sample with a surrogate for each byte that is not UTF-8."""
        return self.content.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class TextKind:
    """What a text was taken for."""

    name: str
    key: str = ""
    """Of the list in an object."""
    delimiter: Delimiter = _COMMA


def recognise_text(path: Path, sample: Sample) -> TextKind:
    """Judge a text by its beginning; `UnreadableData` says what it is where it has no rows."""
    text = sample.text.lstrip()
    if text.startswith("{"):
        return _recognise_objects(path, sample, text)
    if text.startswith("["):
        return _recognise_list(text)
    for beginning, what, next_step in _POINTERS:
        if text.startswith(beginning):
            raise refuse(path, what, next_step)
    if _MARKUP.match(text):
        raise refuse(path, "XML or HTML", "Export its rows as CSV or JSON lines.")
    return recognise_delimited(path, sample)


def recognise_delimited(
    path: Path, sample: Sample, *, is_named: bool = False
) -> TextKind:
    """Judge the delimiter; `is_named` says that a person called the file CSV."""
    delimiter = judge_delimiter(sample.text, is_whole=sample.is_whole)
    if delimiter is not None:
        return TextKind(DELIMITED, delimiter=delimiter)
    header = _first_line(sample.text.lstrip())
    if is_named or _NAME_OF_COLUMN.fullmatch(header.strip().strip('"')):
        return TextKind(DELIMITED)
    raise UnreadableData(
        f"{path} is text without columns; its first line is "
        f"{make_excerpt(header)[:60]!r}. Write the names of the columns there, "
        "or one JSON object a line."
    )


def recognise_json(path: Path, sample: Sample) -> TextKind:
    """Judge a text that a person called JSON."""
    text = sample.text.lstrip()
    if text.startswith("{"):
        return _recognise_objects(path, sample, text)
    if text.startswith("["):
        return _recognise_list(text)
    raise UnreadableData(
        f"{path} begins with neither a list nor an object. "
        "Leave data.format null, and it is recognised."
    )


def _recognise_list(text: str) -> TextKind:
    first = _first_line(text)
    rest = text[len(first) :].lstrip()
    # Lists in lines: no row, but each has its number and its reason.
    if rest.startswith(("[", "{")) and _parses(first):
        return TextKind(JSON_LINES)
    return TextKind(JSON_LIST)


def _recognise_objects(path: Path, sample: Sample, text: str) -> TextKind:
    first = _first_line(text)
    has_more = bool(text[len(first) :].strip())
    if has_more and _is_line_of_json(first):
        return TextKind(JSON_LINES)
    document = _first_document(sample)
    if document is not None and not _parses(document.decode("utf-8", "replace")):
        return TextKind(JSON_LINES)
    # What follows the first object; an object longer than the sample has nothing behind it.
    rest = b"" if document is None else sample.content.lstrip()[len(document) :].strip()
    is_list_beside = bool(rest) or _is_record(document)
    key = None if is_list_beside else _key_of_records(sample)
    if key in WRAPPERS:
        return TextKind(WRAPPED_LIST, key=str(key))
    if _parses(first):
        return TextKind(JSON_LINES)
    if key is not None:
        raise UnreadableData(
            f"{path} is one JSON object with records under {make_excerpt(key)}. "
            "Write them one a line, or as a list."
        )
    # Anything else behind an object is a broken line, and no other object.
    is_object_next = not rest or rest.startswith((b"{", b","))
    has_objects = document is not None and is_object_next
    return TextKind(JSON_OBJECTS if has_objects else JSON_LINES)


def _is_record(document: bytes | None) -> bool:
    """Whether an object is a record itself, whatever list of objects it holds beside."""
    if document is None:
        return False
    # It parsed before.
    keys = set(parse_json(document.decode("utf-8", "replace")))
    return any(columns <= keys for columns in _COLUMNS_OF_A_RECORD)


def _is_line_of_json(line: str) -> bool:
    """Whether a line is an object, or a broken one, and no beginning of one."""
    if _parses(line):
        return True
    # What ends so goes on in the next line.
    goes_on = line.rstrip().endswith(_UNFINISHED)
    return not goes_on


def _first_document(sample: Sample) -> bytes | None:
    try:
        return next(cut_objects(find_marks(BytesIO(sample.content).read)), None)
    except BrokenJson:
        return None


def _key_of_records(sample: Sample) -> str | None:
    """Return the key of an object's first list of objects."""
    lists = find_lists(find_marks(BytesIO(sample.content).read))
    try:
        return next((key for key, holds_objects in lists if holds_objects), None)
    except BrokenJson:
        # The sample ends within the object.
        return None


def _first_line(text: str) -> str:
    ends = re.search(r"[\r\n]", text)
    if ends is None:
        return text
    return text[: ends.start()]


def _parses(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True
