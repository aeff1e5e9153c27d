"""Which shape a file has, from its columns and first records.

Parameters that name columns or a shape win. Where two shapes fit, they have to give the same rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from core.errors import NoSuchColumn, UnreadableData
from pipelines.rows.formats import Record
from pipelines.rows.misfit import Misfit
from pipelines.rows.shapes.candidates import find_candidates
from pipelines.rows.shapes.columns import find_column, list_names, sample_values
from pipelines.rows.shapes.refusals import refuse_columns, refuse_judged_answers
from pipelines.rows.shapes.shape import TITLES, Shape
from pipelines.rows.shapes.turns import Example
from pipelines.rows.text import make_printable
from pipelines.values.dataset import normalise_text, text_of
from pipelines.values.params import DataParams


@dataclass(frozen=True)
class FileShape:
    """The shapes of one file: each record is read by the first that fits it."""

    shapes: tuple[Shape, ...]
    note: str = ""

    def read(self, record: Record) -> Example:
        """Return what a record teaches; `Misfit` where no shape of the file reads it."""
        shape = self.choose(record)
        if shape.has_any_column(record):
            return shape.read(record)
        column = shape.needed[0]
        present = list_names(record, 5)
        raise Misfit(f"no column {column}; the record has {present or 'none'}")

    def choose(self, record: Record) -> Shape:
        """Return the first shape that fits or, where none does, the one that lacks least."""
        for shape in self.shapes:
            if shape.fits(record):
                return shape
        # Its reason says which of the parts is missing.
        return max(
            self.shapes,
            key=lambda shape: shape.count_parts(record),
        )

    def describe(self, filled: Collection[str]) -> str:
        """How the file is read, and what else would fit; `filled` are columns with values."""
        first, *others = self.shapes
        sentence = first.describe(filled)
        for other in others:
            alternative = other.describe(filled)
            sentence = f"{sentence}; rows without it {alternative}"
        return sentence + self.note

    @property
    def uses(self) -> dict[str, str]:
        """What each column is read as."""
        uses: dict[str, str] = {}
        # What the first shape reads a column as is what counts.
        for shape in reversed(self.shapes):
            for part, column in shape.columns.items():
                uses[column] = part
                if part == "messages":
                    uses[column] = "conversation"
        return uses


def recognise(sample: Sequence[Record], data: DataParams, where: str) -> FileShape:
    """Return the shape of the file `where` whose first records are given.

    `NoSuchColumn` where the columns are of no shape, `UnreadableData` where they are of two that
    give different rows, or where this is data of another kind.
    """
    every = sample_values(sample)
    filled = {name: values for name, values in every.items() if values}
    candidates = find_candidates(filled, data)
    # Columns that are empty so far count only where nothing else fits.
    if not candidates:
        candidates = find_candidates(every, data)
    if not candidates:
        refuse_columns(filled or every, every, data, where)
    # Who names the shape has seen the marks.
    if data.shape is None:
        refuse_judged_answers(filled, where)
    return _settle(candidates, sample, where)


def check_labels(columns: Collection[str], data: DataParams, where: str) -> None:
    """Raise `NoSuchColumn` for a file without the columns of labels that the parameters name."""
    named = {
        "group_column": data.group_column,
        "sensitive_feature": data.sensitive_feature,
    }
    # An empty name is no name.
    for parameter, column in named.items():
        if column and find_column(columns, column) is None:
            present = list_names(columns)
            raise NoSuchColumn(
                f"{where} has no column {column}; it has {present}. "
                f"Name the right one with `--set data.{parameter}=…`."
            )


def _settle(
    candidates: Sequence[Shape], sample: Sequence[Record], where: str
) -> FileShape:
    """Keep the shapes that read something, in their order; refuse two that disagree."""
    examples = {}
    for shape in candidates:
        examples[shape.name] = [_try(shape, record) for record in sample]
    # A column `messages` may hold anything: what reads no row is no shape.
    working = [shape for shape in candidates if any(examples[shape.name])]
    # Where none reads a record, the reasons of the first one explain the file.
    shapes = working or candidates[:1]
    first, *others = shapes
    note = ""
    for other in others:
        agree = _agree(examples[first.name], examples[other.name])
        if agree is False:
            _refuse_both(first, other, where)
        if agree:
            note += (
                f" ({TITLES[other.name]} gives the same rows; "
                f"`--set data.shape={other.name}` reads only that)"
            )
    return FileShape(tuple(shapes), note)


def _try(shape: Shape, record: Record) -> Example | None:
    if not shape.fits(record):
        return None
    try:
        return shape.read(record)
    except Misfit:
        return None


def _agree(
    ones: Sequence[Example | None], others: Sequence[Example | None]
) -> bool | None:
    """Whether two readings of the records give the same rows; None where none has both."""
    agreement = None
    for one, other in zip(ones, others, strict=True):
        # Only a record that both read can contradict.
        if one is None or other is None:
            continue
        agreement = True
        if _text_of_example(one) != _text_of_example(other):
            return False
    return agreement


def _text_of_example(example: Example) -> str:
    prompt = text_of(example.messages)
    return normalise_text(f"{prompt}\n{example.completion}")


def _refuse_both(first: Shape, other: Shape, where: str) -> NoReturn:
    ways = f"{first.describe()} and {other.describe()}"
    raise UnreadableData(
        f"{where} can be {make_printable(ways)}, which give different rows. "
        f"Say which with `--set data.shape={first.name}` or "
        f"`--set data.shape={other.name}`."
    )
