"""Columns of a file: their names, what kind of values they hold, and what uses them.

Text that nothing uses is what a person has to know of: an instruction's `input` is half the prompt.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from pipelines.rows.formats import Record
from pipelines.rows.misfit import is_blank, is_missing
from pipelines.rows.text import make_excerpt
from pipelines.values.reading import MOST_DISTINCT, ColumnKind, ColumnUse

# A file whose every record has keys of its own must not fill memory.
MOST_COLUMNS = 300
# What one line says.
MOST_NAMES = 30
MOST_UNUSED = 10
# Labels and identifiers are shorter, or have no spaces.
SPACES_OF_TEXT = 2.0
CHARACTERS_OF_TEXT = 80
# Languages without spaces have letters outside of ASCII.
CHARACTERS_OF_TEXT_WITHOUT_SPACES = 10


def fold_name(name: Any) -> str:
    """Return a column's name as it is compared: without case and outer white space."""
    text = str(name)
    bare = text.strip()
    return bare.casefold()


def find_column(columns: Iterable[str], name: str) -> str | None:
    """Return the column of a name: that very one, or the first that differs in case alone."""
    names = list(columns)
    if name in names:
        return name
    folded = fold_name(name)
    for column in names:
        if fold_name(column) == folded:
            return column
    return None


def find_first_column(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the column of the first of several names that there is one for."""
    present = list(columns)
    for name in names:
        column = find_column(present, name)
        if column is not None:
            return column
    return None


def list_names(columns: Iterable[str], most: int = MOST_NAMES) -> str:
    """Return the names of columns as a person reads them, sorted, the first of very many."""
    names = sorted(map(make_excerpt, columns))
    shown = ", ".join(names[:most])
    others = len(names) - most
    if others > 0:
        return f"{shown} and {others:,} more"
    return shown


def pick(record: Record, column: str) -> Any:
    """Return a record's value of a column, whose name may differ in case; None without it."""
    # Nearly every record has the very name.
    if column in record:
        return record[column]
    written = find_column(record, column)
    if written is None:
        return None
    return record[written]


def has_column(record: Record, column: str) -> bool:
    """Whether a record has a column, be it empty."""
    written = find_column(record, column)
    return written is not None


def sample_values(records: Iterable[Record]) -> dict[str, list[Any]]:
    """Return the values of each column that say something, in the order of the columns."""
    values: dict[str, list[Any]] = {}
    for record in records:
        for name, entry in record.items():
            present = values.setdefault(name, [])
            if not is_missing(entry):
                present.append(entry)
    return values


@dataclass
class _Tally:
    rows: int = 0
    kinds: Counter[ColumnKind] = field(default_factory=Counter)
    characters: int = 0
    spaces: int = 0
    # Texts with letters outside of ASCII.
    foreign: int = 0
    distinct: set[int] = field(default_factory=set)

    def add(self, entry: Any) -> None:
        kind = _kind_of(entry)
        self.rows += 1
        self.kinds[kind] += 1
        if isinstance(entry, str):
            self._add_text(entry)
        # Lists and objects have no hash.
        if kind in {"lists", "objects", "mixed"}:
            return
        if len(self.distinct) < MOST_DISTINCT:
            self.distinct.add(hash(entry))

    def _add_text(self, text: str) -> None:
        words = text.split()
        self.characters += len(text)
        self.spaces += len(words) - 1
        if not text.isascii():
            self.foreign += 1

    @property
    def kind(self) -> ColumnKind:
        if not self.kinds:
            return "empty"
        if len(self.kinds) > 1:
            return "mixed"
        (kind,) = self.kinds
        if kind == "labels" and self._is_text:
            return "text"
        return kind

    @property
    def _is_text(self) -> bool:
        length = self.characters / self.rows
        spaces = self.spaces / self.rows
        if length >= CHARACTERS_OF_TEXT:
            return True
        if spaces >= SPACES_OF_TEXT:
            return True
        # Two words that are new in most rows are no label.
        if spaces >= 1 and 2 * len(self.distinct) > self.rows:
            return True
        is_foreign = 2 * self.foreign > self.rows
        return is_foreign and length >= CHARACTERS_OF_TEXT_WITHOUT_SPACES


class ColumnTally:
    """What each column of a file holds, counted record by record."""

    def __init__(self) -> None:
        self.tallies: dict[str, _Tally] = {}
        self.has_more = False

    def add(self, record: Record) -> None:
        """Count the values of one record."""
        for name, entry in record.items():
            tally = self._find_tally(name)
            if tally is None:
                self.has_more = True
                continue
            if not is_blank(entry):
                tally.add(entry)

    @property
    def filled(self) -> set[str]:
        """The columns that are not empty in every record."""
        names = set()
        for name, tally in self.tallies.items():
            if tally.rows:
                names.add(name)
        return names

    def uses(self, used: Mapping[str, str]) -> tuple[ColumnUse, ...]:
        """Return every column with what uses it; `used` gives that by the column's name."""
        uses = []
        for name, tally in self.tallies.items():
            use = ColumnUse(
                name=make_excerpt(name),
                kind=tally.kind,
                rows=tally.rows,
                distinct=len(tally.distinct),
                use=self._find_use(name, used),
            )
            uses.append(use)
        return tuple(uses)

    def _find_tally(self, name: str) -> _Tally | None:
        tally = self.tallies.get(name)
        if tally is not None:
            return tally
        if len(self.tallies) >= MOST_COLUMNS:
            return None
        tally = _Tally()
        self.tallies[name] = tally
        return tally

    def _find_use(self, name: str, used: Mapping[str, str]) -> str | None:
        if name in used:
            return used[name]
        usual = find_column(used, name)
        # Of `prompt` and `Prompt` in one file only the first is read.
        if usual is None or usual in self.tallies:
            return None
        return used[usual]


def describe_unused(columns: Sequence[ColumnUse]) -> str | None:
    """Say which columns are not used, those of text first; None where every one is."""
    texts = []
    others = []
    for column in columns:
        description = f"`{column.name}` ({column.description})"
        if column.use is not None or not column.rows:
            continue
        if column.holds_text:
            texts.append(description)
        else:
            others.append(description)
    unused = texts + others
    if not unused:
        return None
    more = len(unused) - MOST_UNUSED
    if more > 0:
        unused[MOST_UNUSED:] = [f"and {more} more columns"]
    return f"not used: {', '.join(unused)}"


def _kind_of(entry: Any) -> ColumnKind:
    for types, kind in _KINDS:
        if isinstance(entry, types):
            return kind
    return "mixed"


# True is an int, too.
_KINDS: tuple[tuple[type | tuple[type, ...], ColumnKind], ...] = (
    (str, "labels"),
    (bool, "true or false"),
    ((int, float), "numbers"),
    ((list, tuple), "lists"),
    (dict, "objects"),
    ((date, time), "dates"),
)
