"""What a binary file is, by its first bytes."""

import re
import zipfile
from pathlib import Path
from typing import IO

from core.errors import UnreadableData
from pipelines.rows.text import make_excerpt

PARQUET = "parquet"
WORKBOOK = "xlsx"
ARROW_FILE = "arrow file"
ARROW_STREAM = "arrow stream"

HEAD_BYTES = 1024
_FIELD_ENDS = (b",", b";", b"\t", b"|", b"\r", b"\n", b'"')
_MEANT = {b"PAR1": PARQUET, b"ARROW1": ARROW_FILE, b"\xff\xff\xff\xff": ARROW_STREAM}
_EXPORT = "Export its rows as CSV or JSON lines."
_UNPACK = "Unpack it and bring the file of rows in it."

# Beginnings, what has them, and the next step.
_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF document", "Bring the rows that it was made from."),
    (b"SQLite format 3\0", "a SQLite database", _EXPORT),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", "Bring a file of rows."),
    (b"\xff\xd8\xff", "a JPEG image", "Bring a file of rows."),
    (b"GIF8", "a GIF image", "Bring a file of rows."),
    (b"RIFF", "a sound, a film or a WebP image", "Bring a file of rows."),
    (b"GGUF", "a GGUF model", "Bring a file of rows; a model goes to --base-model."),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"ORC", "an ORC file", "Write it as Parquet."),
    (b"PARE", "an encrypted Parquet file", "Write it without encryption."),
    (b"FEA1", "a Feather file of version 1", "Write it again as Arrow or Parquet."),
    (b"BZh", "a bzip2 file", "Unpack it, or pack it with gzip or zstd."),
    (b"\xfd7zXZ\0", "an xz file", "Unpack it, or pack it with gzip or zstd."),
    (b"\x04\x22\x4d\x18", "an LZ4 file", "Unpack it, or pack it with gzip or zstd."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x7fELF", "a program", "Bring a file of rows."),
    (b"MZ\x90\0", "a program", "Bring a file of rows."),
    (b"{\\rtf", "an RTF document", "Save it as text or CSV."),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95\]}(c\x8c]")
_SAFETENSORS = re.compile(rb".{6}\0\0\{\"", re.DOTALL)
# Of a file in an old Office container, what its table of contents names.
_OLE_PARTS = (
    ("EncryptedPackage", "a workbook with a password", "Save it without a password."),
    ("WordDocument", "an old Word document", "Save it as text or CSV."),
    ("PowerPoint", "an old PowerPoint presentation", "Bring a file of rows."),
)
_OLD_WORKBOOK = (
    "an .xls workbook of Excel before 2007",
    "Save it as .xlsx or CSV.",
)
# Of a zip archive, the name of a member, what has it, and the next step.
_ZIP_PARTS = (
    ("xl/workbook.bin", "an .xlsb workbook", "Save it as .xlsx or CSV."),
    ("word/document.xml", "a Word document", "Save it as text or CSV."),
    ("ppt/presentation.xml", "a PowerPoint presentation", "Bring a file of rows."),
    ("content.xml", "an OpenDocument file", "Save it as .xlsx or CSV."),
    ("Index/Document.iwa", "a Numbers or Pages document", "Save it as .xlsx or CSV."),
)


def recognise_binary(path: Path, stream: IO[bytes]) -> str | None:
    """Return the kind of a binary file that is read, or None for what may be text.

    `UnreadableData` says what a file is that is not read.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    for beginning, kind in _MEANT.items():
        # `PAR1` may be the name of a column.
        if head.startswith(beginning) and head[len(beginning) :][:1] not in _FIELD_ENDS:
            return kind
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _recognise_zip(path, stream)
    _refuse_known(path, stream, head)
    return None


def refuse(path: Path, what: str, next_step: str) -> UnreadableData:
    """Return the error that says what a file is, and what to do instead."""
    return UnreadableData(f"{path} is {what}, and no file of rows. {next_step}")


def _refuse_known(path: Path, stream: IO[bytes], head: bytes) -> None:
    for beginning, what, next_step in _REFUSED:
        # A text may begin with such letters; it holds no zero.
        is_text = beginning.isalnum() and 0 not in head
        if head.startswith(beginning) and not is_text:
            raise refuse(path, what, next_step)
    if head.startswith(_OLE):
        raise refuse(path, *_recognise_ole(stream))
    if head[257:262] == b"ustar":
        raise refuse(path, "a tar archive", _UNPACK)
    if _PICKLE.match(head):
        # Never read: unpickling runs whatever code the file names.
        raise refuse(path, "a Python pickle", _EXPORT)
    if _SAFETENSORS.match(head):
        what = "a safetensors model"
        raise refuse(path, what, "Bring a file of rows.")


def _recognise_ole(stream: IO[bytes]) -> tuple[str, str]:
    # Its table of contents may lie anywhere: names in it are UTF-16.
    content = stream.read(8 << 20)
    for name, what, next_step in _OLE_PARTS:
        if name.encode("utf-16-le") in content:
            return what, next_step
    return _OLD_WORKBOOK


def _recognise_zip(path: Path, stream: IO[bytes]) -> str:
    try:
        names = zipfile.ZipFile(stream).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise refuse(
            path, "a damaged zip archive or Excel workbook", "Save it again."
        ) from error
    finally:
        stream.seek(0)
    # Every Office document is a zip archive: its members tell which.
    if "xl/workbook.xml" in names:
        return WORKBOOK
    for part, what, next_step in _ZIP_PARTS:
        if part in names:
            raise refuse(path, what, next_step)
    shown = ", ".join(make_excerpt(name)[:60] for name in names[:3])
    contents = f" of {shown}" if shown else " of nothing"
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    raise refuse(path, f"a zip archive{contents}{more}", _UNPACK)
