"""In which encoding a text is written, and the text as UTF-8.

A file that begins with a byte order mark says so itself. A line that is UTF-8 is read as UTF-8. The
other lines are damaged, and set aside, where a tenth or more of those beyond ASCII are UTF-8; else
they are in a code page, and the guess is said with words that it gives.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from core.errors import UnreadableData
from pipelines.rows.files.code_pages import guess_code_page
from pipelines.rows.files.decoders import UTF8, cut, is_utf8, make_decoder

CHUNK = 1 << 18
# In which of four bytes a text of letters, of whatever script, has next to no zeros.
_PLACES_OF_TEXT = {
    "utf-16-le": [True, False, True, False],
    "utf-16-be": [False, True, False, True],
    "utf-32-le": [True, False, False, False],
    "utf-32-be": [False, False, False, True],
}
_ASCII_LE = re.compile(rb"(?:[\t\r\n -~]\0){2}")
_ASCII_BE = re.compile(rb"(?:\0[\t\r\n -~]){2}")
# What is judged; a decoder is strict about the rest.
JUDGED_BYTES = 64 << 20
# One odd line or two are damage; a code page shows in more.
LINES_OF_A_CODE_PAGE = 3
_SHARE_OF_UTF8 = 0.1
_SAMPLED_BYTES = 1 << 16
_BOMS = (
    (codecs.BOM_UTF8, UTF8),
    # Before UTF-16, whose mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_INVALID = "invalid "
_WIDE_CODE_PAGES = {"cp932", "euc_jp", "gb18030", "big5", "cp949"}
_WORD = re.compile(r"[^\W\d_]+")
MOST_EXAMPLES = 3
# A word that is longer shows no more.
_CHARACTERS_OF_A_WORD = 20
_NAMES = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
_NAMES |= {"utf-32-le": "UTF-32", "utf-32-be": "UTF-32"}


@dataclass(frozen=True)
class Encoding:
    """How a text is encoded, and how that is known."""

    codec: str
    is_guessed: bool = False
    mark_bytes: int = 0
    """Length of the byte order mark."""
    utf8_lines: int = 0
    """Of the lines beyond ASCII that were judged, those that are UTF-8."""
    other_lines: int = 0
    examples: tuple[str, ...] = ()
    """Words of other lines, as a guess reads them."""

    @property
    def is_mixed(self) -> bool:
        """Whether some lines are UTF-8 and some are not."""
        return self.utf8_lines > 0 and self.other_lines > 0

    @property
    def is_read_by_lines(self) -> bool:
        """Whether a line that is UTF-8 is read as such, in a file of a code page.

        Where two bytes are one character, a short line may be UTF-8 by chance.
        """
        return self.is_mixed and self.codec not in {UTF8, *_WIDE_CODE_PAGES}

    @property
    def name(self) -> str:
        """As people write it."""
        codec = self.codec
        if codec.startswith("cp125"):
            # As people know it, and editors list it.
            number = codec.removeprefix("cp")
            return f"Windows-{number}"
        return _NAMES.get(codec, codec)


class BadBytes(ValueError):
    """A line holds bytes that its encoding does not know; the text is the reason."""


class Utf8Stream:
    """A text of any encoding, read as UTF-8 without its byte order mark."""

    def __init__(self, stream: IO[bytes], encoding: Encoding) -> None:
        self.encoding = encoding
        self._stream = stream
        stream.seek(encoding.mark_bytes)
        self._decoder = make_decoder(
            encoding.codec,
            reads_utf8_lines=encoding.is_read_by_lines,
        )

    def read(self, size: int) -> bytes:
        """Return about `size` bytes, and none only at the end."""
        if self._decoder is None:
            return self._stream.read(size)
        while chunk := self._stream.read(size):
            text = self._decoder.decode(chunk)
            # A chunk may be the half of one character.
            if text:
                return text.encode("utf-8", "surrogatepass")
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest.encode("utf-8", "surrogatepass")

    def decode(self, line: bytes) -> str:
        """Decode what `read` gave; `BadBytes` where the file held no characters there."""
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadBytes(self.reason(error.start + 1)) from error

    def reason(self, place: int | None = None) -> str:
        """Say why a row is set aside whose bytes are no characters."""
        fact = _INVALID + self.encoding.name
        # A place among transcoded bytes is no place in the file.
        if place is None or self._decoder is not None:
            return fact
        return f"{fact} (at byte {place})"


def recognise_encoding(
    path: Path, stream: IO[bytes], wanted: str | None = None
) -> Encoding:
    """Judge up to 64 MB of a text; `wanted` is an encoding that a person named.

    `UnreadableData` where no encoding fits.
    """
    stream.seek(0)
    head = stream.read(CHUNK)
    for mark, codec in _BOMS:
        if head.startswith(mark) and wanted is None:
            return Encoding(codec, mark_bytes=len(mark))
    if wanted is not None:
        return _take(wanted, head)
    wide = _recognise_wide(head)
    if wide is not None:
        return Encoding(wide, is_guessed=True)
    stream.seek(0)
    return _judge_lines(path, stream)


def is_lost_to_encoding(reason: str) -> bool:
    """Whether a row was set aside since its bytes are no characters of the file's encoding."""
    return reason.removeprefix("held-out file: ").startswith(_INVALID)


def _take(wanted: str, head: bytes) -> Encoding:
    codec = codecs.lookup(wanted).name
    if codec == "utf-8-sig":
        codec = UTF8
    for mark, marked in _BOMS:
        # "utf-16" names no order of bytes: the mark does.
        if head.startswith(mark) and marked.startswith(codec):
            return Encoding(marked, mark_bytes=len(mark))
    return Encoding(f"{codec}-le" if codec in {"utf-16", "utf-32"} else codec)


def _recognise_wide(head: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 without a mark by the zeros in quotes, commas and line ends."""
    by_beginning = _recognise_beginning(head)
    if by_beginning is not None:
        return by_beginning
    whole = head[: len(head) // 4 * 4]
    zeros = [whole[place::4].count(0) for place in range(4)]
    # Zeros stand in the places of high bytes; an emoji has one in the place of a low byte too.
    rare = [count < 0.25 * max(zeros) for count in zeros]
    for codec, expected in _PLACES_OF_TEXT.items():
        if any(zeros) and rare == expected and _has_structure(whole, codec):
            return codec
    return None


def _recognise_beginning(head: bytes) -> str | None:
    """Recognise UTF-16 by two first characters of ASCII, as of a header or of JSON."""
    beginning = head[:4]
    if _ASCII_LE.fullmatch(beginning):
        return "utf-16-le"
    if _ASCII_BE.fullmatch(beginning):
        return "utf-16-be"
    return None


def _has_structure(whole: bytes, codec: str) -> bool:
    """Whether a text has quotes, or lines of fields: zeros in another text give none."""
    # The last character may be cut.
    text = whole.decode(codec, "ignore")
    has_quotes = '"' in text
    has_lines = "\n" in text or "\r" in text
    has_fields = any(mark in text for mark in ",;\t|")
    has_table = has_lines and has_fields
    return has_quotes or has_table


def _judge_lines(path: Path, stream: IO[bytes]) -> Encoding:
    found: Counter[bool] = Counter()
    sample = bytearray()
    seen: set[bytes] = set()
    for line in _lines_beyond_ascii(stream):
        parts = list(_split_objects(line))
        others = [part for part in parts if not is_utf8(part)]
        found[True] += len(parts) - len(others)
        found[False] += len(others)
        # The characters of a line that is of one kind may go on beyond a brace.
        odd = line if len(others) == len(parts) else b" ".join(others)
        # Lines that repeat each other say nothing more about their language.
        if odd and len(sample) < _SAMPLED_BYTES and odd not in seen:
            seen.add(odd)
            is_long = len(odd) > _SAMPLED_BYTES
            sample += (cut(odd, _SAMPLED_BYTES) if is_long else odd) + b"\n"
    lines = found.total()
    is_mostly_utf8 = found[True] >= _SHARE_OF_UTF8 * lines
    if found[False] < LINES_OF_A_CODE_PAGE or is_mostly_utf8:
        return Encoding(UTF8, utf8_lines=found[True], other_lines=found[False])
    codec = guess_code_page(bytes(sample))
    if codec is None:
        raise UnreadableData(
            f"{path} is neither UTF-8 nor in a code page that can be recognised. "
            "Save it as UTF-8, or name its encoding with `--set data.encoding=…`."
        )
    return Encoding(
        codec,
        is_guessed=True,
        utf8_lines=found[True],
        other_lines=found[False],
        examples=_choose_words(bytes(sample), codec),
    )


def _choose_words(sample: bytes, codec: str) -> tuple[str, ...]:
    """Return words beyond ASCII as a guess reads them: a person sees whether it is right."""
    text = sample.decode(codec, "replace")
    words = [word[:_CHARACTERS_OF_A_WORD] for word in _WORD.findall(text)]
    # dict: the order of the file, without repetitions.
    distinct = list(dict.fromkeys(word for word in words if not word.isascii()))
    # A letter or two say little.
    distinct.sort(key=lambda word: len(word) < MOST_EXAMPLES)
    return tuple(distinct[:MOST_EXAMPLES])


def _lines_beyond_ascii(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    judged = 0
    while judged < JUDGED_BYTES and (chunk := stream.read(CHUNK)):
        judged += len(chunk)
        # Most of most files: nothing is to be judged there.
        if chunk.isascii() and rest.isascii():
            rest = b""
            continue
        *lines, rest = re.split(rb"[\r\n]", rest + chunk)
        # A line without an end is judged in pieces.
        if len(rest) > CHUNK:
            piece = cut(rest, len(rest))
            lines.append(piece)
            rest = rest[len(piece) :]
        yield from (line for line in lines if not line.isascii())
    if not rest.isascii():
        yield rest


def _split_objects(line: bytes) -> Iterator[bytes]:
    """Yield what is beyond ASCII of a line: a whole list of records may be one."""
    for part in re.split(rb"[{}]", line):
        if not part.isascii():
            yield part
