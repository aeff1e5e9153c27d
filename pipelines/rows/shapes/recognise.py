"""Which shape a file has, from its columns and first records.

Parameters that name columns or a shape win. Where two shapes fit, they have to give the same rows.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import NoSuchColumn, UnreadableData
from pipelines.rows.formats import Record
from pipelines.rows.misfit import Misfit
from pipelines.rows.shapes.columns import (
    find_column,
    find_first_column,
    list_names,
    sample_values,
)
from pipelines.rows.shapes.refusals import refuse_columns
from pipelines.rows.shapes.shape import TITLES, Columns, Shape
from pipelines.rows.shapes.turns import Example, is_conversation, is_sharegpt
from pipelines.rows.text import make_printable
from pipelines.values.dataset import normalise_text, text_of
from pipelines.values.params import DataParams

if TYPE_CHECKING:
    from pipelines.values.reading import ShapeName

# What params.yaml says where nobody chose: such a name may be missing.
USUAL_PROMPT = "prompt"
USUAL_COMPLETION = "completion"
USUAL_MESSAGES = "messages"
CONVERSATIONS = (
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "dialog",
    "chat",
    "contents",
)
INSTRUCTIONS = ("instruction",)
INPUTS = ("input", "context", "inputs")
OUTPUTS = ("output", "response", "answer")
SYSTEMS = ("system", "system_prompt")
HISTORIES = ("history",)

Values = Mapping[str, Sequence[Any]]
"""The first values of each column."""


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
    candidates = _find_candidates(filled, data)
    # Columns that are empty so far count only where nothing else fits.
    if not candidates:
        candidates = _find_candidates(every, data)
    if not candidates:
        refuse_columns(filled or every, every, data, where)
    return _settle(candidates, sample, where)


def check_labels(columns: Collection[str], data: DataParams, where: str) -> None:
    """Raise `NoSuchColumn` for a file without the columns of labels that the parameters name."""
    named = {
        "group_column": data.group_column,
        "sensitive_feature": data.sensitive_feature,
    }
    for parameter, column in named.items():
        if column and column not in columns:
            present = list_names(columns)
            raise NoSuchColumn(
                f"{where} has no column {column}; it has {present}. "
                f"Name the right one with `--set data.{parameter}=…`."
            )


def find_alpaca(values: Values, data: DataParams) -> Shape | None:
    """Return the Alpaca shape that the columns have; None where they lack a part of it."""
    instructions = INSTRUCTIONS
    if data.prompt_column != USUAL_PROMPT:
        instructions = (data.prompt_column,)
    prompt = find_first_column(values, instructions)
    completion = find_first_column(values, _output_names(values, data))
    if prompt is None or completion is None:
        return None
    columns = {
        "prompt": prompt,
        "completion": completion,
    }
    _add_optional(columns, "input", values, INPUTS)
    _add_optional(columns, "system", values, SYSTEMS)
    _add_optional(columns, "history", values, HISTORIES)
    return Shape("alpaca", columns)


def _output_names(values: Values, data: DataParams) -> tuple[str, ...]:
    if data.completion_column != USUAL_COMPLETION:
        return (data.completion_column,)
    # Beside a prompt, `completion` is the answer to that.
    if find_column(values, USUAL_PROMPT) is not None:
        return OUTPUTS
    return (*OUTPUTS, USUAL_COMPLETION)


def _add_optional(
    columns: Columns, part: str, values: Values, names: Sequence[str]
) -> None:
    """Add a part that a record may lack, under the usual name where no column has one yet."""
    column = find_first_column(values, names)
    if column is None:
        # A later record may have it.
        column = names[0]
    if column not in columns.values():
        columns[part] = column


def _find_candidates(values: Values, data: DataParams) -> list[Shape]:
    candidates = []
    for name in _names_to_try(data):
        shape = _FINDERS[name](values, data)
        if shape is not None:
            candidates.append(shape)
    return candidates


def _names_to_try(data: DataParams) -> tuple["ShapeName", ...]:
    """The shapes that the parameters leave open, in the order of preference."""
    if data.shape is not None:
        return (data.shape,)
    if data.prompt_column != USUAL_PROMPT:
        return ("pairs",)
    if data.completion_column != USUAL_COMPLETION:
        return ("pairs",)
    if data.messages_column != USUAL_MESSAGES:
        return ("chat",)
    return ("pairs", "chat", "alpaca")


def _settle(
    candidates: Sequence[Shape], sample: Sequence[Record], where: str
) -> FileShape:
    """Keep the shapes that read something, in their order; refuse two that disagree."""
    examples = {}
    for shape in candidates:
        examples[shape.name] = [_try(shape, record) for record in sample]
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
        if one is None or other is None:
            continue
        agreement = True
        if _text_of_example(one) != _text_of_example(other):
            return False
    return agreement


def _text_of_example(example: Example) -> str:
    prompt = text_of(example.messages)
    return normalise_text(f"{prompt}\n{example.completion}")


def _refuse_both(first: Shape, other: Shape, where: str) -> None:
    ways = f"{first.describe()} and {other.describe()}"
    raise UnreadableData(
        f"{where} can be {make_printable(ways)}, which give different rows. "
        f"Say which with `--set data.shape={first.name}` or "
        f"`--set data.shape={other.name}`."
    )


def _find_pair(values: Values, data: DataParams) -> Shape | None:
    prompt = find_column(values, data.prompt_column)
    completion = find_column(values, data.completion_column)
    if prompt is None or completion is None:
        return None
    columns = {
        "prompt": prompt,
        "completion": completion,
    }
    is_trl = data.shape == "trl"
    if data.shape is None:
        is_trl = _has_turns(values[prompt]) or _has_turns(values[completion])
    return Shape("trl" if is_trl else "pairs", columns)


def _find_chat(values: Values, data: DataParams) -> Shape | None:
    column = _find_conversations(values, data)
    if column is None:
        return None
    columns = {"messages": column}
    _add_optional(columns, "system", values, SYSTEMS)
    conversations = filter(is_conversation, values[column])
    first = next(conversations, None)
    name: ShapeName = "sharegpt" if is_sharegpt(first) else "chat"
    return Shape(name, columns)


def _find_conversations(values: Values, data: DataParams) -> str | None:
    names = (data.messages_column,)
    if data.messages_column == USUAL_MESSAGES:
        names = CONVERSATIONS
    for name in names:
        column = find_column(values, name)
        if column is not None and any(map(is_conversation, values[column])):
            return column
    # Without a single conversation in it, its rows are set aside one by one.
    return find_column(values, data.messages_column)


def _has_turns(entries: Sequence[Any]) -> bool:
    """Whether a column of prompts or of answers holds conversations."""
    texts = []
    for entry in entries:
        if isinstance(entry, str):
            texts.append(entry)
        elif is_conversation(entry):
            return True
    # Text may begin with a bracket: all of it has to be turns.
    return bool(texts) and all(map(is_conversation, texts))


_FINDERS: dict["ShapeName", Callable[[Values, DataParams], Shape | None]] = {
    "pairs": _find_pair,
    "trl": _find_pair,
    "chat": _find_chat,
    "sharegpt": _find_chat,
    "alpaca": find_alpaca,
}
