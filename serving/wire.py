"""HTTP/1.1 read strictly: what two servers could read in two ways is not read at all.

A proxy in front of the endpoint may see one request where a lenient reader sees two. h11 takes
folded lines, lines that end in LF alone, both lengths at once, and chunk sizes of any length.
"""

import re

import h11
from h11._receivebuffer import ReceiveBuffer

# Bytes of a request's line and its headers together.
_LONGEST_HEAD = 16_384
# Bytes of the line that says how long a chunk is, its extensions included.
_LONGEST_CHUNK_LINE = 256
# Bytes of a body that are not its content.
_MOST_CHUNK_LINES = 131_072
_FOLDED = re.compile(rb"\n[ \t]")
# Line ends are checked separately; all other control characters but the tab have no place.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VERSIONS = (b"1.0", b"1.1")


class StrictConnection(h11.Connection):
    """The server's side of a connection, which remembers what was wrong with a request."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, _LONGEST_HEAD)
        # h11 has no setting for this, so two of its private parts are exchanged:
        # tests/serving/test_wire.py fails where another version of h11 has other parts.
        self._receive_buffer = _StrictBuffer()
        self.fault = ""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As h11's own; the fault of a request is kept for the answer."""
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            # After a colon h11 quotes the request's own bytes, which may be anything.
            self.fault = str(error).partition(":")[0]
            raise

    def _extract_next_receive_event(
        self,
    ) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super()._extract_next_receive_event()
        if isinstance(event, h11.Request):
            _check_framing(event)
        return event


class _StrictBuffer(ReceiveBuffer):
    """What was received, and the lines of it. Heads, trailers and chunk sizes are read here."""

    def __init__(self) -> None:
        super().__init__()
        self._chunk_lines = 0

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """A whole head or trailer."""
        received = bytes(self._data)
        lines = super().maybe_extract_lines()
        if lines is not None:
            # Another body may follow, with chunk lines of its own.
            self._chunk_lines = 0
            length = len(received) - len(self._data)
            _check_head(received[:length])
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        """The line that says how long the next chunk is."""
        line = super().maybe_extract_next_line()
        if line is None:
            # A line that is too long is refused before its end has come.
            _check_chunk_line(self._data)
            return None
        _check_chunk_line(line)
        self._chunk_lines += len(line)
        if self._chunk_lines > _MOST_CHUNK_LINES:
            raise h11.LocalProtocolError(
                "the body comes in too many or too wordy chunks"
            )
        return line


def _check_head(head: bytes) -> None:
    if len(head) > _LONGEST_HEAD:
        raise h11.LocalProtocolError(f"its headers are over {_LONGEST_HEAD} bytes")
    # As many pairs as single bytes: neither CR nor LF comes without the other.
    pairs = head.count(b"\r\n")
    if not pairs == head.count(b"\n") == head.count(b"\r"):
        raise h11.LocalProtocolError("a line of its headers does not end in CR LF")
    if _FOLDED.search(head):
        raise h11.LocalProtocolError("a header goes on in the next line")
    if _CONTROL.search(head):
        raise h11.LocalProtocolError("its headers hold a control character")


def _check_chunk_line(line: bytearray) -> None:
    """Refuse a line, or as much of it as has come."""
    is_too_long = len(line) > _LONGEST_CHUNK_LINE
    if is_too_long:
        raise h11.LocalProtocolError(
            f"a chunk's size is over {_LONGEST_CHUNK_LINE} bytes long"
        )
    without_newline = line.removesuffix(b"\n")
    text = without_newline.removesuffix(b"\r")
    has_line_end = b"\n" in text or b"\r" in text
    if has_line_end or _CONTROL.search(text):
        raise h11.LocalProtocolError("a chunk's size holds a control character")


def _check_framing(request: h11.Request) -> None:
    """Refuse a request whose end two readers might see in two places (request smuggling)."""
    names = {name for name, _ in request.headers}
    if request.http_version not in _VERSIONS:
        raise h11.LocalProtocolError("it is of another version than HTTP/1.1")
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names:
        raise h11.LocalProtocolError("it has both Content-Length and Transfer-Encoding")
    if request.http_version == b"1.0":
        raise h11.LocalProtocolError("HTTP/1.0 has no Transfer-Encoding")
