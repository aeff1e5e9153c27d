"""The shapes that a file's columns could have, in the order of preference."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.rows.shapes.columns import find_column, find_first_column
from pipelines.rows.shapes.shape import Columns, Shape
from pipelines.rows.shapes.turns import is_conversation, is_sharegpt
from pipelines.values.params import DataParams

if TYPE_CHECKING:
    from pipelines.values.reading import ShapeName

# What params.yaml says where nobody chose. Such a column may be missing; another name is a
# choice, and wins over what would be recognised.
USUAL_PROMPT = "prompt"
USUAL_COMPLETION = "completion"
USUAL_MESSAGES = "messages"
CONVERSATIONS: tuple[str, ...] = (
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "dialog",
    "chat",
    "contents",
)
INSTRUCTIONS: tuple[str, ...] = ("instruction",)
# Stanford's names, and those of Dolly.
INPUTS = ("input", "context", "inputs")
OUTPUTS = ("output", "response", "answer")
SYSTEMS = ("system", "system_prompt")
# Earlier exchanges, as LLaMA-Factory writes them.
HISTORIES = ("history",)

Values = Mapping[str, Sequence[Any]]
"""The first values of each column."""


def find_candidates(values: Values, data: DataParams) -> list[Shape]:
    """Return the shapes whose columns are there; the parameters may leave only one open."""
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
    # An answer may be called `response`, and an input too.
    if column not in columns.values():
        columns[part] = column


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
    names = CONVERSATIONS
    if data.messages_column != USUAL_MESSAGES:
        names = (data.messages_column,)
    # The first that holds conversations, whatever else has such a name.
    for name in names:
        column = find_column(values, name)
        if column is not None and any(map(is_conversation, values[column])):
            return column
    # Without a single conversation in it, its rows are set aside one by one.
    return find_column(values, data.messages_column)


def _has_turns(entries: Sequence[Any]) -> bool:
    """Whether a column of prompts or of answers holds conversations."""
    # A list counts at once; text has to be parsed to tell.
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
