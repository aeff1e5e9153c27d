"""What is wrong with an expectation that great_expectations would only find row by row, or not."""

import difflib
import re
from collections.abc import Collection, Iterator
from typing import Any

_COLUMNS = ("column", "column_A", "column_B", "column_list")
"""Arguments that name columns. `column_set` is left out: it asks which columns there are."""
_PATTERNS = ("regex", "regex_list")
_PARAMETER = "$PARAMETER"


def find_suite_faults(
    arguments: dict[str, Any], columns: Collection[str], parameters: Collection[str]
) -> Iterator[str]:
    """Say what an expectation names that is not there, or what is no regular expression.

    great_expectations lets such an expectation fail without a word of why.
    """
    for name in _COLUMNS:
        argument = arguments.get(name)
        for column in _listed(argument):
            if column not in columns:
                yield f"there is no column {column}{_hint(column, columns)}"
    for name in _PATTERNS:
        argument = arguments.get(name)
        for pattern in _listed(argument):
            yield from _pattern_faults(pattern)
    for parameter in _parameters_in(arguments):
        if parameter not in parameters:
            known = ", ".join(parameters)
            yield f"there is no parameter {parameter} for a suite, only {known}"


def _listed(argument: Any) -> list[Any]:
    if argument is None:
        return []
    if isinstance(argument, list):
        return argument
    return [argument]


def _hint(column: Any, columns: Collection[str]) -> str:
    # YAML may give a number where a name is meant.
    near = difflib.get_close_matches(str(column), columns, n=1, cutoff=0.5)
    if near:
        return f": did you mean {near[0]}"
    names = ", ".join(columns)
    return f", only {names}"


def _pattern_faults(pattern: Any) -> Iterator[str]:
    if not isinstance(pattern, str):
        yield f"{pattern!r} is no regular expression"
        return
    # Of Python's kind, as great_expectations asks pandas for it.
    try:
        re.compile(pattern)
    except re.error as error:
        yield f"{pattern!r} is no regular expression ({error})"


def _parameters_in(document: Any) -> Iterator[Any]:
    """What stands under `$PARAMETER`, however deep."""
    parts: list[Any] = []
    if isinstance(document, dict):
        if _PARAMETER in document:
            yield document[_PARAMETER]
        parts = list(document.values())
    if isinstance(document, list):
        parts = document
    for part in parts:
        yield from _parameters_in(part)
