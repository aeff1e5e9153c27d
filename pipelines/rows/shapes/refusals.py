"""What is said of a file whose columns are of no shape: what it is, and what would read it."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from core.errors import NoSuchColumn, UnreadableData
from pipelines.rows.shapes.columns import find_column
from pipelines.rows.shapes.turns import is_conversation
from pipelines.rows.text import make_excerpt, make_printable
from pipelines.values.params import DataParams

# In the order in which a file that has several of them is understood.
PROMPT_NAMES = (
    "prompt",
    "question",
    "query",
    "problem",
    "instruction",
    "input",
    "inputs",
    "source",
    "user",
    "human",
    "request",
    "document",
    "article",
    "text",
)
ANSWER_NAMES = (
    "completion",
    "response",
    "answer",
    "output",
    "outputs",
    "solution",
    "target",
    "targets",
    "assistant",
    "reply",
    "summary",
    "highlights",
)
NEEDS = {
    "pairs": "a prompt and a completion",
    "trl": "a prompt and a completion",
    "chat": "a list of messages",
    "sharegpt": "a list of from/value turns",
    "alpaca": "an instruction and an output",
}

Values = Mapping[str, Sequence[Any]]


def refuse_columns(
    filled: Values, every: Values, data: DataParams, where: str
) -> NoReturn:
    """Raise for columns of no shape, with the setting that would read them.

    `UnreadableData` for data of another kind (preferences, plain text), else `NoSuchColumn`.
    """
    _refuse_preferences(filled, where)
    present = ", ".join(sorted(make_excerpt(name) for name in every))
    if data.shape is not None:
        raise NoSuchColumn(
            f"{where} has no columns for data.shape {data.shape}, which needs "
            f"{NEEDS[data.shape]}; it has {present}. Set data.shape to null to have the "
            "shape recognised."
        )
    conversations = [
        name for name, values in filled.items() if any(map(is_conversation, values))
    ]
    missing = _find_missing(every, data)
    column = make_excerpt(conversations[0]) if conversations else ""
    if column and data.prompt_column == "prompt":
        raise NoSuchColumn(
            f"{where} has no column {missing[0]}; it has {present}. Its column "
            f"{column} holds conversations: read them with "
            f"`--set data.messages_column={_quote(column)}`."
        )
    _refuse_plain_text(filled, where)
    raise NoSuchColumn(
        f"{where} has no column {missing[0]}; it has {present}. "
        f"{_suggest(filled, data, missing[1])}"
    )


def _refuse_preferences(filled: Values, where: str) -> None:
    chosen, rejected = (find_column(filled, name) for name in ("chosen", "rejected"))
    if chosen is None or rejected is None:
        return
    is_turns = any(map(is_conversation, filled[chosen]))
    parameter = "messages_column" if is_turns else "completion_column"
    raise UnreadableData(
        f"{where} is preference data (columns chosen and rejected), and Assay learns "
        f"one answer to a prompt. To learn the chosen ones alone, "
        f"`--set data.{parameter}={_quote(chosen)}`."
    )


def _refuse_plain_text(filled: Values, where: str) -> None:
    texts = _text_columns(filled)
    if [name.strip().casefold() for name in texts] in (["text"], ["content"]):
        raise NoSuchColumn(
            f"{where} has no column prompt, only plain text in the column {make_excerpt(texts[0])}, and "
            "Assay learns answers to prompts. Divide each text into a prompt and a completion."
        )


def _find_missing(every: Values, data: DataParams) -> tuple[str, str]:
    """The first needed column that is not there, and the parameter that names it."""
    if data.messages_column != "messages" and data.prompt_column == "prompt":
        return data.messages_column, "messages_column"
    if find_column(every, data.prompt_column) is None:
        return data.prompt_column, "prompt_column"
    return data.completion_column, "completion_column"


def _suggest(filled: Values, data: DataParams, parameter: str) -> str:
    """The settings that read these columns, or how to name them."""
    texts = _text_columns(filled)
    prompt = find_column(texts, data.prompt_column) or _first(texts, PROMPT_NAMES)
    others = [name for name in texts if name != prompt]
    answer = find_column(others, data.completion_column)
    answer = answer or _first(others, ANSWER_NAMES)
    if prompt is None or answer is None:
        return f"Name the right one with `--set data.{parameter}=…`."
    named = {"prompt_column": prompt, "completion_column": answer}
    settings = [
        f"--set data.{name}={_quote(column)}"
        for name, column in named.items()
        if column != getattr(data, name)
    ]
    named_columns = make_printable(f"{prompt} as the prompt and {answer} as the answer")
    return f"Read {named_columns} with `{' '.join(settings)}`."


def _text_columns(filled: Values) -> list[str]:
    return [
        name
        for name, values in filled.items()
        if values and all(isinstance(entry, str) for entry in values)
    ]


def _first(columns: Sequence[str], names: Sequence[str]) -> str | None:
    found = (find_column(columns, name) for name in names)
    return next((column for column in found if column is not None), None)


def _quote(column: str) -> str:
    shown = make_excerpt(column)
    return shown if shown.replace("_", "").isalnum() else f"'{shown}'"
