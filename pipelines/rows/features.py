"""The sensitive feature of a file: its groups, and whether they are groups at all.

A group is what somebody belongs to. A measure, such as an age or a date, has almost as many values
as rows: it is refused as a whole, since no group of it could be compared.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, time
from typing import Any, NoReturn

from core.errors import ParameterError
from pipelines.rows.feature_kinds import has_fraction, is_date, is_number
from pipelines.rows.formats import Record
from pipelines.rows.misfit import is_blank, restore_whole_number
from pipelines.rows.near_groups import find_near_groups
from pipelines.rows.shapes.columns import pick
from pipelines.rows.text import canonicalise, make_short_excerpt
from pipelines.values.params import DataParams
from pipelines.values.reading import count_of

# More distinct numbers than this are a measure, unless each has rows enough to be compared.
MOST_NUMBERED_GROUPS = 12
# The default policy's min_group_size. A policy that asks for less still has its own say.
ROWS_OF_A_GROUP = 20
ROWS_A_VALUE = 10
# The smallest group in which anything shows: texts of which none has so many rows are names.
ROWS_OF_ANY_GROUP = 5
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

Sizes = dict[Any, int]
"""Rows of each value."""


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
        label = restore_whole_number(pick(record, self.column))
        if is_blank(label):
            self.without_value += 1
        elif isinstance(label, bool):
            # True and 1 are equal as keys, and are two labels.
            self.counts[str(label)] += 1
        # A list is no label: its row is set aside by itself.
        elif isinstance(label, str | int | float | date | time):
            self.counts[label] += 1

    def check(self) -> None:
        """Raise `ParameterError` for a feature that is a measure or a date, not a group."""
        # The words would make a column of numbers one of texts.
        present = _select(self.counts, lambda label: not _is_no_value_word(label))
        total = sum(present.values())
        numbers = _select(present, is_number)
        dates = _select(present, is_date)
        # Only what most rows have says what the column is.
        if 2 * sum(numbers.values()) > total and _is_measure(numbers):
            self._refuse("a number", "18-34", numbers, total)
        if 2 * sum(dates.values()) > total and _is_measure(dates):
            self._refuse("a date", "2020-2024", dates, total)
        self._check_texts(present, total)

    def find_odd_labels(self) -> set[str]:
        """Labels of floats that too few rows have to be a group."""
        return {
            str(label)
            for label, count in self.counts.items()
            if isinstance(label, float) and count < ROWS_OF_A_GROUP
        }

    def _check_texts(self, present: Sizes, total: int) -> None:
        """Refuse what is another text in nearly every row, such as a name or an address."""
        is_few = len(present) <= MOST_NUMBERED_GROUPS
        if is_few or 2 * len(present) <= total:
            return
        if max(present.values()) >= ROWS_OF_ANY_GROUP:
            return
        distinct = count_of(len(present), "distinct text")
        example = make_short_excerpt(str(next(iter(present))))
        raise ParameterError(
            f"data.sensitive_feature {self.column} has {distinct} in "
            f"{count_of(total, 'row')}, such as {example}: name a column of groups, each of "
            f"{ROWS_OF_ANY_GROUP} rows or more."
        )

    def describe(self) -> Iterator[str]:
        """Yield what a person should look at among the groups, a sentence each."""
        if not self.column:
            return
        if self.without_value:
            rows = count_of(self.without_value, "row")
            yield f"{rows} without a value for {self.column}: in no group"
        texts: Counter[str] = Counter()
        for label, count in self.counts.items():
            texts[str(label)] += count
        yield from self._describe_no_value_words(texts)
        yield from self._describe_merged(texts)
        yield from self._describe_near_groups(texts)

    def _describe_no_value_words(self, texts: Counter[str]) -> Iterator[str]:
        for text, count in sorted(texts.items()):
            if _is_no_value_word(text):
                rows = count_of(count, "row")
                yield (
                    f"{rows} with the text '{make_short_excerpt(text)}' as {self.column}: "
                    "it is a group of its own; leave it empty where no value is known"
                )

    def _describe_merged(self, texts: Counter[str]) -> Iterator[str]:
        ways: Counter[str] = Counter()
        for text in texts:
            label = _label_of(text)
            ways[label] += 1
        for label, spellings in sorted(ways.items()):
            if spellings > 1:
                shown = make_short_excerpt(label)
                yield (
                    f"{self.column}: {shown} is written in {spellings} ways that "
                    "differ in outer spaces or Unicode form: counted as one group"
                )

    def _describe_near_groups(self, texts: Counter[str]) -> Iterator[str]:
        sizes: Counter[str] = Counter()
        for text, count in texts.items():
            label = _label_of(text)
            sizes[label] += count
        for near in find_near_groups(sizes):
            groups = [
                f"{make_short_excerpt(label)} ({sizes[label]:,})" for label in near
            ]
            yield (
                f"{self.column}: {', '.join(groups)} are probably one group, and are "
                f"compared as {len(near)}: write them in one way"
            )

    def _refuse(self, kind: str, bins: str, values: Sizes, total: int) -> NoReturn:
        # The first one that shows why, as 34.5 does.
        examples = [*filter(has_fraction, values), *values]
        example = make_short_excerpt(str(examples[0]))
        distinct = count_of(len(values), "distinct value")
        rows = count_of(total, "row")
        raise ParameterError(
            f"data.sensitive_feature {self.column} is {kind} with {distinct} in {rows}, "
            f"such as {example}: bin it into groups, such as {bins}, before the run."
        )


def _label_of(text: str) -> str:
    """The label that a row gets from a text."""
    canonical = canonicalise(text)
    return canonical.strip()


def _is_no_value_word(label: Any) -> bool:
    if not isinstance(label, str):
        return False
    word = label.strip().casefold()
    return word in NO_VALUE_WORDS


def _select(values: Sizes, belongs: Callable[[Any], bool]) -> Sizes:
    return {label: count for label, count in values.items() if belongs(label)}


def _is_measure(values: Sizes) -> bool:
    """Whether numbers or dates are too many and too rare to be groups."""
    total = sum(values.values())
    # A date of a table, not a text: no label at all.
    if any(isinstance(label, date | time) for label in values):
        return True
    fractions = _select(values, has_fraction)
    is_many = sum(fractions.values()) >= FRACTIONS_OF_A_MEASURE * total > 0
    # A single one among groups is an odd row, which is set aside by itself; 0.5 and 1.5 that
    # each have rows enough are groups.
    if is_many and min(fractions.values()) < ROWS_OF_A_GROUP:
        return True
    if len(values) <= MOST_NUMBERED_GROUPS:
        return False
    if max(values.values()) < ROWS_OF_A_GROUP:
        return True
    return total < ROWS_A_VALUE * len(values)
