"""What gave an answer."""

from typing import NamedTuple


class Origin(NamedTuple):
    """The name that was asked, and what answered under it."""

    model: str
    release: str
    fingerprint: str


UNKNOWN = Origin("", "", "")
"""Of an answer of which nobody has kept it."""
