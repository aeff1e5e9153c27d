"""Why a record makes no row, and how its values are checked one by one."""

import math
from typing import Any

from pipelines.rows.files.records import UnreadableValue
from pipelines.rows.text import canonicalise, find_problem

# From here on a float no longer says which whole number was meant.
_EXACT = 2**53


class Misfit(ValueError):
    """A record is not a row; the text is the reason."""


def is_missing(entry: Any) -> bool:
    """Whether a value says nothing: null, or the NaN that pandas writes in its place."""
    if entry is None:
        return True
    return is_nan(entry)


def is_nan(entry: Any) -> bool:
    """Whether a value is the float NaN."""
    if not isinstance(entry, float):
        return False
    return math.isnan(entry)


def is_blank(entry: Any) -> bool:
    """Whether a value is missing, an empty list or object, or text of white space alone."""
    if isinstance(entry, str):
        return not entry.strip()
    if isinstance(entry, list | tuple | dict):
        return not entry
    return is_missing(entry)


def check_text(text: str, column: str) -> str:
    """Return a text in the one form that Assay stores; `Misfit` where it is unfit."""
    # Refused and not repaired: without its hidden characters it would be another text.
    problem = find_problem(text)
    if problem:
        raise Misfit(f"column {column} holds {problem}")
    return canonicalise(text)


def describe_type(entry: Any) -> str:
    """Say what a value is that is no text."""
    if is_nan(entry):
        return "NaN"
    if entry is None:
        return "null"
    # An error of Excel, or a formula whose result was not saved: it says itself what it is.
    if isinstance(entry, UnreadableValue):
        return str(entry)
    return f"of type {type(entry).__name__}"


def restore_whole_number(label: Any) -> Any:
    """Return 1 for 1.0: pandas stores whole numbers beside nulls as floats.

    Beyond 2**53 a float is no number in particular, and stays what it is.
    """
    if not isinstance(label, float):
        return label
    if label.is_integer() and abs(label) < _EXACT:
        return int(label)
    return label
