"""Which shape a file has, from its columns and first records.

Parameters that name columns or a shape win. Where two shapes fit, they have to give the same rows.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import NoSuchColumn, UnreadableData
from pipelines.rows.formats import Record
from pipelines.rows.misfit import Misfit
from pipelines.rows.shapes.columns import find_column, sample_values
from pipelines.rows.shapes.refusals import refuse_columns
from pipelines.rows.shapes.shape import TITLES, Shape
from pipelines.rows.shapes.turns import Example, has_dialect, is_conversation
from pipelines.rows.text import make_excerpt, make_printable
from pipelines.values.dataset import normalise_text, text_of
from pipelines.values.params import DataParams

if TYPE_CHECKING:
    from pipelines.values.reading import ShapeName

# What params.yaml says where nobody chose: such a name may be missing.
DEFAULTS = {"prompt_column": "prompt", "completion_column": "completion"}
DEFAULT_MESSAGES = "messages"
CONVERSATIONS = (
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "dialog",
    "chat",
)
INPUTS = ("input", "context", "inputs")
OUTPUTS = ("output", "response", "answer")
SYSTEMS = ("system", "system_prompt")

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
        if not shape.has_any_column(record):
            columns = ", ".join(make_excerpt(name) for name in list(record)[:5])
            raise Misfit(
                f"no column {shape.first_column}; the record has {columns or 'none'}"
            )
        return shape.read(record)

    def choose(self, record: Record) -> Shape:
        """Return the first shape that fits or, where none does, the one that lacks least."""
        for shape in self.shapes:
            if shape.fits(record):
                return shape
        return max(self.shapes, key=lambda shape: shape.count_parts(record))

    def describe(self, filled: Collection[str]) -> str:
        """How the file is read, and what else would fit; `filled` are columns with values."""
        first, *others = (shape.describe(filled) for shape in self.shapes)
        alternatives = [f"; rows without it {other}" for other in others]
        return f"{first}{''.join(alternatives)}{self.note}"

    @property
    def uses(self) -> dict[str, str]:
        """What each column is read as."""
        uses: dict[str, str] = {}
        # What the first shape reads a column as is what counts.
        for shape in reversed(self.shapes):
            for part, column in shape.columns.items():
                uses[column] = "conversation" if part == "messages" else part
        return uses


def recognise(sample: Sequence[Record], data: DataParams, where: str) -> FileShape:
    """Return the shape of the file `where` whose first records are given.

    `NoSuchColumn` where the columns are of no shape, `UnreadableData` where they are of two that
    give different rows, or where this is data of another kind.
    """
    every = sample_values(sample)
    filled = {name: values for name, values in every.items() if values}
    # Columns that are empty so far count only where nothing else fits.
    candidates = _candidates(filled, data) or _candidates(every, data)
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
            present = ", ".join(sorted(make_excerpt(name) for name in columns))
            raise NoSuchColumn(
                f"{where} has no column {column}; it has {present}. "
                f"Name the right one with `--set data.{parameter}=…`."
            )


def find_alpaca(values: Values, data: DataParams) -> Shape | None:
    """Return the Alpaca shape that the columns have; None where they lack a part of it."""
    chosen = _chosen(data)
    prompt = find_column(values, chosen.get("prompt_column", "instruction"))
    outputs = (
        (chosen["completion_column"],) if "completion_column" in chosen else OUTPUTS
    )
    # Beside a prompt, `completion` is the answer to that.
    if find_column(values, "prompt") is None:
        outputs = (*outputs, "completion")
    completion = _first(values, outputs)
    if prompt is None or completion is None:
        return None
    columns = {"prompt": prompt, "completion": completion}
    optional = {"input": INPUTS, "system": SYSTEMS, "history": ("history",)}
    for part, names in optional.items():
        # The usual name where there is none: a later record may have it.
        column = _first(values, names) or names[0]
        if column not in columns.values():
            columns[part] = column
    return Shape("alpaca", columns)


def _candidates(values: Values, data: DataParams) -> list[Shape]:
    finders: dict[ShapeName, Callable[[Values, DataParams], Shape | None]] = {
        "pairs": _find_pair,
        "trl": _find_pair,
        "chat": _find_chat,
        "sharegpt": _find_chat,
        "alpaca": find_alpaca,
    }
    names: tuple[ShapeName, ...] = ("pairs", "chat", "alpaca")
    if data.shape is not None:
        names = (data.shape,)
    elif _chosen(data):
        names = ("pairs",)
    elif data.messages_column != DEFAULT_MESSAGES:
        names = ("chat",)
    shapes = [finders[name](values, data) for name in names]
    return [shape for shape in shapes if shape is not None]


def _settle(candidates: list[Shape], sample: Sequence[Record], where: str) -> FileShape:
    """Keep the shapes that read something, in their order; refuse two that disagree."""
    examples = {
        shape.name: [_try(shape, record) for record in sample] for shape in candidates
    }
    working = [shape for shape in candidates if any(examples[shape.name])]
    shapes = working or candidates[:1]
    first, *others = shapes
    note = ""
    for other in others:
        both = zip(examples[first.name], examples[other.name], strict=True)
        pairs = [(one, two) for one, two in both if one and two]
        if any(not _is_same(one, two) for one, two in pairs):
            both_ways = make_printable(f"{first.describe()} and {other.describe()}")
            raise UnreadableData(
                f"{where} can be {both_ways}, which give "
                f"different rows. Say which with `--set data.shape={first.name}` or "
                f"`--set data.shape={other.name}`."
            )
        if pairs:
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


def _is_same(one: Example, two: Example) -> bool:
    texts = [
        normalise_text(f"{text_of(example.messages)}\n{example.completion}")
        for example in (one, two)
    ]
    return texts[0] == texts[1]


def _find_pair(values: Values, data: DataParams) -> Shape | None:
    prompt = find_column(values, data.prompt_column)
    completion = find_column(values, data.completion_column)
    if prompt is None or completion is None:
        return None
    columns = {"prompt": prompt, "completion": completion}
    has_turns = any(_has_turns(values[column]) for column in columns.values())
    is_trl = has_turns if data.shape is None else data.shape == "trl"
    return Shape("trl" if is_trl else "pairs", columns)


def _find_chat(values: Values, data: DataParams) -> Shape | None:
    column = _find_conversations(values, data)
    if column is None:
        return None
    columns = {"messages": column}
    columns["system"] = _first(values, SYSTEMS) or SYSTEMS[0]
    turns = [entry for entry in values[column] if is_conversation(entry)]
    is_sharegpt = bool(turns) and has_dialect(turns[0], ("from",))
    return Shape("sharegpt" if is_sharegpt else "chat", columns)


def _find_conversations(values: Values, data: DataParams) -> str | None:
    named = find_column(values, data.messages_column)
    others = () if data.messages_column != DEFAULT_MESSAGES else CONVERSATIONS
    # First one that holds turns; a column of that name without any is set aside row by row.
    for name in (data.messages_column, *others):
        column = find_column(values, name)
        if column is not None and any(map(is_conversation, values[column])):
            return column
    return named


def _has_turns(entries: Sequence[Any]) -> bool:
    lists = [entry for entry in entries if not isinstance(entry, str)]
    if any(map(is_conversation, lists)):
        return True
    # Text may begin with a bracket: all of it has to be turns.
    texts = [entry for entry in entries if isinstance(entry, str)]
    return bool(texts) and all(map(is_conversation, texts))


def _first(values: Values, names: Sequence[str]) -> str | None:
    columns = (find_column(values, name) for name in names)
    return next((column for column in columns if column is not None), None)


def _chosen(data: DataParams) -> dict[str, str]:
    """Return the text columns that somebody named in place of the usual ones."""
    named = {name: getattr(data, name) for name in DEFAULTS}
    return {name: column for name, column in named.items() if column != DEFAULTS[name]}
