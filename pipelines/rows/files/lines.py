"""Texts in lines: LF, CRLF and CR end one; U+2028 is text."""

from collections.abc import Iterator

from pipelines.rows.files.encodings import BadBytes, Utf8Stream
from pipelines.rows.files.records import (
    MAX_ROW_BYTES,
    Records,
    parse_record,
    set_aside,
)

CHUNK = 1 << 16
_TOO_LONG = b" " * (MAX_ROW_BYTES + 1)


class RowTooLong(ValueError):
    """A line is longer than any row may be."""


class BoundedLines:
    """Lines with their ends, of bounded length; a longer one is skipped as `RowTooLong`."""

    def __init__(self, text: Utf8Stream) -> None:
        self.number = 0
        self._pieces = _split_lines(text)

    def __iter__(self) -> "BoundedLines":
        return self

    def __next__(self) -> bytes:
        line = next(self._pieces)
        self.number += 1
        # One line without an end would fill the memory before anything is said.
        length = len(line)
        if length > MAX_ROW_BYTES:
            raise RowTooLong(f"a line of more than {MAX_ROW_BYTES:,} bytes")
        return line


def read_json_lines(text: Utf8Stream) -> Records:
    """Yield one record a line. The number is the line's; an empty one is no record."""
    lines = BoundedLines(text)
    while True:
        # `next` by hand: after RowTooLong a `for` loop would not continue.
        try:
            line = next(lines)
            if line.strip():
                content = text.decode(line.rstrip(b"\r\n"))
                yield parse_record(lines.number, content)
        except StopIteration:
            return
        except RowTooLong as error:
            yield set_aside(lines.number, str(error))
        except BadBytes as error:
            excerpt = line.decode("utf-8", "replace")
            yield set_aside(lines.number, str(error), excerpt)


def _split_lines(text: Utf8Stream) -> Iterator[bytes]:
    """Yield each line; in the place of one that is too long, blanks that are too long as well."""
    rest = b""
    is_cut = False
    while chunk := text.read(CHUNK):
        # The rest is bounded, so that a line without an end costs no more than its bytes.
        *lines, rest = _split(rest + chunk)
        for line in lines:
            yield _TOO_LONG if is_cut else line
            is_cut = False
        if len(rest) > MAX_ROW_BYTES:
            # It must not be kept in memory: how it ends is all that counts from here on.
            is_cut = True
            rest = rest[-1:]
    if is_cut:
        yield _TOO_LONG
    elif rest:
        yield from rest.splitlines(keepends=True)


def _split(buffer: bytes) -> list[bytes]:
    """Split into whole lines, and last what may go on."""
    lines = buffer.splitlines(keepends=True)
    # A CR at the end may be the half of a CRLF.
    return [*lines, b""] if buffer.endswith(b"\n") else lines
