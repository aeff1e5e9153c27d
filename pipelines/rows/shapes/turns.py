"""Conversations, as OpenAI, ShareGPT and TRL write them, to a prompt and its answer.

One rule says what is learned: the last assistant turn whose weight is not 0. Turns before it are
the prompt. Turns after it can only be answers of weight 0 with what led to them: they are left out,
and the row says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.rows.formats import parse_json
from pipelines.rows.misfit import Misfit, check_text, describe_type, is_blank
from pipelines.rows.shapes.columns import fold_name
from pipelines.rows.text import make_excerpt
from pipelines.values.dataset import Message, Role

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
}
TOOL_ROLES = frozenset(
    {
        "tool",
        "tools",
        "function",
        "function_call",
        "function_response",
        "tool_call",
        "tool_response",
        "tool_result",
        "observation",
        "ipython",
        "environment",
    }
)
TOOL_KEYS = ("tool_calls", "tool_call", "function_call", "tool_call_id")
# What they hold belongs to the turn and is no text that a template could render.
OTHER_CONTENT_KEYS = ("refusal", "audio", "image", "images", "video", "videos", "files")
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value")
TEXT_PARTS = ("text", "input_text", "output_text")
# A conversation may be one level deeper: {"messages": [...]}.
CONVERSATION_KEYS = ("messages", "conversations", "conversation")


@dataclass(frozen=True)
class Example:
    """What a record teaches, and what a person should know of how it was read."""

    messages: tuple[Message, ...]
    completion: str
    remarks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation; `is_learnable` is False for an answer of weight 0."""

    role: Role
    content: str
    is_learnable: bool = True
    remarks: frozenset[str] = frozenset()


def read_conversation(
    conversation: Any, column: str, before: Sequence[Turn] = ()
) -> Example:
    """Return the prompt and the answer of a conversation; `Misfit` where it has none."""
    turns = read_turns(conversation, column)
    return split_answer((*before, *turns), column)


def read_turns(conversation: Any, column: str) -> tuple[Turn, ...]:
    """Return the turns of a list, or of JSON text that holds one, as in CSV."""
    entries = list_entries(conversation, column)
    return tuple(_read_turn(entry, column) for entry in entries)


def list_entries(conversation: Any, column: str) -> Sequence[Any]:
    """Return the list of turns; `Misfit` where the value holds none."""
    entries = conversation
    if isinstance(entries, str):
        try:
            entries = parse_json(entries)
        except ValueError as error:
            raise Misfit(f"column {column}: {error}") from error
    if isinstance(entries, dict):
        entries = _unwrap(entries)
    if not isinstance(entries, list | tuple):
        raise Misfit(f"column {column} is not a list of messages")
    if not entries:
        raise Misfit(f"column {column} is an empty list of messages")
    return entries


def is_conversation(entry: Any) -> bool:
    """Whether a value is a list of turns, or JSON text that holds one."""
    # Text is parsed only where it can be a list.
    if isinstance(entry, str) and entry.lstrip()[:1] not in {"[", "{"}:
        return False
    try:
        entries = list_entries(entry, "")
    except Misfit:
        return False
    return all(isinstance(turn, dict) and _has_role(turn) for turn in entries)


def has_dialect(entry: Any, keys: Sequence[str]) -> bool:
    """Whether the first turn of a conversation has a key of a dialect, such as `from`."""
    first = list_entries(entry, "")[0]
    return any(fold_name(key) in keys for key in first)


def split_answer(turns: Sequence[Turn], column: str) -> Example:
    """Return what comes before the answer to learn, and the answer; `Misfit` without one."""
    if turns[-1].role != "assistant":
        raise Misfit(
            f"column {column} does not end with an assistant's answer, "
            f"but with a turn of role {turns[-1].role}"
        )
    place = _find_answer(turns, column)
    answer, prompt = turns[place], turns[:place]
    if all(turn.role == "assistant" for turn in prompt):
        raise Misfit(f"column {column} has no turn of a user before the answer")
    remarks = set().union(*(turn.remarks for turn in turns[: place + 1]))
    if any(turn.role == "assistant" for turn in prompt):
        remarks.add("earlier answers are context and are not learned")
    if place + 1 < len(turns):
        remarks.add("turns after the last answer of weight 1 are left out")
    return Example(
        messages=tuple(
            Message(role=turn.role, content=turn.content) for turn in prompt
        ),
        completion=answer.content,
        remarks=frozenset(remarks),
    )


def _find_answer(turns: Sequence[Turn], column: str) -> int:
    for place in reversed(range(len(turns))):
        turn = turns[place]
        if turn.role == "assistant" and turn.is_learnable:
            return place
    raise Misfit(f"column {column} has weight 0 on every answer: none is to be learned")


def _read_turn(entry: Any, column: str) -> Turn:
    fields = _read_fields(entry, column)
    role_key = _choose(fields, ROLE_KEYS, column)
    _refuse_tools(fields, fields[role_key], column)
    role = _read_role(fields[role_key], column)
    content_key = _choose(fields, CONTENT_KEYS, column)
    content, is_joined = _read_content(fields[content_key], column)
    remarks = set()
    if is_joined:
        remarks.add("parts of text are joined")
    if str(fields[role_key]).strip().casefold() == "developer":
        remarks.add("the role developer is read as system")
    known = {role_key, content_key}
    is_learnable = True
    if role == "assistant" and "weight" in fields:
        known.add("weight")
        is_learnable = _read_weight(fields["weight"], column)
    for key in sorted(fields.keys() - known):
        remarks.add(f"the key {make_excerpt(key)[:40]} of a turn is not used")
    return Turn(role, content, is_learnable, frozenset(remarks))


def _read_fields(entry: Any, column: str) -> dict[str, Any]:
    """Return what a turn says by plain key; content alone may be empty.

    Tools that write conversations give every turn every key: one that is null says nothing.
    """
    if not isinstance(entry, dict):
        kind = "a list" if isinstance(entry, list) else describe_type(entry)
        raise Misfit(
            f"column {column} holds something that is not a message with a role and a "
            f"content, but {kind}"
        )
    fields: dict[str, Any] = {}
    for key, value in entry.items():
        name = fold_name(key)
        if is_blank(value) and name not in CONTENT_KEYS:
            continue
        if name in fields:
            raise Misfit(f"column {column} holds a message with two keys {name}")
        fields[name] = value
    return fields


def _choose(fields: dict[str, Any], names: Sequence[str], column: str) -> str:
    for name in names:
        if name in fields:
            return name
    # What the turn has instead shows which format this is.
    present = ", ".join(make_excerpt(key)[:40] for key in sorted(fields)[:8])
    raise Misfit(
        f"column {column} holds a message without {' or '.join(names)}; "
        f"it has {present or 'nothing'}"
    )


def _refuse_tools(fields: dict[str, Any], role: Any, column: str) -> None:
    for key in TOOL_KEYS:
        if key in fields:
            raise Misfit(f"column {column} holds {key}: turns with tools are not read")
    plain_role = fold_name(role) if isinstance(role, str) else ""
    if plain_role in TOOL_ROLES:
        raise Misfit(
            f"column {column} holds a turn of role {plain_role}: "
            "turns with tools are not read"
        )
    for key in OTHER_CONTENT_KEYS:
        if key in fields:
            raise Misfit(f"column {column} holds a turn with {key}: only text is read")


def _read_role(role: Any, column: str) -> Role:
    plain = fold_name(role) if isinstance(role, str) else ""
    if plain in ROLES:
        return ROLES[plain]
    shown = make_excerpt(str(role))[:40]
    raise Misfit(
        f"column {column} holds a turn of role {shown}, "
        "which is none of system, user and assistant"
    )


def _read_content(content: Any, column: str) -> tuple[str, bool]:
    """Return the text, and whether it was joined from parts."""
    if isinstance(content, str):
        return check_text(content, column), False
    if isinstance(content, list | tuple) and content:
        # As the endpoint joins them, so that what is learned is what is asked.
        text = "".join(_read_part(part, column) for part in content)
        return check_text(text, column), len(content) > 1
    if isinstance(content, list | tuple):
        raise Misfit(f"column {column} holds a message with an empty list as content")
    raise Misfit(
        f"column {column} holds a message whose content is "
        f"{describe_type(content)}, not text"
    )


def _read_part(part: Any, column: str) -> str:
    if isinstance(part, str):
        return part
    fields = part if isinstance(part, dict) else {}
    kind = fields.get("type", "text" if "text" in fields else None)
    text = fields.get("text")
    if kind in TEXT_PARTS and isinstance(text, str):
        return text
    shown = make_excerpt(str(kind))[:40] if kind else describe_type(part)
    raise Misfit(
        f"column {column} holds a part of content that is {shown}: only text is read"
    )


def _read_weight(weight: Any, column: str) -> bool:
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = -1.0
    if number not in {0.0, 1.0}:
        shown = make_excerpt(str(weight))[:40]
        raise Misfit(
            f"column {column} holds a weight of {shown}, where 0 or 1 is meant"
        )
    return bool(number)


def _unwrap(entries: dict[str, Any]) -> Any:
    present = [key for key in CONVERSATION_KEYS if key in entries]
    # Another key beside it would be lost.
    if len(present) == len(entries) == 1:
        return entries[present[0]]
    return entries


def _has_role(turn: dict[str, Any]) -> bool:
    names = {fold_name(key) for key in turn}
    return any(name in names for name in ROLE_KEYS)


def system_turn(text: str, column: str) -> Turn:
    """Return what a column of its own says to the model before the conversation."""
    return Turn("system", check_text(text, column))


def read_history(history: Any, column: str) -> Iterable[Turn]:
    """Yield the turns of earlier exchanges: a list of [prompt, answer].

    `Misfit` where it holds anything else.
    """
    if not isinstance(history, list | tuple):
        raise Misfit(f"column {column} is not a list of [prompt, answer]")
    roles: tuple[Role, Role] = ("user", "assistant")
    for exchange in history:
        is_pair = isinstance(exchange, list | tuple) and len(exchange) == 2
        if not is_pair or not all(isinstance(text, str) for text in exchange):
            raise Misfit(f"column {column} is not a list of [prompt, answer]")
        for role, text in zip(roles, exchange, strict=True):
            yield Turn(role, check_text(text, column))
