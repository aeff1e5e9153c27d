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
# Labels and identifiers are shorter, or have no spaces.
SPACES_OF_TEXT = 2.0
CHARACTERS_OF_TEXT = 80
# Languages without spaces have letters outside of ASCII.
CHARACTERS_OF_TEXT_WITHOUT_SPACES = 10


def fold_name(name: Any) -> str:
    """Return a column's name as it is compared: without case and outer white space."""
    return str(name).strip().casefold()


def find_column(columns: Iterable[str], name: str) -> str | None:
    """Return the column of a name: that very one, or the only one that differs in case."""
    names = list(columns)
    if name in names:
        return name
    folded = fold_name(name)
    return next((column for column in names if fold_name(column) == folded), None)


def pick(record: Record, column: str) -> Any:
    """Return a record's value of a column, whose name may differ in case; None without it."""
    if column in record:
        return record[column]
    written = find_column(record, column)
    return None if written is None else record[written]


def has_column(record: Record, column: str) -> bool:
    """Whether a record has a column, be it empty."""
    return find_column(record, column) is not None


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
    foreign: int = 0
    distinct: set[int] = field(default_factory=set)

    def add(self, entry: Any) -> None:
        kind = _kind_of(entry)
        self.rows += 1
        self.kinds[kind] += 1
        if isinstance(entry, str):
            self.characters += len(entry)
            self.spaces += entry.strip().count(" ")
            self.foreign += not entry.isascii()
        # Lists and objects have no hash.
        is_single = kind not in {"lists", "objects", "mixed"}
        if is_single and len(self.distinct) < MOST_DISTINCT:
            self.distinct.add(hash(entry))

    @property
    def kind(self) -> ColumnKind:
        if not self.rows:
            return "empty"
        (kind, _), *others = self.kinds.most_common()
        if others:
            return "mixed"
        if kind == "labels" and self._is_text:
            return "text"
        return kind

    @property
    def _is_text(self) -> bool:
        length = self.characters / self.rows
        spaces = self.spaces / self.rows
        if spaces >= SPACES_OF_TEXT or length >= CHARACTERS_OF_TEXT:
            return True
        is_foreign = 2 * self.foreign > self.rows
        if is_foreign and length >= CHARACTERS_OF_TEXT_WITHOUT_SPACES:
            return True
        # Two words that are new in most rows are no label.
        return spaces >= 1 and 2 * len(self.distinct) > self.rows


class ColumnTally:
    """What each column of a file holds, counted record by record."""

    def __init__(self) -> None:
        self.tallies: dict[str, _Tally] = {}
        self.has_more = False

    def add(self, record: Record) -> None:
        """Count the values of one record."""
        for name, entry in record.items():
            if name not in self.tallies:
                if len(self.tallies) >= MOST_COLUMNS:
                    self.has_more = True
                    continue
                self.tallies[name] = _Tally()
            if not is_blank(entry):
                self.tallies[name].add(entry)

    @property
    def filled(self) -> set[str]:
        """The columns that are not empty in every record."""
        return {name for name, tally in self.tallies.items() if tally.rows}

    def uses(self, used: Mapping[str, str]) -> tuple[ColumnUse, ...]:
        """Return every column with what uses it; `used` gives that by the column's name."""
        by_name = {fold_name(name): use for name, use in used.items()}
        exact = {fold_name(name) for name in used if name in self.tallies}
        uses = []
        for name, tally in self.tallies.items():
            folded = fold_name(name)
            # Of `prompt` and `Prompt` in one file only the first is read.
            is_shadowed = folded in exact and name not in used
            use = None if is_shadowed else by_name.get(folded)
            uses.append(
                ColumnUse(
                    name=make_excerpt(name),
                    kind=tally.kind,
                    rows=tally.rows,
                    distinct=len(tally.distinct),
                    use=use,
                )
            )
        return tuple(uses)


def describe_unused(columns: Sequence[ColumnUse]) -> str | None:
    """Say which columns are not used, those of text first; None where every one is."""
    unused = [column for column in columns if column.use is None and column.rows]
    if not unused:
        return None
    unused.sort(key=lambda column: column.kind not in {"text", "mixed"})
    described = [f"`{column.name}` ({column.description})" for column in unused[:10]]
    if len(unused) > 10:
        described.append(f"and {len(unused) - 10} more columns")
    return f"not used: {', '.join(described)}"


def _kind_of(entry: Any) -> ColumnKind:
    if isinstance(entry, str):
        return "labels"
    if isinstance(entry, bool):
        return "true or false"
    if isinstance(entry, int | float):
        return "numbers"
    if isinstance(entry, list | tuple):
        return "lists"
    if isinstance(entry, dict):
        return "objects"
    return "dates" if isinstance(entry, date | time) else "mixed"
