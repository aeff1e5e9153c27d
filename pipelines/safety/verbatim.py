"""The longest run of characters that two texts share."""

from difflib import SequenceMatcher


def longest_common(one: str, other: str) -> int:
    """Length of the longest common substring, in characters."""
    # Without `autojunk` frequent characters would be left out of long texts.
    matcher = SequenceMatcher(
        None,
        one,
        other,
        autojunk=False,
    )
    # One long run shows what was learned by heart; many short ones are style.
    longest = matcher.find_longest_match()
    return longest.size
