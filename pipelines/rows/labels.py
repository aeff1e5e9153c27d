"""Labels of rows: the group that keeps rows together, and the sensitive feature.

A sensitive feature is a group that somebody belongs to. A measure, such as an age or a date, has
almost as many values as rows: it is refused as a whole, since no group could be compared.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, time
from typing import Any

from core.errors import ParameterError
from pipelines.rows.formats import Record
from pipelines.rows.misfit import (
    Misfit,
    check_text,
    describe_type,
    is_blank,
    restore_whole_number,
)
from pipelines.rows.text import canonicalise, make_excerpt
from pipelines.values.params import DataParams

# More distinct numbers than this are a measure, unless each has rows enough to be compared.
MOST_NUMBERED_GROUPS = 12
# The default policy's min_group_size. A policy that asks for less still has its own say.
ROWS_OF_A_GROUP = 20
ROWS_A_VALUE = 10
FRACTIONS_OF_A_MEASURE = 0.05

# Words that tools write where there is no value.
NO_VALUE_WORDS = frozenset(
    {
        "nan",
        "<na>",
        "none",
        "na",
        "n/a",
        "n.a.",
        "#n/a",
        "nil",
        "null",
        "nat",
        "unknown",
        "undefined",
        "missing",
        "not given",
        "-",
        "--",
        "?",
    }
)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)?|[.,]\d+)([eE][+-]?\d+)?")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})"
)
_SEPARATORS = re.compile(r"[\s_.\-]+")
_DASHES = re.compile(r"[\u2010-\u2015\u2212]")


def read_group(record: Record, data: DataParams) -> str | None:
    """Return the label that keeps rows in one split; None where the record names none."""
    # A column that the parameters name has to be filled; one that happens to be called
    # `group` may be empty.
    is_required = bool(data.group_column)
    return read_label(record, data.group_column or "group", is_required=is_required)


def read_feature(record: Record, data: DataParams) -> str | None:
    """Return the sensitive feature's value; None where the record has none."""
    if not data.sensitive_feature:
        return None
    return read_label(record, data.sensitive_feature, is_required=False)


def read_label(record: Record, column: str, *, is_required: bool) -> str | None:
    """Return a column's value as text; `Misfit` where it is no label, or empty and required."""
    label = restore_whole_number(record.get(column))
    # An empty list is no missing label but another type.
    if is_blank(label) and not isinstance(label, list | dict):
        if is_required:
            raise Misfit(f"column {column} is empty")
        return None
    if not isinstance(label, str | int | bool):
        raise Misfit(f"column {column} is {describe_type(label)}, not a label")
    return check_text(str(label), column).strip()


class FeatureTally:
    """How often each raw value of the sensitive feature occurs in a file."""

    def __init__(self, data: DataParams) -> None:
        self.column = data.sensitive_feature
        self.counts: Counter[Any] = Counter()
        self.without_value = 0

    def add(self, record: Record) -> None:
        """Count the value of one record."""
        if not self.column:
            return
        label = restore_whole_number(record.get(self.column))
        if is_blank(label):
            self.without_value += 1
        # A list is no label: its row is set aside by itself.
        elif isinstance(label, str | int | float | date | time):
            # True and 1 are equal as keys, and are two labels.
            key = str(label) if isinstance(label, bool) else label
            self.counts[key] += 1

    def check(self) -> None:
        """Raise `ParameterError` for a feature that is a measure or a date, not a group."""
        present = {
            label: count
            for label, count in self.counts.items()
            if not _is_no_value_word(label)
        }
        total = sum(present.values())
        for kind, belongs in (("a number", _is_number), ("a date", _is_date)):
            values = {
                label: count for label, count in present.items() if belongs(label)
            }
            is_most = 2 * sum(values.values()) > total
            if is_most and _is_measure(values):
                self._refuse(kind, values, total)

    def describe(self) -> Iterator[str]:
        """Yield what a person should look at among the groups, a sentence each."""
        if not self.column:
            return
        if self.without_value:
            rows = _rows(self.without_value)
            yield f"{rows} without a value for {self.column}: in no group"
        texts: Counter[str] = Counter()
        for label, count in self.counts.items():
            texts[str(label)] += count
        yield from self._describe_no_value_words(texts)
        yield from self._describe_merged(texts)
        labels: Counter[str] = Counter()
        for text, count in texts.items():
            labels[canonicalise(text).strip()] += count
        for near in find_near_groups(labels):
            sizes = ", ".join(f"{_show(label)} ({labels[label]:,})" for label in near)
            yield (
                f"{self.column}: {sizes} are probably one group, and are compared as "
                f"{len(near)}: write them in one way"
            )

    def _describe_no_value_words(self, texts: Counter[str]) -> Iterator[str]:
        for text, count in sorted(texts.items()):
            if _is_no_value_word(text):
                yield (
                    f"{_rows(count)} with the text '{_show(text)}' as {self.column}: "
                    "it is a group of its own; leave it empty where no value is known"
                )

    def _describe_merged(self, texts: Counter[str]) -> Iterator[str]:
        spellings: dict[str, list[str]] = defaultdict(list)
        for text in texts:
            spellings[canonicalise(text).strip()].append(text)
        for label, written in sorted(spellings.items()):
            if len(written) > 1:
                yield (
                    f"{self.column}: {_show(label)} is written in {len(written)} ways that "
                    "differ in outer spaces or Unicode form: counted as one group"
                )

    def _refuse(self, kind: str, values: dict[Any, int], total: int) -> None:
        # The first one that shows why, as 34.5 does.
        example = next(
            (label for label in values if _has_fraction(label)), next(iter(values))
        )
        raise ParameterError(
            f"data.sensitive_feature {self.column} is {kind} with {len(values):,} distinct "
            f"values in {total:,} rows, such as {_show(str(example))}: bin it into groups, "
            f"such as {'2020-2024' if kind == 'a date' else '18-34'}, before the run."
        )


def find_near_groups(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that are probably one: F, f and Female.

    They differ in case, width, white space or separators, or one is the first letter of exactly
    one other.
    """
    by_form: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        by_form[_fold_label(label)].append(label)
    for initial in [form for form in by_form if len(form) == 1 and form.isalpha()]:
        longer = [
            form
            for form in by_form
            if len(form) > 2 and form.startswith(initial) and form.isalpha()
        ]
        # M may be male or man: with two candidates nothing is said.
        if len(longer) == 1:
            by_form[longer[0]] += by_form.pop(initial)
    return [sorted(near) for near in by_form.values() if len(near) > 1]


def _fold_label(label: str) -> str:
    folded = unicodedata.normalize("NFKC", label).casefold()
    plain = _DASHES.sub("-", folded)
    # Signs and separators tell numbers apart: 18-34 is not 1834.
    if any(character.isdigit() for character in plain):
        return " ".join(plain.split())
    # A label of separators alone stays what it is.
    return _SEPARATORS.sub("", plain) or plain


def _is_no_value_word(label: Any) -> bool:
    return isinstance(label, str) and label.strip().casefold() in NO_VALUE_WORDS


def _is_number(label: Any) -> bool:
    if isinstance(label, int | float):
        return True
    if not isinstance(label, str):
        return False
    return _NUMBER.fullmatch(label.strip()) is not None


def _is_date(label: Any) -> bool:
    if isinstance(label, date | time):
        return True
    if not isinstance(label, str):
        return False
    return _DATE.fullmatch(label.strip()) is not None


def _is_measure(values: dict[Any, int]) -> bool:
    total = sum(values.values())
    if any(isinstance(label, date | time) for label in values):
        return True
    # A single one among groups is an odd row, which is set aside by itself.
    fractions = sum(count for label, count in values.items() if _has_fraction(label))
    if fractions >= FRACTIONS_OF_A_MEASURE * total > 0:
        return True
    if len(values) <= MOST_NUMBERED_GROUPS:
        return False
    has_group = max(values.values()) >= ROWS_OF_A_GROUP
    return not has_group or total < ROWS_A_VALUE * len(values)


def _has_fraction(label: Any) -> bool:
    # What is left of a float is no whole number: those are integers by now.
    if isinstance(label, float):
        return True
    if not isinstance(label, str) or not _is_number(label):
        return False
    number = float(label.strip().replace(",", "."))
    return not number.is_integer()


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _show(label: str) -> str:
    return make_excerpt(label)[:40]
