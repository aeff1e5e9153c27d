"""Which tokens may come next, guessed from what a row has already said.

Text repeats itself: names, code, quotes of the prompt. A model that computes a guess beside the
last token reads its weights once for both. Its own logits then say whether the guess was right, so
that guesses change no answer.

    … the file name is : the file ─▶ name is
"""

from collections.abc import Sequence

# A shorter beginning is found anywhere, and little follows from it.
_LENGTHS = (3, 2)


class Guesses:
    """What followed a row's last tokens where they stood before."""

    def __init__(self) -> None:
        # Behind which position the last such tokens ended, with something that follows them.
        self._places: dict[tuple[int, ...], int] = {}
        self._seen = 0

    def guess(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """At most so many tokens that may follow; `tokens` is the row, which only grows."""
        self._look_at(tokens)
        for length in _LENGTHS:
            ending = tuple(tokens[-length:])
            place = self._places.get(ending)
            if place is not None:
                return tokens[place : place + most]
        return ()

    def _look_at(self, tokens: Sequence[int]) -> None:
        """Remember what each token but the last ends."""
        last = len(tokens) - 1
        for place in range(self._seen + 1, last + 1):
            for length in _LENGTHS:
                if place >= length:
                    beginning = tuple(tokens[place - length : place])
                    self._places[beginning] = place
        self._seen = max(self._seen, last)
