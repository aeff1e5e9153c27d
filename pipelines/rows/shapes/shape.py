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
from pipelines.rows.shapes.turns import (
    Example,
    Turn,
    is_conversation,
    read_conversation,
    read_history,
    read_turns,
    split_answer,
    system_turn,
)
from pipelines.values.dataset import Message
from pipelines.values.reading import ShapeName

TITLES: dict[ShapeName, str] = {
    "pairs": "prompt and completion",
    "trl": "TRL conversational prompt/completion",
    "chat": "OpenAI chat",
    "sharegpt": "ShareGPT",
    "alpaca": "Alpaca",
}


@dataclass(frozen=True)
class Shape:
    """A name, and the column of each part: prompt, input, completion, messages, system, history."""

    name: ShapeName
    columns: dict[str, str]

    def fits(self, record: Record) -> bool:
        """Whether a record has every part that a row of this shape needs."""
        return self.count_parts(record) == len(self._required)

    def count_parts(self, record: Record) -> int:
        """Count the needed parts that a record has."""
        return sum(self._has_part(record, part) for part in self._required)

    @property
    def first_column(self) -> str:
        """The column that a record without any needed part is said to lack."""
        return self.columns[self._required[0]]

    def has_any_column(self, record: Record) -> bool:
        """Whether a record has a column of a needed part, be it empty."""
        needed = [self.columns[part] for part in self._required]
        return any(has_column(record, column) for column in needed)

    def read(self, record: Record) -> Example:
        """Return what a record teaches; `Misfit`, with the key in the way, where it does not."""
        return _READERS[self.name](record, self.columns)

    def describe(self, filled: Collection[str] | None = None) -> str:
        """How the file is read, as `read as Alpaca: prompt = instruction + input, …`.

        Parts whose columns are not among the filled ones are left out; None: all are there.
        """
        parts = {
            part: column.strip()
            for part, column in self.columns.items()
            if part in self._required or filled is None or column in filled
        }
        return f"read as {TITLES[self.name]}{self._describe_parts(parts)}"

    def _describe_parts(self, parts: dict[str, str]) -> str:
        system = f", system = {parts['system']}" if "system" in parts else ""
        if self.name == "sharegpt":
            turns = f"{parts['messages']} of from/value"
            return f": {turns}, the last gpt turn is the answer{system}"
        if self.name == "chat":
            column = parts["messages"]
            where = "" if column == "messages" else f" in {column}"
            return f": the last assistant turn{where} is the answer{system}"
        if parts == {"prompt": "prompt", "completion": "completion"}:
            return ""
        halves = [parts[part] for part in ("prompt", "input") if part in parts]
        prompt = " + ".join(halves)
        history = f", earlier turns = {parts['history']}" if "history" in parts else ""
        answer = parts["completion"]
        return f": prompt = {prompt}, completion = {answer}{system}{history}"

    @property
    def _required(self) -> tuple[str, ...]:
        return ("messages",) if "messages" in self.columns else ("prompt", "completion")

    def _has_part(self, record: Record, part: str) -> bool:
        if not is_missing(pick(record, self.columns[part])):
            return True
        # An instruction may stand in the input alone.
        is_prompt = part == "prompt" and "input" in self.columns
        return is_prompt and not is_blank(pick(record, self.columns["input"]))


def _read_pair(record: Record, columns: dict[str, str]) -> Example:
    prompt = read_text(record, columns["prompt"])
    completion = read_text(record, columns["completion"])
    message = Message(role="user", content=prompt)
    return Example((message,), completion)


def _read_alpaca(record: Record, columns: dict[str, str]) -> Example:
    """The instruction, an empty line, and the input where there is one."""
    parts = [_read_optional(record, columns, part) for part in ("prompt", "input")]
    present = [part for part in parts if part]
    if not present:
        # Says what is there instead of an instruction.
        read_text(record, columns["prompt"])
    turns: list[Turn] = []
    system = _read_optional(record, columns, "system")
    if system:
        turns.append(Turn("system", system))
    history = pick(record, columns["history"]) if "history" in columns else None
    if not is_blank(history):
        turns += read_history(history, columns["history"])
    turns.append(Turn("user", "\n\n".join(present)))
    completion = read_text(record, columns["completion"])
    turns.append(Turn("assistant", completion))
    return split_answer(turns, columns["completion"])


def _read_trl(record: Record, columns: dict[str, str]) -> Example:
    prompt = _read_side(record, columns["prompt"], "user")
    completion = _read_side(record, columns["completion"], "assistant")
    return split_answer((*prompt, *completion), columns["completion"])


def _read_side(record: Record, column: str, role: Any) -> tuple[Turn, ...]:
    """Return the turns of a prompt or of a completion, either of which may be plain text."""
    entry = pick(record, column)
    is_text = isinstance(entry, str) and not is_conversation(entry)
    if is_text or is_missing(entry):
        return (Turn(role, read_text(record, column)),)
    return read_turns(entry, column)


def _read_chat(record: Record, columns: dict[str, str]) -> Example:
    column = columns["messages"]
    if not has_column(record, column):
        raise Misfit(f"no column {column}")
    conversation = pick(record, column)
    system = _read_optional(record, columns, "system")
    if not system:
        return read_conversation(conversation, column)
    turns = read_turns(conversation, column)
    if turns[0].role != "system":
        return split_answer((system_turn(system, columns["system"]), *turns), column)
    if turns[0].content.strip() == system.strip():
        return split_answer(turns, column)
    raise Misfit(
        f"column {columns['system']} and the first turn of {column} are two system texts"
    )


_READERS: dict[ShapeName, Callable[[Record, dict[str, str]], Example]] = {
    "pairs": _read_pair,
    "trl": _read_trl,
    "chat": _read_chat,
    "sharegpt": _read_chat,
    "alpaca": _read_alpaca,
}


def read_text(record: Record, column: str) -> str:
    """Return a column's text; `Misfit` where it is missing, no text, or unfit."""
    if not has_column(record, column):
        raise Misfit(f"no column {column}")
    entry = pick(record, column)
    if not isinstance(entry, str):
        raise Misfit(f"column {column} is {describe_type(entry)}, not text")
    return check_text(entry, column)


def _read_optional(record: Record, columns: dict[str, str], part: str) -> str:
    """Return the text of a part that a record may lack; empty where it does."""
    if part not in columns or is_blank(pick(record, columns[part])):
        return ""
    return read_text(record, columns[part])
