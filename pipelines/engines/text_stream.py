"""Text as it comes: where it is to stop, and how many tokens a part of it took.

Stop strings may span several tokens.
"""

from bisect import bisect_left
from collections.abc import Sequence


class StopStrings:
    """Cut a text at the first stop string, and hold back what may be the beginning of one.

    With the stop string "END", pushing "the E" gives "the ", and pushing "nd" then gives "End".
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        # Characters given so far.
        self.kept = 0
        self.is_stopped = False

    def push(self, text: str) -> str:
        """The characters that are certain now."""
        if self.is_stopped:
            return ""
        self._held += text
        places = [self._held.find(stop) for stop in self._stops]
        matches = [place for place in places if place >= 0]
        if matches:
            self.is_stopped = True
            return self._release(min(matches))
        certain = len(self._held) - self._count_uncertain()
        return self._release(certain)

    def flush(self) -> str:
        """What was held back, once nothing more can come."""
        if self.is_stopped:
            return ""
        return self._release(len(self._held))

    def _release(self, length: int) -> str:
        certain = self._held[:length]
        self._held = self._held[length:]
        self.kept += len(certain)
        return certain

    def _count_uncertain(self) -> int:
        """Length of the longest ending that begins a stop string."""
        lengths = [len(stop) for stop in self._stops]
        # A whole stop string would have been found: at most all but its last character is here.
        longest = max(lengths, default=1) - 1
        longest_held = min(longest, len(self._held))
        for length in range(longest_held, 0, -1):
            ending = self._held[-length:]
            if any(stop.startswith(ending) for stop in self._stops):
                return length
        return 0


class TokenCount:
    """How many tokens an answer has, also where a stop string cut its text."""

    def __init__(self) -> None:
        # Where the text of each token ends, in characters from the beginning of the answer.
        self._ends: list[int] = []

    @property
    def total(self) -> int:
        """All of them."""
        return len(self._ends)

    def add(self, text: str) -> None:
        """Count one more token, and the text that it completed."""
        start = 0
        if self._ends:
            start = self._ends[-1]
        self._ends.append(start + len(text))

    def within(self, characters: int) -> int:
        """Tokens of the first `characters` of the text; the last of them may reach beyond."""
        if characters == 0:
            return 0
        whole = bisect_left(self._ends, characters)
        return min(whole + 1, self.total)
