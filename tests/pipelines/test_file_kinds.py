"""What a file is, whatever its name says: packed, columns, folders, and what is no file of rows."""

import gzip
import io
import json
import os
import pickle
import sqlite3
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from core.errors import UnreadableData
from pipelines.rows.files.packed import UNSUSPICIOUS_BYTES
from pipelines.rows.places import find_only
from tests.support.row_files import gzipped, read, workbook

ROWS = [{"prompt": f"p{number}", "completion": "c"} for number in range(1, 601)]
RECORDS = dict(enumerate(ROWS, start=1))
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstd(content: bytes) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd") as packed:
        packed.write(content)
    return bytes(stream.getvalue())


def parquet_bytes() -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


def arrow_bytes(*, is_stream: bool) -> bytes:
    table = pa.Table.from_pylist(ROWS)
    stream = io.BytesIO()
    make = ipc.new_stream if is_stream else ipc.new_file
    with make(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return stream.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "JSON lines": lambda: LINES,
    "a JSON list": lambda: json.dumps(ROWS).encode(),
    "Parquet": parquet_bytes,
    "an Arrow file": lambda: arrow_bytes(is_stream=False),
    "an Arrow stream": lambda: arrow_bytes(is_stream=True),
}


@pytest.mark.parametrize("packing", [None, "gzip", "zstd"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["rows.csv", "rows.PARQUET", "rows"])
def test_a_file_is_what_it_holds_packed_or_not(
    tmp_path: Path, kind: str, packing: str | None, name: str
) -> None:
    content = KINDS[kind]()
    if packing is not None:
        content = gzipped(content) if packing == "gzip" else zstd(content)
    reading = read(tmp_path / name, content)
    assert reading.records == RECORDS
    assert reading.reasons == {}
    unpacked = f", unpacked from {packing}" if packing else ""
    assert reading.notes == (f"{name}: read as {kind}{unpacked}",)


def test_a_workbook_in_gzip_is_read(tmp_path: Path) -> None:
    content = workbook(("Rows", [["prompt", "completion"], ["p", "c"]]))
    reading = read(tmp_path / "rows", gzipped(content))
    assert reading.records == {2: {"prompt": "p", "completion": "c"}}


def test_packed_files_that_were_put_together_are_read_as_one(tmp_path: Path) -> None:
    half = len(LINES) // 2
    for pack in (gzipped, zstd):
        reading = read(tmp_path / "rows", pack(LINES[:half]) + pack(LINES[half:]))
        assert reading.records == RECORDS


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (gzipped(LINES)[:-9], "is a damaged gzip file"),
        (gzipped(LINES)[:200] + b"\0" * 50, "is a damaged gzip file"),
        (zstd(LINES)[:-9], "is a damaged zstd file"),
        (gzipped(gzipped(LINES)), "is packed twice"),
        (gzipped(b"%PDF-1.7"), "is a PDF document"),
    ],
    ids=["cut gzip", "odd gzip", "cut zstd", "gzip in gzip", "PDF in gzip"],
)
def test_a_packed_file_that_does_not_unpack_is_one_line(
    tmp_path: Path, content: bytes, fact: str
) -> None:
    with pytest.raises(UnreadableData, match=fact):
        read(tmp_path / "rows.jsonl", content)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_bomb_is_refused_soon_and_in_little_memory(
    tmp_path: Path, packing: str
) -> None:
    block = b"\0" * (1 << 20)
    blocks = 1 + UNSUSPICIOUS_BYTES // len(block) * 4
    path = tmp_path / "rows.jsonl"
    if packing == "gzip":
        with gzip.open(path, "wb", compresslevel=1) as stream:
            for _ in range(blocks):
                stream.write(block)
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            for _ in range(blocks):
                stream.write(block)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(UnreadableData, match="unpacks to more than 100 times its size"):
        read(path)
    assert time.process_time() - started < 30
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, LINES)
    return stream.getvalue()


def database(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / "x")) as connection, connection:
        connection.execute("create table t (prompt)")
    connection.close()
    return (folder / "x").read_bytes()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("rows.jsonl")
        info.size = len(LINES)
        archive.addfile(info, io.BytesIO(LINES))
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
OTHERS: dict[str, bytes | Callable[[Path], bytes]] = {
    "a PDF document": b"%PDF-1.7\n1 0 obj",
    "a SQLite database": database,
    "an .xls workbook of Excel before 2007": OLE + "Workbook".encode("utf-16-le"),
    "a workbook with a password": OLE + "EncryptedPackage".encode("utf-16-le"),
    "an old Word document": OLE + "WordDocument".encode("utf-16-le"),
    "an .xlsb workbook": zipped("xl/workbook.bin"),
    "a Word document": zipped("word/document.xml"),
    "an OpenDocument file": zipped("mimetype", "content.xml"),
    "a zip archive of rows.jsonl, and": zipped("rows.jsonl"),
    "a zip archive of a, b, c and 1 more": zipped("a", "b", "c", "d"),
    "a zip archive of nothing": zipped(),
    "a damaged zip archive or Excel workbook": b"PK\x03\x04" + bytes(range(256)) * 9,
    "a Python pickle": pickle.dumps(ROWS),
    "a PNG image": b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    "a JPEG image": b"\xff\xd8\xff\xe0" + b"\0" * 50,
    "a GGUF model": b"GGUF\x03\0\0\0" + b"\0" * 50,
    "a safetensors model": (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}',
    "a NumPy array": array(),
    "a tar archive": tarred(),
    "a bzip2 file": b"BZh91AY&SY" + b"\0" * 9,
    "an xz file": b"\xfd7zXZ\0\0\4",
    "XML or HTML": b"<!DOCTYPE html><html><body><table></table></body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    "DVC's description of a file": b"outs:\n- md5: 0123\n  path: rows.jsonl\n",
    "binary data of an unknown kind": b"\x01\x02\x03\x04 x" * 100,
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_file_of_rows_is_named_with_the_next_step(
    tmp_path: Path, what: str
) -> None:
    content = OTHERS[what]
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UnreadableData) as refusal:
        read(path, content(tmp_path) if callable(content) else content)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path} is {what}")
    assert sentence.count("\n") == 0
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.json", "rows"])
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n \r\n"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str, content: bytes) -> None:
    reading = read(tmp_path / name, content)
    assert reading.records == {}
    assert reading.reasons == {}


def test_a_format_that_a_person_names_is_taken_and_a_wrong_one_is_refused(
    tmp_path: Path,
) -> None:
    reading = read(tmp_path / "rows", b'{"prompt"\n1\n', format="csv")
    assert reading.records == {1: {'{"prompt"': "1"}}
    assert read(tmp_path / "rows", b"a,b\n", format="jsonl").reasons
    with pytest.raises(UnreadableData, match=r"is Parquet, and data\.format says csv"):
        read(tmp_path / "rows", parquet_bytes(), format="csv")
    with pytest.raises(UnreadableData, match=r"is text, and data\.format says xlsx"):
        read(tmp_path / "rows", LINES, format="xlsx")


def test_a_cut_arrow_file_is_one_line(tmp_path: Path) -> None:
    for is_stream in (True, False):
        content = arrow_bytes(is_stream=is_stream)
        with pytest.raises(UnreadableData, match="is not a whole Arrow file"):
            read(tmp_path / "rows", content[: len(content) // 2])


def test_arrow_text_that_is_no_utf_8_sets_its_own_row_aside(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"caf\xe9", b"b"]).view(pa.string())
    stream = io.BytesIO()
    table = pa.table({"prompt": texts})
    with ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    reading = read(tmp_path / "rows", stream.getvalue())
    assert list(reading.records) == [1, 3]
    assert reading.reasons == {2: "invalid UTF-8"}


def saved(folder: Path, *splits: str) -> Path:
    table = datasets.Dataset.from_list(ROWS)
    if splits:
        datasets.DatasetDict(dict.fromkeys(splits, table)).save_to_disk(str(folder))
    else:
        table.save_to_disk(str(folder), num_shards=3)
    return folder


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    reading = read(saved(tmp_path / "rows"))
    assert reading.records == RECORDS
    assert reading.notes == ("rows: read as a dataset that was saved",)


def test_one_split_of_a_folder_is_read_and_the_others_are_said(tmp_path: Path) -> None:
    folder = saved(tmp_path / "rows", "train", "test")
    reading = read(folder)
    assert reading.records == RECORDS
    assert reading.notes == (
        "rows: read as the split train of a dataset that was saved",
        "rows: not read: test; set data.dataset_split to read another",
    )
    assert "the split test" in read(folder, split="test").notes[0]
    with pytest.raises(UnreadableData, match=r"has no split dev; it has train, test\."):
        read(folder, split="dev")
    only = saved(tmp_path / "only", "validation")
    assert "the split validation" in read(only).notes[0]
    neither = saved(tmp_path / "neither", "a", "b")
    with pytest.raises(UnreadableData, match=r"data\.dataset_split"):
        read(neither)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("state.json", {"_data_files": [{"filename": "../../secret.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "/etc/passwd"}]}),
        ("state.json", {"_data_files": [7]}),
        ("state.json", [1]),
        ("dataset_dict.json", {"splits": [".."]}),
        ("dataset_dict.json", {"splits": ["../train"]}),
    ],
)
def test_a_forged_folder_leads_nowhere(
    tmp_path: Path, name: str, document: object
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / name).write_text(json.dumps(document))
    with pytest.raises(UnreadableData, match=r"Save the dataset again|Save it again"):
        read(folder)


@pytest.mark.parametrize("name", ["PAR1", "ORCA", "GIF8", "BZhang", "RIFF"])
def test_a_column_may_be_called_as_another_file_begins(
    tmp_path: Path, name: str
) -> None:
    content = f"{name},completion\np,c\n".encode()
    assert read(tmp_path / "rows", content).records == {
        1: {name: "p", "completion": "c"}
    }


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(UnreadableData, match="is no file, but a device or a pipe"):
        read(tmp_path / "rows.csv")
    assert find_only(tmp_path, "rows") is None
