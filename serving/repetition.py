"""How much of a text stood in it before."""

# Words, or characters where there are too few words, that make a piece that is repeated.
_WORDS = 4
_CHARACTERS = 12
_FEWEST_PIECES = 12


def repeated_share(text: str) -> float:
    """The share of four-word pieces that occurred before in the same answer; 0 of a short one.

    1 - distinct / all, as seq-rep-4 of Welleck et al. 2020, "Neural Text Generation with
    Unlikelihood Training". Scripts without spaces are cut by twelve characters.
    """
    words = text.split()
    pieces: list[object] = [
        tuple(words[start : start + _WORDS]) for start in range(len(words) - _WORDS + 1)
    ]
    if len(pieces) < _FEWEST_PIECES:
        starts = range(len(text) - _CHARACTERS + 1)
        pieces = [text[start : start + _CHARACTERS] for start in starts]
    if len(pieces) < _FEWEST_PIECES:
        return 0.0
    return 1 - len(set(pieces)) / len(pieces)
