"""What is said of a file whose columns are of no shape: what it is, and what would read it."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from core.errors import NoSuchColumn, UnreadableData
from pipelines.rows.shapes.columns import find_column, find_first_column, list_names
from pipelines.rows.shapes.turns import begins_with_prompt, is_conversation
from pipelines.rows.text import make_excerpt
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
# The same for answers; both lists are only used to suggest, never to read.
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
PLAIN_TEXTS = ("text", "content")
# The better and the worse answer, as TRL and as OpenAI name them.
PREFERENCES = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),
)
JUDGEMENT = "label"
# What each shape cannot do without.
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
    present = list_names(every)
    if data.shape is not None:
        raise NoSuchColumn(
            f"{where} has no columns for data.shape {data.shape}, which needs "
            f"{NEEDS[data.shape]}; it has {present}. Set data.shape to null to have the "
            "shape recognised."
        )
    # From here on nobody named a shape, and none was found.
    missing, parameter = _find_missing(every, data)
    lack = f"{where} has no column {missing}; it has {present}"
    # Whoever named a column of prompts means those.
    if data.prompt_column == "prompt":
        _suggest_conversations(filled, lack)
        _refuse_plain_text(filled, where)
    suggestion = _suggest_pair(filled, data)
    if suggestion is None:
        suggestion = f"Name the right one with `--set data.{parameter}=…`."
    raise NoSuchColumn(f"{lack}. {suggestion}")


def _refuse_preferences(filled: Values, where: str) -> None:
    for better, worse in PREFERENCES:
        chosen = find_column(filled, better)
        rejected = find_column(filled, worse)
        if chosen is None or rejected is None:
            continue
        raise UnreadableData(
            f"{where} is preference data (columns {better} and {worse}), and Assay learns "
            f"one answer to a prompt. {_suggest_chosen(filled, chosen)}"
        )


def refuse_judged_answers(filled: Values, where: str) -> None:
    """Raise `UnreadableData` for answers that are marked as good or bad one by one.

    TRL calls it unpaired preference: half of the answers are there not to be learned.
    """
    column = find_column(filled, JUDGEMENT)
    if column is None:
        return
    entries = filled[column]
    if all(isinstance(entry, bool) for entry in entries):
        raise UnreadableData(
            f"{where} is preference data (its column {JUDGEMENT} marks each answer as good or "
            "bad), and Assay learns every answer. Keep the rows with good answers, or learn "
            "all with `--set data.shape=pairs`."
        )


def _suggest_chosen(filled: Values, chosen: str) -> str:
    """How to learn the better answers alone."""
    parameter = None
    if find_column(filled, "prompt") is not None:
        parameter = "completion_column"
    # A whole conversation holds its prompt, too.
    if any(map(begins_with_prompt, filled[chosen])):
        parameter = "messages_column"
    if parameter is None:
        return "Give each row a prompt and its better answer."
    typed = f"--set data.{parameter}={_quote(chosen)}"
    return f"To learn the chosen ones alone, `{typed}`."


def _suggest_conversations(filled: Values, lack: str) -> None:
    for name, entries in filled.items():
        if any(map(is_conversation, entries)):
            column = make_excerpt(name)
            raise NoSuchColumn(
                f"{lack}. Its column {column} holds conversations: read them with "
                f"`--set data.messages_column={_quote(name)}`."
            )


def _refuse_plain_text(filled: Values, where: str) -> None:
    texts = _list_texts(filled)
    plain = find_first_column(texts, PLAIN_TEXTS)
    answer = find_first_column(texts, ANSWER_NAMES)
    # Beside an answer, a text may be the prompt.
    if plain is None or answer is not None:
        return
    column = make_excerpt(plain)
    raise NoSuchColumn(
        f"{where} has no column prompt, only plain text in the column {column}, "
        "and Assay learns answers to prompts. "
        "Divide each text into a prompt and a completion."
    )


def _find_missing(every: Values, data: DataParams) -> tuple[str, str]:
    """The first needed column that is not there, and the parameter that names it."""
    if data.messages_column != "messages" and data.prompt_column == "prompt":
        return data.messages_column, "messages_column"
    if find_column(every, data.prompt_column) is None:
        return data.prompt_column, "prompt_column"
    return data.completion_column, "completion_column"


def _suggest_pair(filled: Values, data: DataParams) -> str | None:
    """The settings that read two of the columns; None where their names do not say which."""
    texts = _list_texts(filled)
    prompt = find_first_column(texts, (data.prompt_column, *PROMPT_NAMES))
    # One column cannot be both.
    others = [name for name in texts if name != prompt]
    answer = find_first_column(others, (data.completion_column, *ANSWER_NAMES))
    if prompt is None or answer is None:
        return None
    settings = []
    if prompt != data.prompt_column:
        settings.append(f"--set data.prompt_column={_quote(prompt)}")
    if answer != data.completion_column:
        settings.append(f"--set data.completion_column={_quote(answer)}")
    typed = " ".join(settings)
    return (
        f"Read {make_excerpt(prompt)} as the prompt and "
        f"{make_excerpt(answer)} as the answer with `{typed}`."
    )


def _list_texts(filled: Values) -> list[str]:
    """The columns that hold text alone."""
    texts = []
    for name, entries in filled.items():
        is_text = all(isinstance(entry, str) for entry in entries)
        if entries and is_text:
            texts.append(name)
    return texts


def _quote(column: str) -> str:
    """A column's name as it is typed in a shell."""
    shown = make_excerpt(column)
    is_plain = shown.replace("_", "").isalnum()
    return shown if is_plain else f"'{shown}'"
