"""Seconds that the environment names."""

from core.errors import ServingError


def read_seconds(variable: str, text: str, shortest: int, longest: int) -> int:
    """Whole seconds within these bounds, or 0 for never; `ServingError` for any other text."""
    # ASCII: digits of other scripts are numbers for Python as well.
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(longest))
    seconds = int(text) if is_number else -1
    if seconds == 0 or shortest <= seconds <= longest:
        return seconds
    raise ServingError(
        f"{variable} is {text[:20]!r}. Give whole seconds from {shortest} to "
        f"{longest}, or 0 for never."
    )
