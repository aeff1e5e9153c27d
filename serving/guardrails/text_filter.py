"""One text that arrives piece by piece: what is safe passes at once, the rest is held back."""

from collections import Counter
from collections.abc import Sequence

from serving.guardrails.patterns import Pattern, Scan, scan
from serving.repetition import repeated_share

# Characters before a place that a pattern may look back at.
_CONTEXT = 64
# More is not held back: no pattern of ours is longer, and of a pattern of the project's only what
# is within that length is seen whole.
_MOST_HELD = 8_000
# Characters of the latest text in which repetition is looked for, and between two looks.
_LATEST = 2_000
_BETWEEN_LOOKS = 200
_REPEATED_SHARE = 0.5


class TextFilter:
    """Masks, counts or refuses what patterns find, wherever pieces are cut."""

    def __init__(
        self, patterns: Sequence[Pattern], repetition: str | None = None
    ) -> None:
        self.found: Counter[str] = Counter()
        """What was found: `kind.action`, and how often."""
        self.refused_for = ""
        """The kind for which nothing more passes; empty: it passes."""
        self.patterns = tuple(patterns)
        """What is looked for; without what only counts and needed too long for a text."""
        self._repetition = repetition
        # What was sent, as far as a pattern may ask what stands before its match.
        self._before = ""
        self._held = ""
        self._latest = ""
        self._unlooked = 0

    @property
    def holds_nothing(self) -> bool:
        """Whether all that came has been given out."""
        return not self._held

    def feed(self, piece: str) -> str:
        """Take a piece; gives what may be sent now."""
        if self._repetition is None:
            return self._take(piece)
        # A whole answer is one piece: its circles end it where they would have ended a stream.
        starts = range(0, len(piece), _BETWEEN_LOOKS)
        parts = [piece[start : start + _BETWEEN_LOOKS] for start in starts]
        return "".join(map(self._take, parts))

    def finish(self) -> str:
        """Nothing more comes; gives what was held back."""
        if self.refused_for:
            return ""
        return self._release(is_whole=True)

    def _take(self, piece: str) -> str:
        if not self.refused_for:
            self._look_for_repetition(piece)
        # Also where that look refused: the piece that it looked at is part of the circle.
        if self.refused_for:
            return ""
        self._held += piece
        # Without a bound a text that seems to become a match for ever would never be sent.
        is_too_long = len(self._held) > _MOST_HELD
        return self._release(is_whole=is_too_long)

    def _release(self, *, is_whole: bool) -> str:
        begin = len(self._before)
        text = self._before + self._held
        scanned = scan(self.patterns, text, begin, is_whole=is_whole)
        self._give_up(scanned.too_slow)
        if self.refused_for:
            return ""
        end = _whole_matches_end(scanned)
        sent: list[str] = []
        place = begin
        for match in scanned.matches:
            if match.end > end:
                break
            self.found[f"{match.kind}.{match.action}"] += 1
            if match.action == "count":
                continue
            # A refusal may lie within what was masked just now: that gives no text.
            sent.append(text[place : match.start])
            if match.action == "refuse":
                self.refused_for = match.kind
                return "".join(sent)
            sent.append(f"[{match.kind.upper()}]")
            place = match.end
        sent.append(text[place:end])
        self._before = text[:end][-_CONTEXT:]
        self._held = text[end:]
        return "".join(sent)

    def _give_up(self, too_slow: Sequence[Pattern]) -> None:
        """What nobody could look at does not pass. Patterns that only count are left out from now.

        Each of them would take its whole time again for every piece.
        """
        for pattern in too_slow:
            self.found[f"{pattern.kind}.timeout"] += 1
            if pattern.action != "count":
                self.refused_for = pattern.kind
        left = [each for each in self.patterns if each not in too_slow]
        self.patterns = tuple(left)

    def _look_for_repetition(self, piece: str) -> None:
        if self._repetition is None:
            return
        self._latest = (self._latest + piece)[-_LATEST:]
        self._unlooked += len(piece)
        if self._unlooked < _BETWEEN_LOOKS:
            return
        self._unlooked = 0
        if repeated_share(self._latest) <= _REPEATED_SHARE:
            return
        self.found[f"repetition.{self._repetition}"] += 1
        if self._repetition == "refuse":
            self.refused_for = "repetition"
        else:
            # Once is enough to count an answer.
            self._repetition = None


def _whole_matches_end(scanned: Scan) -> int:
    """Up to where text may be given out without cutting a match in two."""
    end = scanned.decided
    for match in reversed(scanned.matches):
        would_be_cut = match.start < end < match.end
        if would_be_cut:
            end = match.start
    return end


def filtered(patterns: Sequence[Pattern], text: str) -> tuple[str, TextFilter]:
    """A whole text, and the filter that it passed."""
    text_filter = TextFilter(patterns)
    beginning = text_filter.feed(text)
    end = text_filter.finish()
    return beginning + end, text_filter
