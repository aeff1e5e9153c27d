"""JSON cut into its elements while it is read, so that a list may be longer than memory.

Only brackets, commas and strings are looked at. Each element is parsed by itself, with the
limits that a line of JSON has, so that a broken one spoils no other. A line end within a string,
which JSON does not allow, ends it: one missing quote does not swallow what follows.
"""

import re
from collections.abc import Callable, Iterator

from pipelines.rows.files.records import MAX_ROW_BYTES

CHUNK = 1 << 18
# Far more than `MAX_DEPTH`: such a row is set aside, and the list around it is read on.
DEEPEST = 10_000
Read = Callable[[int], bytes]
Marks = Iterator[tuple[bytes, bytes]]
"""Text, and the bracket or comma outside of strings that ends it; b"" where it goes on."""

_OUTSIDE = re.compile(rb'[\[\]{},"]')
_CLOSING = {b"]", b"}"}
_ENDS_OF_ELEMENT = _CLOSING | {b","}
_LONGEST_KEY = 1_000
_KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*$')
_INSIDE = re.compile(rb'["\\\r\n]')


class BrokenJson(ValueError):
    """The elements cannot be told apart from here on; the text says why."""


def find_marks(read: Read) -> Marks:
    """Yield every bracket and comma outside of strings, with the text before it."""
    is_inside = False
    # What a backslash at the end of a chunk escapes is no mark.
    skipped = 0
    while chunk := read(CHUNK):
        # Where the text begins that the next mark ends.
        start = 0
        place = skipped
        pattern = _INSIDE if is_inside else _OUTSIDE
        while match := pattern.search(chunk, place):
            mark, place = match.group(), match.end()
            if mark == b"\\":
                place += 1
            elif is_inside or mark == b'"':
                is_inside = not is_inside
                pattern = _INSIDE if is_inside else _OUTSIDE
            else:
                yield chunk[start : place - 1], mark
                start = place
        skipped = max(0, place - len(chunk))
        yield chunk[start:], b""


class _Element:
    """The bytes of one element, as many of them as a row may have."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._is_too_long = False

    @property
    def content(self) -> bytes | None:
        """The element without blanks around it; None where it is too long."""
        if self._is_too_long:
            return None
        content = bytes(self._content)
        return content.strip()

    def add(self, piece: bytes) -> None:
        if len(self._content) + len(piece) > MAX_ROW_BYTES:
            self._is_too_long = True
        if not self._is_too_long:
            self._content += piece


def cut_list(marks: Marks) -> Iterator[bytes | None]:
    """Yield the elements of a list whose opening bracket was read; None for one that is too long.

    `BrokenJson` where the list does not end.
    """
    element = _Element()
    depth = 0
    for text, mark in marks:
        element.add(text)
        if depth == 0 and mark in _ENDS_OF_ELEMENT:
            # Nothing stands after the last comma, or in an empty list.
            if mark == b"," or element.content != b"":
                yield element.content
            if mark == b"}":
                raise BrokenJson("it is closed as an object")
            if mark == b"]":
                return
            element = _Element()
            continue
        element.add(mark)
        depth = _follow(depth, mark)
    raise BrokenJson("it does not end")


def cut_objects(marks: Marks) -> Iterator[bytes | None]:
    """Yield documents that stand one after the other, with commas between them or without.

    `BrokenJson` where the last one does not end.
    """
    element = _Element()
    depth = 0
    for text, mark in marks:
        element.add(text)
        # People who turn a list into lines leave its commas.
        if depth == 0 and mark == b",":
            continue
        element.add(mark)
        depth = _follow(depth, mark)
        if depth == 0 and mark in _CLOSING:
            yield element.content
            element = _Element()
    if element.content != b"":
        raise BrokenJson("it does not end")


def find_lists(marks: Marks, depth: int = 0) -> Iterator[tuple[str, bool]]:
    """Yield the key of each list in an object, and whether an object is the list's first element.

    `depth` is 1 where the object was entered before. `BrokenJson` where it does not end.
    """
    before = b""
    key: str | None = None
    for text, mark in marks:
        so_far = before + text
        before = so_far[-_LONGEST_KEY:]
        if not mark:
            continue
        # The mark after the opening bracket says what the list holds.
        if key is not None:
            yield key, mark == b"{" and not before.strip()
        begins_list = depth == 1 and mark == b"["
        key = _key_of(before) if begins_list else None
        before = b""
        depth = _follow(depth, mark)
        if depth == 0:
            return
    raise BrokenJson("it does not end")


def enter_list(marks: Marks, key: str) -> None:
    """Read an object up to the opening bracket of the list under `key`."""
    before = b""
    depth = 0
    for text, mark in marks:
        so_far = before + text
        before = so_far[-_LONGEST_KEY:]
        if depth == 1 and mark == b"[" and _key_of(before) == key:
            return
        if mark:
            before = b""
            depth = _follow(depth, mark)
    raise BrokenJson(f"it has no list under {key}")


def _key_of(before: bytes) -> str:
    found = _KEY.search(before)
    if found is None:
        return ""
    key = found.group(1)
    return key.decode("utf-8", "replace")


def _follow(depth: int, mark: bytes) -> int:
    if mark in {b"[", b"{"}:
        depth += 1
    elif mark in _CLOSING:
        depth -= 1
    if depth < 0:
        raise BrokenJson("a bracket is closed that was not opened")
    if depth > DEEPEST:
        raise BrokenJson(f"it nests deeper than {DEEPEST:,}")
    return depth
