"""Labels of rows: the group that keeps rows together, and the sensitive feature."""

import math

from pipelines.rows.formats import Record
from pipelines.rows.misfit import (
    Misfit,
    check_text,
    describe_type,
    is_blank,
    restore_whole_number,
)
from pipelines.rows.shapes.columns import pick
from pipelines.values.params import DataParams


def read_group(record: Record, data: DataParams) -> str | None:
    """Return the label that keeps rows in one split; None where the record names none."""
    # A column that the parameters name has to be filled; one that happens to be called
    # `group` may be empty.
    column = data.group_column
    # Named by somebody: a row without it would be split away from its own group.
    if column:
        return read_label(record, column, is_required=True)
    return read_label(record, "group", is_required=False)


def read_feature(record: Record, data: DataParams) -> str | None:
    """Return the sensitive feature's value; None where the record has none."""
    if not data.sensitive_feature:
        return None
    label = restore_whole_number(pick(record, data.sensitive_feature))
    # Whether fractions are groups shows at the end of the file: see `FeatureTally`.
    if isinstance(label, float) and math.isfinite(label):
        return str(label)
    return read_label(record, data.sensitive_feature, is_required=False)


def read_tests(record: Record, data: DataParams) -> str | None:
    """Return the row's tests, lines of a list joined; `Misfit` where there should be some."""
    if not data.tests_column:
        return None
    tests = pick(record, data.tests_column)
    # MBPP and its like have a list of lines.
    is_lines = isinstance(tests, list) and all(isinstance(line, str) for line in tests)
    if is_lines:
        tests = "\n".join(tests)
    if is_blank(tests):
        raise Misfit(f"column {data.tests_column} is empty")
    if not isinstance(tests, str):
        kind = describe_type(tests)
        raise Misfit(f"column {data.tests_column} is {kind}, not a text")
    return check_text(tests, data.tests_column)


def read_label(record: Record, column: str, *, is_required: bool) -> str | None:
    """Return a column's value as text; `Misfit` where it is no label, or empty and required."""
    label = restore_whole_number(pick(record, column))
    # An empty list is no missing label but another type.
    is_container = isinstance(label, list | dict)
    if is_blank(label) and not is_container:
        if is_required:
            raise Misfit(f"column {column} is empty")
        return None
    if not isinstance(label, str | int | bool):
        kind = describe_type(label)
        raise Misfit(f"column {column} is {kind}, not a label")
    text = check_text(str(label), column)
    return text.strip()
