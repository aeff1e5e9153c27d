"""Decoders of text as it is read: bytes that decode to nothing are marked, and cost their row."""

import codecs
import re
from collections.abc import Callable
from typing import Protocol

UTF8 = "utf-8"
# As lines are judged: a whole list of records may be one.
_PART_OF_LINE = re.compile(rb"([\r\n{}])")
# A piece of a line without an end is decoded by itself.
_LONGEST_PART = 1 << 18
# A byte that does not decode becomes this: in UTF-8 it is no character at all, so that the row
# that holds it is set aside as any other damaged row is.
_DAMAGE = "\udcff"
_MARK_DAMAGE = "assay.mark_damage"


class Decoder(Protocol):
    """What an incremental decoder of Python does."""

    @property
    def decode(self) -> Callable[..., str]:
        """Decode a chunk; `final=True` says that nothing follows."""

    def reset(self) -> None:
        """Forget what was not decoded."""


class _DecoderOfLines:
    """Reads each line that is UTF-8 as such, and every other one in a code page."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._rest = b""

    def decode(self, chunk: bytes, *, final: bool = False) -> str:
        """Return the text of whole lines, and of the rest at the end."""
        *parts, rest = _PART_OF_LINE.split(self._rest + chunk)
        piece = b""
        if final:
            piece = rest
        elif len(rest) > _LONGEST_PART:
            piece = cut(rest, len(rest))
        self._rest = rest[len(piece) :]
        return "".join(self._decode_part(part) for part in [*parts, piece])

    def reset(self) -> None:
        """Forget what was not decoded."""
        self._rest = b""

    def _decode_part(self, part: bytes) -> str:
        codec = UTF8 if is_utf8(part) else self._codec
        return part.decode(codec, _MARK_DAMAGE)


def make_decoder(codec: str, *, reads_utf8_lines: bool) -> Decoder | None:
    """Return the decoder of a codec; None for UTF-8, which is handed on as it is."""
    if codec == UTF8:
        return None
    if reads_utf8_lines:
        return _DecoderOfLines(codec)
    decoder: Decoder = codecs.getincrementaldecoder(codec)(_MARK_DAMAGE)
    return decoder


def is_utf8(line: bytes) -> bool:
    """Whether a line decodes as UTF-8."""
    try:
        line.decode(UTF8)
    except UnicodeDecodeError:
        return False
    return True


def cut(line: bytes, most: int) -> bytes:
    """Cut a line after a sign that is no half of a character in any encoding."""
    beginning = line[:most]
    end = max(beginning.rfind(sign) for sign in (b'"', b",", b" "))
    return beginning[: end + 1] or beginning


def _mark_damage(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _DAMAGE, max(error.end, error.start + 1)


codecs.register_error(_MARK_DAMAGE, _mark_damage)
