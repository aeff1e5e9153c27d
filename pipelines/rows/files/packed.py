"""Files that gzip or zstd packed: unpacked into a temporary file, with a bound against bombs."""

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from core.errors import UnreadableData, first_line

CHUNK = 1 << 20
# Texts shrink to a tenth, and rows that repeat each other to a fiftieth.
MAX_RATIO = 100
# Up to here nobody is hurt, whatever the ratio.
UNSUSPICIOUS_BYTES = 64 << 20

_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
# A frame that holds no data may stand before the others.
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"


@contextmanager
def open_unpacked(path: Path) -> Iterator[tuple[IO[bytes], str | None]]:
    """Open a file, unpacked where it is packed; yields the stream and the name of the packing.

    `UnreadableData` where it does not unpack, or is a bomb; `OSError` as `open` raises it.
    """
    with path.open("rb") as stream:
        packing = _recognise(stream)
        # Most files are not packed, and are read where they lie.
        if packing is None:
            yield stream, None
            return
        # Into a file: Parquet and workbooks are read from their end.
        with tempfile.TemporaryFile() as unpacked:
            _unpack(path, stream, packing, unpacked)
            unpacked.seek(0)
            # A bomb in a bomb would pass two bounds.
            if _recognise(unpacked):
                raise UnreadableData(
                    f"{path} is packed twice. Unpack it once and bring what comes out."
                )
            yield unpacked, packing


def _recognise(stream: IO[bytes]) -> str | None:
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(_GZIP):
        return "gzip"
    is_skippable = head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5
    return "zstd" if head == _ZSTD or is_skippable else None


def _unpack(path: Path, packed: IO[bytes], packing: str, into: IO[bytes]) -> None:
    import pyarrow as pa

    limit = max(UNSUSPICIOUS_BYTES, MAX_RATIO * path.stat().st_size)
    try:
        for chunk in _read_chunks(packed, packing):
            into.write(chunk)
            if into.tell() > limit:
                raise UnreadableData(
                    f"{path} unpacks to more than {MAX_RATIO} times its size, as no rows do. "
                    "Unpack it yourself and look at it."
                )
    except (pa.ArrowException, zlib.error, EOFError, OSError) as error:
        # What the system refuses has a number; what the libraries find has none.
        if getattr(error, "errno", None) is not None:
            raise
        raise UnreadableData(
            f"{path} is a damaged {packing} file ({first_line(error)}). Pack it again."
        ) from error


def _read_chunks(packed: IO[bytes], packing: str) -> Iterator[bytes]:
    stream = _open_packing(packed, packing)
    chunk = stream.read(CHUNK)
    while chunk:
        yield chunk
        chunk = stream.read(CHUNK)


def _open_packing(packed: IO[bytes], packing: str) -> Any:
    if packing == "gzip":
        return gzip.GzipFile(fileobj=packed)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")
