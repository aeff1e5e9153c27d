"""One turn of a conversation: who says what, and what in it cannot be learned as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.rows.misfit import Misfit, check_text, describe_type, is_blank
from pipelines.rows.shapes.columns import fold_name
from pipelines.rows.text import make_short_excerpt
from pipelines.values.dataset import Role

# As OpenAI, ShareGPT, Open Assistant and Gemini name who speaks.
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
# A call and what came back: neither is a text between user and assistant.
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
TOOL_KEYS = (
    "tool_calls",
    "tool_call",
    "function_call",
    "tool_call_id",
)
# What they hold belongs to the turn and is no text that a template could render.
OTHER_CONTENT_KEYS = (
    "refusal",
    "audio",
    "image",
    "images",
    "video",
    "videos",
    "files",
)
ROLE_KEYS = ("role", "from")
# The last one is Gemini's.
CONTENT_KEYS = ("content", "value", "parts")
# The last two are those of OpenAI's newer interface.
TEXT_PARTS = ("text", "input_text", "output_text")

Fields = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation; `is_learnable` is False for an answer of weight 0."""

    role: Role
    content: str
    is_learnable: bool = True
    remarks: frozenset[str] = frozenset()


def read_turn(entry: Any, column: str) -> Turn:
    """Return a turn in OpenAI's or ShareGPT's keys; `Misfit` where it cannot be learned."""
    fields = _read_fields(entry, column)
    # What is read is taken out: what stays is said not to be used.
    role_key = _choose(fields, ROLE_KEYS, column)
    given_role = fields.pop(role_key)
    # Before the content: that of a tool call is null.
    _refuse_tools(fields, given_role, column)
    role = _read_role(given_role, column)
    content_key = _choose(fields, CONTENT_KEYS, column)
    content = fields.pop(content_key)
    is_learnable = True
    if role == "assistant":
        # Only answers are learned, so only they have a weight.
        weight = fields.pop("weight", 1)
        is_learnable = _read_weight(weight, column)
    return Turn(
        role=role,
        content=_read_content(content, column),
        is_learnable=is_learnable,
        remarks=_make_remarks(given_role, content, fields),
    )


def has_role(entry: Any) -> bool:
    """Whether a value looks like a turn: an object that says who speaks."""
    if not isinstance(entry, dict):
        return False
    names = set(map(fold_name, entry))
    return not names.isdisjoint(ROLE_KEYS)


def _read_fields(entry: Any, column: str) -> Fields:
    """Return what a turn says by plain key; content alone may be empty.

    Tools that write conversations give every turn every key: one that is null says nothing.
    """
    if not isinstance(entry, dict):
        kind = describe_type(entry)
        raise Misfit(
            f"column {column} holds something that is not a message with a role and a "
            f"content: it is {kind}"
        )
    fields: Fields = {}
    for key, value in entry.items():
        name = fold_name(key)
        if is_blank(value) and name not in CONTENT_KEYS:
            continue
        # Which of `role` and `Role` is meant, nobody can say.
        if name in fields:
            raise Misfit(f"column {column} holds a message with two keys {name}")
        fields[name] = value
    return fields


def _choose(fields: Fields, names: Sequence[str], column: str) -> str:
    for name in names:
        if name in fields:
            return name
    # What the turn has instead shows which format this is.
    present = "nothing"
    if fields:
        first = sorted(fields)[:8]
        present = ", ".join(map(make_short_excerpt, first))
    wanted = " or ".join(names[:2])
    raise Misfit(f"column {column} holds a message without {wanted}; it has {present}")


def _refuse_tools(fields: Fields, role: Any, column: str) -> None:
    plain_role = _fold_role(role)
    if plain_role in TOOL_ROLES:
        raise Misfit(
            f"column {column} holds a turn of role {plain_role}: "
            "turns with tools are not read"
        )
    # An answer may say something and call a tool.
    for key in TOOL_KEYS:
        if key in fields:
            raise Misfit(f"column {column} holds {key}: turns with tools are not read")
    for key in OTHER_CONTENT_KEYS:
        if key in fields:
            raise Misfit(f"column {column} holds a turn with {key}: only text is read")


def _read_role(role: Any, column: str) -> Role:
    plain_role = _fold_role(role)
    if plain_role in ROLES:
        return ROLES[plain_role]
    shown = make_short_excerpt(str(role))
    raise Misfit(
        f"column {column} holds a turn of role {shown}, "
        "which is none of system, user and assistant"
    )


def _fold_role(role: Any) -> str:
    if not isinstance(role, str):
        return ""
    return fold_name(role)


def _read_content(content: Any, column: str) -> str:
    if isinstance(content, str):
        return check_text(content, column)
    if not isinstance(content, list | tuple):
        kind = describe_type(content)
        raise Misfit(
            f"column {column} holds a message whose content is {kind}, not text"
        )
    if not content:
        raise Misfit(f"column {column} holds a message with an empty list as content")
    # As the endpoint joins them, so that what is learned is what is asked.
    texts = [_read_part(part, column) for part in content]
    return check_text("".join(texts), column)


def _read_part(part: Any, column: str) -> str:
    if isinstance(part, str):
        return part
    # A part that is a number or a list is named by its type below.
    fields = part if isinstance(part, dict) else {}
    text = fields.get("text")
    # Some write {"text": …} and no type.
    kind = fields.get("type", "text")
    if kind in TEXT_PARTS and isinstance(text, str):
        return text
    shown = describe_type(text)
    if kind not in TEXT_PARTS:
        shown = make_short_excerpt(str(kind))
    raise Misfit(
        f"column {column} holds a part of content that is {shown}: only text is read"
    )


def _read_weight(weight: Any, column: str) -> bool:
    """Whether an answer is to be learned; OpenAI's weight is 0 or 1."""
    try:
        number = float(weight)
    except (TypeError, ValueError, OverflowError):
        # No weight of any meaning: refused as every other one.
        number = -1.0
    if number == 0:
        return False
    if number == 1:
        return True
    shown = make_short_excerpt(str(weight))
    raise Misfit(f"column {column} holds a weight of {shown}, where 0 or 1 is meant")


def _make_remarks(role: Any, content: Any, others: Fields) -> frozenset[str]:
    """What a person should know of how a turn was read; `others` are keys that nothing reads."""
    remarks = set()
    if _fold_role(role) == "developer":
        remarks.add("the role developer is read as system")
    if not isinstance(content, str) and len(content) > 1:
        remarks.add("parts of text are joined")
    for key in others:
        shown = make_short_excerpt(key)
        remarks.add(f"the key {shown} of a turn is not used")
    return frozenset(remarks)
