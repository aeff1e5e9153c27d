"""Patterns, and where they occur in a text that may not be whole yet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# Characters that may stand between two parts of one match.
_SEPARATORS = 5
Action = Literal["count", "mask", "refuse"]


@dataclass(frozen=True)
class Pattern:
    """Something that is looked for."""

    kind: str
    # Of the library `regex`, which knows partial matches.
    expression: Any
    action: Action
    # Characters of a match that really are one: a checksum may say fewer, or 0.
    measure: Callable[[str], int] = len
    # For one look at one text. None: it is one of ours, which never goes back far over what it
    # has read; a project's own may do so for hours.
    seconds: float | None = None


@dataclass(frozen=True)
class Match:
    """A place where it is."""

    start: int
    end: int
    kind: str
    action: Action


@dataclass(frozen=True)
class Scan:
    """What was found, and up to where nothing that comes later can change that."""

    matches: tuple[Match, ...]
    decided: int
    # Those that came to no end within their time: nobody knows whether they are in the text.
    too_slow: tuple[Pattern, ...] = ()


def scan(
    patterns: Sequence[Pattern], text: str, begin: int = 0, *, is_whole: bool = True
) -> Scan:
    """Look for all patterns from `begin` on; what stands before it is context.

    Matches are in order, and no mask overlaps another.
    """
    found: list[Match] = []
    too_slow: list[Pattern] = []
    decided = len(text)
    for pattern in patterns:
        try:
            for occurrence in _occurrences(pattern, text, begin, is_whole=is_whole):
                start, end = occurrence.span()
                if not is_whole and (occurrence.partial or _may_go_on(text[end:])):
                    decided = min(decided, start)
                    break
                length = pattern.measure(occurrence[0])
                if length:
                    match = Match(start, start + length, pattern.kind, pattern.action)
                    found.append(match)
        except TimeoutError:
            too_slow.append(pattern)
    return Scan(tuple(_apart(found)), decided, tuple(too_slow))


def _occurrences(
    pattern: Pattern, text: str, begin: int, *, is_whole: bool
) -> Iterator[Any]:
    """Every match of a pattern; `TimeoutError` where its time is over."""
    found: Iterator[Any] = pattern.expression.finditer(
        text,
        begin,
        # A match whose checksum does not hold must not hide one that begins in it.
        overlapped=True,
        partial=not is_whole,
        timeout=pattern.seconds,
    )
    return found


def _may_go_on(rest: str) -> bool:
    """Whether a match before that rest may become longer, or be none, by what follows.

    Groups of digits have separators between them, and the end of a key begins with five dashes.
    """
    if len(rest) > _SEPARATORS:
        return False
    return not any(character.isalnum() for character in rest)


def _apart(found: list[Match]) -> Iterator[Match]:
    """In order: masks that do not overlap, and of each other kind what does not overlap itself."""
    places: dict[str, int] = {}
    # Of those that begin together the longest.
    found.sort(key=lambda match: match.end, reverse=True)
    found.sort(key=lambda match: match.start)
    for match in found:
        # What is only counted, or refused, never keeps a mask from covering a text.
        group = "mask" if match.action == "mask" else match.kind
        if match.start >= places.get(group, 0):
            places[group] = match.end
            yield match
