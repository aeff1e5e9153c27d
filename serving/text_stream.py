"""Tokens to text as they come, at a constant cost a token, with stop strings that may span several tokens."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

_NOT_YET = (
    "\ufffd"  # what decoding gives for a character whose last bytes are still to come
)
_LONGEST_WAIT = 64  # tokens without a whole character: not text any more, so it is given as it decodes


class IncrementalText:
    """Decode a growing sequence by looking at its last few tokens only.

    Each token is decoded together with the one before it, since decoders treat the first token of a sequence differently.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """The text that this token completes, which may be none."""
        self._pending.append(token)
        text = self._new_text()
        is_whole = text != "" and not text.endswith(_NOT_YET)
        return (
            self._taken(text) if is_whole or len(self._pending) >= _LONGEST_WAIT else ""
        )

    def flush(self) -> str:
        """Whatever is left, an unfinished character included."""
        return self._taken(self._new_text())

    def _new_text(self) -> str:
        return self._decode([*self._context, *self._pending])[
            len(self._decode(self._context)) :
        ]

    def _taken(self, text: str) -> str:
        self._context, self._pending = self._pending or self._context, []
        return text


class StopStrings:
    """Cut a text at the first stop string, and hold back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.kept = 0
        """Characters given so far."""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """The characters that are certain now."""
        if self.is_stopped:
            return ""
        self._held += text
        places = [
            place for stop in self._stops if (place := self._held.find(stop)) >= 0
        ]
        self.is_stopped = bool(places)
        return self._released(
            min(places) if places else len(self._held) - self._doubtful()
        )

    def flush(self) -> str:
        """What was held back, once nothing more can come."""
        return "" if self.is_stopped else self._released(len(self._held))

    def _released(self, until: int) -> str:
        certain, self._held = self._held[:until], self._held[until:]
        self.kept += len(certain)
        return certain

    def _doubtful(self) -> int:
        """Length of the longest ending that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0


class TokenCount:
    """How many tokens an answer has, also where a stop string cut its text."""

    def __init__(self) -> None:
        self._ends: list[int] = []

    @property
    def total(self) -> int:
        """All of them."""
        return len(self._ends)

    def add(self, text: str) -> None:
        """One more token, and the text that it completed."""
        self._ends.append(len(text) + (self._ends[-1] if self._ends else 0))

    def within(self, characters: int) -> int:
        """Those that the first `characters` of the text are made of; the last of them may reach beyond."""
        return (
            min(bisect_left(self._ends, characters) + 1, self.total)
            if characters
            else 0
        )
