"""How the records of a file were understood: what `collect` says and `assay data inspect` shows."""

from typing import Literal

from pydantic import Field

from core.value import Value

MOST_DISTINCT = 10_000
"""Distinct values of a column are counted up to here."""
ShapeName = Literal["pairs", "trl", "chat", "sharegpt", "alpaca"]
ColumnKind = Literal[
    "text",
    "labels",
    "numbers",
    "true or false",
    "dates",
    "lists",
    "objects",
    "mixed",
    "empty",
]


class ColumnUse(Value):
    """A column of the file: what it holds, and what reads it."""

    name: str
    kind: ColumnKind
    rows: int = Field(description="Records in which it is not empty.")
    distinct: int
    use: str | None = Field(description="None: nothing reads it.")

    @property
    def description(self) -> str:
        """What it holds and in how many records, as `8 labels, 240 rows`."""
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        if self.kind not in {"labels", "numbers"}:
            return f"{self.kind}, {rows}"
        noun = self.kind if self.distinct != 1 else self.kind[:-1]
        # The count stops at its limit.
        least = "at least " if self.distinct >= MOST_DISTINCT else ""
        return f"{least}{self.distinct:,} {noun}, {rows}"


class FileReading(Value):
    """One file as it was read: its shape, its columns, and where every record went.

    `records` is `rows` and all of `set_aside` together.
    """

    file: str
    shape: str
    records: int
    rows: int
    set_aside: dict[str, int] = Field(description="Records by reason, the most first.")
    duplicates: int = Field(description="Rows with the prompt and answer of another.")
    prompts: int
    prompts_with_several_answers: int
    columns: tuple[ColumnUse, ...]
    notes: tuple[str, ...] = Field(
        description="What a person should know, a line each."
    )

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said of the file where it is read: its shape, its notes, what is lost."""
        lines = [self.shape, *self.notes]
        shown = list(self.set_aside.items())[:5]
        lines += [f"{count:,} set aside: {reason}" for reason, count in shown]
        others = len(self.set_aside) - len(shown)
        if others:
            rest = sum(list(self.set_aside.values())[5:])
            lines.append(f"{rest:,} set aside for {others:,} other reasons")
        return tuple(line for line in lines if line)
