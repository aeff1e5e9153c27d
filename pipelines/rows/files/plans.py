"""How a file will be read, by what it holds and by what a person said of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from core.errors import UnreadableData
from pipelines.rows.files import signatures as binary
from pipelines.rows.files import text_kinds as kinds
from pipelines.rows.files.arrow import (
    find_saved_dataset,
    read_arrow_file,
    read_arrow_stream,
    read_parquet,
    read_saved_dataset,
)
from pipelines.rows.files.decoders import UTF8
from pipelines.rows.files.delimited import Delimiter, judge_spaces, read_delimited
from pipelines.rows.files.encodings import (
    Encoding,
    Utf8Stream,
    recognise_encoding,
)
from pipelines.rows.files.json_lists import (
    read_json_list,
    read_json_objects,
    read_wrapped_list,
)
from pipelines.rows.files.lines import read_json_lines
from pipelines.rows.files.read_as import ReadAs
from pipelines.rows.files.records import (
    Records,
)
from pipelines.rows.files.workbook import find_sheet, read_sheet
from pipelines.values.reading import count_of

SAMPLE_BYTES = 1 << 20
Reader = Callable[[IO[bytes]], Records]
_BINARY_FORMATS = {
    "parquet": {binary.PARQUET},
    "arrow": {binary.ARROW_FILE, binary.ARROW_STREAM},
    "xlsx": {binary.WORKBOOK},
}
_COLUMN_READERS = {
    binary.PARQUET: (read_parquet, "Parquet"),
    binary.ARROW_FILE: (read_arrow_file, "an Arrow file"),
    binary.ARROW_STREAM: (read_arrow_stream, "an Arrow stream"),
}
# More of them than in any text, and fewer than in any program.
_SHARE_OF_CONTROLS = 0.05
_TEXT_CONTROLS = b"\t\n\r\f"


@dataclass(frozen=True)
class Plan:
    """How a file will be read."""

    reader: Reader
    what: str
    guesses: tuple[str, ...] = ()
    """Parameters that a guess stands for."""
    remarks: tuple[str, ...] = ()

    def notes(self, path: Path, packing: str | None) -> tuple[str, ...]:
        """Say what was recognised, and what may be told instead."""
        unpacked = f", unpacked from {packing}" if packing else ""
        guessed = ""
        if self.guesses:
            both = "both guessed" if len(self.guesses) > 1 else "which is a guess"
            names = " and ".join(self.guesses)
            guessed = f", {both}: set {names} to say otherwise"
        read = f"{path.name}: read as {self.what}{unpacked}{guessed}"
        return (read, *(f"{path.name}: {remark}" for remark in self.remarks))


def plan_folder(path: Path, how: ReadAs) -> tuple[Plan, Records]:
    """Plan the reading of a folder that `datasets` saved, and give its records."""
    saved = find_saved_dataset(path, how.split)
    what = "a dataset that was saved"
    remarks: tuple[str, ...] = ()
    if saved.split is not None:
        what = f"the split {saved.split} of a dataset that was saved"
    if saved.other_splits:
        others = ", ".join(saved.other_splits)
        remarks = (f"not read: {others}; set data.dataset_split to read another",)
    records = read_saved_dataset(path, saved)
    return Plan(lambda _: records, what, remarks=remarks), records


def plan_file(path: Path, stream: IO[bytes], how: ReadAs) -> Plan:
    """Recognise a file; `UnreadableData` says what it is where it is not read."""
    stream.seek(0)
    kind = binary.recognise_binary(path, stream)
    # A wrong word must not turn a file into rows of nonsense.
    wanted = _BINARY_FORMATS.get(how.format or "")
    is_text_wanted = how.format is not None and wanted is None
    if (kind and is_text_wanted) or (wanted and kind not in wanted):
        raise UnreadableData(
            f"{path} is {_name_of(kind)}, and data.format says {how.format}. "
            "Set data.format to null, and it is recognised."
        )
    if kind == binary.WORKBOOK:
        return _plan_workbook(path, stream, how)
    if kind is not None:
        read, what = _COLUMN_READERS[kind]
        return Plan(lambda stream: read(path, stream), what)
    return _plan_text(path, stream, how)


def _name_of(kind: str | None) -> str:
    if kind is None:
        return "text"
    if kind == binary.WORKBOOK:
        return "a workbook"
    return _COLUMN_READERS[kind][1]


def _plan_workbook(path: Path, stream: IO[bytes], how: ReadAs) -> Plan:
    sheet = find_sheet(path, stream, how.sheet)
    remarks = []
    if sheet.others:
        others = ", ".join(sheet.others)
        remarks.append(f"not read: the sheets {others}; set data.sheet to read another")
    if sheet.has_merged_cells:
        remarks.append("merged cells: only the first of an area holds its value")
    what = "an Excel workbook without cells"
    if sheet.title:
        what = f"the sheet {sheet.title} of an Excel workbook"
    return Plan(
        lambda stream: read_sheet(path, stream, sheet),
        what,
        remarks=tuple(remarks),
    )


def _plan_text(path: Path, stream: IO[bytes], how: ReadAs) -> Plan:
    encoding = recognise_encoding(path, stream, how.encoding)
    sample = _read_sample(Utf8Stream(stream, encoding))
    beginning = sample.content.lstrip()[:1]
    # In JSON a control character is the fault of its row.
    if beginning not in {b"{", b"["}:
        _refuse_noise(path, sample)
    if not beginning:
        return Plan(lambda _: iter(()), "text without rows")
    kind = _recognise_kind(path, sample, how)
    if how.delimiter:
        given = Delimiter(how.delimiter, is_certain=True)
        kind = replace(kind, delimiter=given)
    if kind.name == kinds.DELIMITED:
        delimiter = judge_spaces(
            sample.text,
            kind.delimiter,
            is_whole=sample.is_whole,
        )
        kind = replace(kind, delimiter=delimiter)
    reader = _text_reader(path, encoding, kind)
    guesses = []
    if kind.name == kinds.DELIMITED and not kind.delimiter.is_certain:
        guesses.append("data.delimiter")
    if encoding.is_guessed:
        guesses.append("data.encoding")
    return Plan(
        reader,
        _describe_text(kind, encoding),
        tuple(guesses),
        _remarks_on_text(kind, encoding),
    )


def _recognise_kind(path: Path, sample: kinds.Sample, how: ReadAs) -> kinds.TextKind:
    if how.format == "jsonl":
        return kinds.TextKind(kinds.JSON_LINES)
    if how.format == "json":
        return kinds.recognise_json(path, sample)
    if how.format == "csv":
        return kinds.recognise_delimited(path, sample, is_named=True)
    # It may be meant for the held-out set: JSON has none.
    if how.delimiter is not None:
        text = sample.text.lstrip()
        if not text.startswith(("{", "[")):
            return kinds.recognise_delimited(path, sample, is_named=True)
    return kinds.recognise_text(path, sample)


def _text_reader(path: Path, encoding: Encoding, kind: kinds.TextKind) -> Reader:
    # Once more from its beginning: the sample was read of the same stream.
    def read(stream: IO[bytes]) -> Records:
        text = Utf8Stream(stream, encoding)
        if kind.name == kinds.JSON_LINES:
            return read_json_lines(text)
        if kind.name == kinds.JSON_LIST:
            return read_json_list(path, text)
        if kind.name == kinds.WRAPPED_LIST:
            return read_wrapped_list(path, text, kind.key)
        if kind.name == kinds.JSON_OBJECTS:
            return read_json_objects(path, text)
        return read_delimited(path, text, kind.delimiter)

    return read


def _describe_text(kind: kinds.TextKind, encoding: Encoding) -> str:
    what = kind.name
    if kind.name == kinds.DELIMITED:
        what = f"CSV with {kind.delimiter.name}"
    if kind.name == kinds.WRAPPED_LIST:
        what = f"the JSON list under {kind.key}"
    is_usual = encoding.codec == UTF8
    return what if is_usual else f"{what} in {encoding.name}"


def _remarks_on_text(kind: kinds.TextKind, encoding: Encoding) -> tuple[str, ...]:
    remarks = []
    if kind.name == kinds.WRAPPED_LIST:
        remarks.append(f"what stands beside the list under {kind.key} is not read")
    if kind.delimiter.others:
        others = " and ".join(kind.delimiter.others)
        remarks.append(f"{others} would fit as well")
    if kind.delimiter.skips_spaces:
        remarks.append(
            "quotes behind a space are read as quotes, and the space is left out"
        )
    if encoding.examples:
        words = ", ".join(encoding.examples)
        lines = count_of(encoding.other_lines, "line")
        remarks.append(
            f"{lines} beyond ASCII, read by that guess with words such as {words}; "
            "wrong words are a wrong encoding"
        )
    if encoding.is_mixed:
        remarks.append(_describe_mixture(encoding))
    return tuple(remarks)


def _describe_mixture(encoding: Encoding) -> str:
    lines = encoding.utf8_lines + encoding.other_lines
    mixture = (
        "some lines are UTF-8 and some are not, as where files of two encodings were put "
        f"together: {encoding.utf8_lines:,} of {lines:,} lines beyond ASCII are UTF-8"
    )
    if encoding.codec == UTF8:
        return f"{mixture}, and the others are set aside"
    if encoding.is_read_by_lines:
        return f"{mixture} and read as such, the others as {encoding.name}"
    return f"{mixture}, and all are read as {encoding.name}"


def _read_sample(text: Utf8Stream) -> kinds.Sample:
    content = b""
    while len(content) < SAMPLE_BYTES:
        chunk = text.read(SAMPLE_BYTES)
        if not chunk:
            return kinds.Sample(content, is_whole=True)
        content += chunk
    return kinds.Sample(content, is_whole=False)


def _refuse_noise(path: Path, sample: kinds.Sample) -> None:
    head = sample.content[: 1 << 16]
    unusual = [code for code in range(32) if code not in _TEXT_CONTROLS]
    controls = sum(head.count(code) for code in unusual)
    if controls > _SHARE_OF_CONTROLS * len(head):
        raise binary.refuse(
            path, "binary data of an unknown kind", "Export rows as CSV or JSON lines."
        )
