"""One shape: the columns that hold prompt and answer, and how a record of it is read."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pipelines.rows.formats import Record
from pipelines.rows.misfit import (
    Misfit,
    check_text,
    describe_type,
    is_blank,
    is_missing,
)
from pipelines.rows.shapes.columns import has_column, pick
from pipelines.rows.shapes.content import Turn
from pipelines.rows.shapes.turns import (
    Example,
    is_conversation,
    read_history,
    read_turns,
    split_answer,
)
from pipelines.values.dataset import Message, Role
from pipelines.values.reading import ShapeName

TITLES: dict[ShapeName, str] = {
    "pairs": "prompt and completion",
    "trl": "TRL conversational prompt/completion",
    "chat": "OpenAI chat",
    "sharegpt": "ShareGPT",
    "alpaca": "Alpaca",
}
# These names say everything: they are not repeated.
USUAL_PAIR = {"prompt": "prompt", "completion": "completion"}

Columns = dict[str, str]
"""The column of each part: prompt, input, completion, messages, system, history."""


@dataclass(frozen=True)
class Shape:
    """A name, and the columns of its parts."""

    name: ShapeName
    columns: Columns

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns without which a record is no row of this shape."""
        if "messages" in self.columns:
            return (self.columns["messages"],)
        return (
            self.columns["prompt"],
            self.columns["completion"],
        )

    def fits(self, record: Record) -> bool:
        """Whether a record has every part that a row of this shape needs."""
        wanted = len(self.needed)
        return self.count_parts(record) == wanted

    def count_parts(self, record: Record) -> int:
        """Count the needed parts that a record has."""
        parts = 0
        for column in self.needed:
            if self._has_part(record, column):
                parts += 1
        return parts

    def has_any_column(self, record: Record) -> bool:
        """Whether a record has a column of a needed part, be it empty."""
        return any(has_column(record, column) for column in self.needed)

    def read(self, record: Record) -> Example:
        """Return what a record teaches; `Misfit`, with the key in the way, where it does not."""
        reader = _READERS[self.name]
        return reader(record, self.columns)

    def describe(self, filled: Collection[str] | None = None) -> str:
        """How the file is read, as `read as Alpaca: prompt = instruction + input, …`.

        Parts whose columns are not among the filled ones are left out; None: all are there.
        """
        parts: Columns = {}
        for part, column in self.columns.items():
            if column in self.needed or filled is None or column in filled:
                parts[part] = column.strip()
        details = self._describe_parts(parts)
        return f"read as {TITLES[self.name]}{details}"

    def _describe_parts(self, parts: Columns) -> str:
        system = _describe_part(parts, "system", "system")
        if self.name == "sharegpt":
            column = parts["messages"]
            turns = f"{column} of from/value"
            return f": {turns}, the last gpt turn is the answer{system}"
        if self.name == "chat":
            column = parts["messages"]
            # The usual column needs no name.
            where = "" if column == "messages" else f" in {column}"
            return f": the last assistant turn{where} is the answer{system}"
        if parts == USUAL_PAIR:
            return ""
        prompt = parts["prompt"]
        if "input" in parts:
            prompt = f"{prompt} + {parts['input']}"
        answer = parts["completion"]
        history = _describe_part(parts, "history", "earlier turns")
        return f": prompt = {prompt}, completion = {answer}{system}{history}"

    def _has_part(self, record: Record, column: str) -> bool:
        entry = pick(record, column)
        if not is_missing(entry):
            return True
        # An instruction may stand in the input alone.
        given = self.columns.get("input")
        if given is None or column != self.columns["prompt"]:
            return False
        return not is_blank(pick(record, given))


def read_text(record: Record, column: str) -> str:
    """Return a column's text; `Misfit` where it is missing, no text, or unfit."""
    if not has_column(record, column):
        raise Misfit(f"no column {column}")
    entry = pick(record, column)
    if not isinstance(entry, str):
        kind = describe_type(entry)
        raise Misfit(f"column {column} is {kind}, not text")
    return check_text(entry, column)


def _describe_part(parts: Columns, part: str, name: str) -> str:
    if part not in parts:
        return ""
    return f", {name} = {parts[part]}"


def _read_pair(record: Record, columns: Columns) -> Example:
    prompt = read_text(record, columns["prompt"])
    completion = read_text(record, columns["completion"])
    # A prompt of plain text is what one user says.
    message = Message(
        role="user",
        content=prompt,
    )
    return Example((message,), completion)


def _read_alpaca(record: Record, columns: Columns) -> Example:
    """The instruction, an empty line, and the input where there is one."""
    instruction = _read_optional(record, columns, "prompt")
    given = _read_optional(record, columns, "input")
    if not instruction and not given:
        # Says what is there in place of an instruction.
        instruction = read_text(record, columns["prompt"])
    # Either may be empty, and the line between them with it.
    prompt = "\n\n".join(filter(None, (instruction, given)))
    turns: list[Turn] = []
    system = _read_optional(record, columns, "system")
    if system:
        turns.append(Turn("system", system))
    turns += _read_earlier_turns(record, columns)
    turns.append(Turn("user", prompt))
    # By the same rule as a conversation, since there may be earlier turns.
    column = columns["completion"]
    completion = read_text(record, column)
    turns.append(Turn("assistant", completion))
    return split_answer(turns, column)


def _read_earlier_turns(record: Record, columns: Columns) -> list[Turn]:
    column = columns.get("history")
    if column is None:
        return []
    history = pick(record, column)
    if is_blank(history):
        return []
    return list(read_history(history, column))


def _read_trl(record: Record, columns: Columns) -> Example:
    column = columns["completion"]
    prompt = _read_side(record, columns["prompt"], "user")
    completion = _read_side(record, column, "assistant")
    conversation = (*prompt, *completion)
    return split_answer(conversation, column)


def _read_side(record: Record, column: str, role: Role) -> tuple[Turn, ...]:
    """Return the turns of a prompt or of a completion, either of which may be plain text."""
    entry: Any = pick(record, column)
    # Read even where it is no conversation: the reason then says what it is.
    is_list = isinstance(entry, list | tuple | dict)
    if is_list or is_conversation(entry):
        return read_turns(entry, column)
    text = read_text(record, column)
    return (Turn(role, text),)


def _read_chat(record: Record, columns: Columns) -> Example:
    column = columns["messages"]
    if not has_column(record, column):
        raise Misfit(f"no column {column}")
    conversation = pick(record, column)
    turns = read_turns(conversation, column)
    system = _read_optional(record, columns, "system")
    # A column of its own, as LLaMA-Factory and Anthropic write it.
    first = turns[0]
    if system and first.role != "system":
        turns = (Turn("system", system), *turns)
    elif system and first.content.strip() != system.strip():
        raise Misfit(
            f"column {columns['system']} and the first turn of {column} "
            "are two system texts"
        )
    return split_answer(turns, column)


_READERS: dict[ShapeName, Callable[[Record, Columns], Example]] = {
    "pairs": _read_pair,
    "trl": _read_trl,
    "chat": _read_chat,
    "sharegpt": _read_chat,
    "alpaca": _read_alpaca,
}


def _read_optional(record: Record, columns: Columns, part: str) -> str:
    """Return the text of a part that a record may lack; empty where it does."""
    column = columns.get(part)
    if column is None:
        return ""
    entry = pick(record, column)
    if is_blank(entry):
        return ""
    return read_text(record, column)
