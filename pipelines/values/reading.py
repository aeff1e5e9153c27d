"""How the records of a file were understood: what `collect` says and `assay data inspect` shows."""

from typing import Literal

from pydantic import Field

from core.value import Value

MOST_DISTINCT = 10_000
"""Distinct values of a column are counted up to here."""
MOST_REASONS = 5
"""So many reasons are said where a file is read; `assay data inspect` says all."""
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
    def holds_text(self) -> bool:
        """Whether a person may miss what stands there."""
        return self.kind in {"text", "mixed"}

    @property
    def description(self) -> str:
        """What it holds and in how many records, as `8 labels, 240 rows`."""
        rows = count_of(self.rows, "row")
        if self.kind not in {"labels", "numbers"}:
            return f"{self.kind}, {rows}"
        # labels, label
        # Text is not counted: every one is another.
        noun = self.kind.removesuffix("s")
        values = count_of(self.distinct, noun)
        if self.distinct >= MOST_DISTINCT:
            values = f"at least {values}"
        return f"{values}, {rows}"


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
        reasons = list(self.set_aside)
        for reason in reasons[:MOST_REASONS]:
            count = self.set_aside[reason]
            lines.append(f"{count:,} set aside: {reason}")
        # What is not named still counts, so that the sum is right.
        others = reasons[MOST_REASONS:]
        if others:
            rows = sum(self.set_aside[reason] for reason in others)
            lines.append(
                f"{rows:,} set aside for {count_of(len(others), 'more reason')}"
            )
        return tuple(lines)


def count_of(number: int, noun: str) -> str:
    """A number with its noun, as `1 row` or `2,000 rows`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}s"
