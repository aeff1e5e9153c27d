"""Whole numbers that the environment names, which are texts before they are read."""

from core.errors import ServingError


def parse_whole(text: str, most: int) -> int | None:
    """A whole number from 0 to that one; None where the text is anything else."""
    # ASCII: digits of other scripts are numbers for Python as well.
    is_number = text.isascii() and text.isdecimal()
    # Python refuses to read a number of thousands of digits.
    is_short = len(text) <= len(str(most))
    if not is_number or not is_short:
        return None
    number = int(text)
    return number if number <= most else None


def read_seconds(variable: str, text: str, shortest: int, longest: int) -> int:
    """Whole seconds within these bounds, or 0 for never; `ServingError` for any other text."""
    seconds = parse_whole(text, longest)
    if seconds is not None and (seconds == 0 or seconds >= shortest):
        return seconds
    raise ServingError(
        f"{variable} is {text[:20]!r}. Give whole seconds from {shortest} to "
        f"{longest}, or 0 for never."
    )
