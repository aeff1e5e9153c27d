"""Conversations, as OpenAI, ShareGPT and TRL write them, to a prompt and its answer.

One rule says what is learned: the last assistant turn whose weight is not 0. Turns before it are
the prompt. Turns after it can only be answers of weight 0 with what led to them: they are left out,
and the row says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.rows.formats import parse_json
from pipelines.rows.misfit import Misfit, check_text
from pipelines.rows.shapes.columns import fold_name
from pipelines.rows.shapes.content import Turn, has_role, read_turn
from pipelines.rows.text import make_excerpt
from pipelines.values.dataset import Message

# A conversation may be one level deeper: {"messages": [...]}.
CONVERSATION_KEYS = ("messages", "conversations", "conversation")
# How Python prints a list of dictionaries, which pandas writes into CSV.
PYTHON_LIST = "[{'"


@dataclass(frozen=True)
class Example:
    """What a record teaches, and what a person should know of how it was read."""

    messages: tuple[Message, ...]
    completion: str
    remarks: frozenset[str] = frozenset()


def read_turns(conversation: Any, column: str) -> tuple[Turn, ...]:
    """Return the turns of a list, or of JSON text that holds one, as in CSV.

    `Misfit` where the value holds no list, or a turn that cannot be learned.
    """
    document = _parse_text(conversation, column)
    entries = _unwrap(document)
    if not isinstance(entries, list | tuple):
        raise Misfit(f"column {column} is not a list of messages")
    if not entries:
        raise Misfit(f"column {column} is an empty list of messages")
    # The first turn that is in the way gives the reason: one is enough.
    turns = [read_turn(entry, column) for entry in entries]
    remarks = _remark_on_keys(document)
    # Turns carry what is to be said; the list itself is gone afterwards.
    if remarks:
        first = turns[0]
        turns[0] = replace(first, remarks=first.remarks | remarks)
    return tuple(turns)


def find_first_turn(conversation: Any) -> dict[str, Any] | None:
    """Return the first turn of a conversation as it is written; None where it is none.

    Every entry has to say who speaks: another list of objects is no conversation.
    """
    # Text is parsed only where it can be a list.
    if isinstance(conversation, str) and not _may_be_json(conversation):
        return None
    try:
        document = _parse_text(conversation, "")
    except Misfit:
        return None
    # Not read_turns: a conversation with a tool in it still is one.
    entries = _unwrap(document)
    if not isinstance(entries, list | tuple) or not entries:
        return None
    if not all(map(has_role, entries)):
        return None
    first: dict[str, Any] = entries[0]
    return first


def is_conversation(entry: Any) -> bool:
    """Whether a value is a list of turns, or JSON text that holds one."""
    return find_first_turn(entry) is not None


def is_sharegpt(conversation: Any) -> bool:
    """Whether a conversation is written in ShareGPT's keys."""
    first = find_first_turn(conversation)
    if first is None:
        return False
    return "from" in map(fold_name, first)


def begins_with_prompt(conversation: Any) -> bool:
    """Whether a conversation begins with a turn of somebody else than the assistant."""
    first = find_first_turn(conversation)
    if first is None:
        return False
    try:
        turn = read_turn(first, "")
    except Misfit:
        return False
    return turn.role != "assistant"


def split_answer(turns: Sequence[Turn], column: str) -> Example:
    """Return what comes before the answer to learn, and the answer; `Misfit` without one."""
    last = turns[-1]
    if last.role != "assistant":
        raise Misfit(
            f"column {column} does not end with an assistant's answer, "
            f"but with a turn of role {last.role}"
        )
    place = _find_answer(turns, column)
    answer = turns[place]
    prompt = turns[:place]
    roles = {turn.role for turn in prompt}
    # A system text alone asks for something; an earlier answer does not.
    if roles <= {"assistant"}:
        raise Misfit(f"column {column} has no turn of a user before the answer")
    remarks = set(answer.remarks)
    # Turns after the answer are left out, and with them what they lost.
    for turn in prompt:
        remarks |= turn.remarks
    if "assistant" in roles:
        remarks.add("earlier answers are context and are not learned")
    if answer is not last:
        remarks.add("turns after the last answer of weight 1 are left out")
    return Example(
        messages=_make_messages(prompt),
        completion=answer.content,
        remarks=frozenset(remarks),
    )


def read_history(history: Any, column: str) -> Iterator[Turn]:
    """Yield the turns of earlier exchanges: a list of [prompt, answer].

    `Misfit` where it holds anything else.
    """
    if not isinstance(history, list | tuple):
        raise Misfit(f"column {column} is not a list of [prompt, answer]")
    for exchange in history:
        if not _is_pair_of_texts(exchange):
            raise Misfit(f"column {column} is not a list of [prompt, answer]")
        asked, answered = exchange
        yield Turn("user", check_text(asked, column))
        yield Turn("assistant", check_text(answered, column))


def _find_answer(turns: Sequence[Turn], column: str) -> int:
    places = range(len(turns))
    for place in reversed(places):
        turn = turns[place]
        if turn.role == "assistant" and turn.is_learnable:
            return place
    raise Misfit(f"column {column} has weight 0 on every answer: none is to be learned")


def _make_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    messages = []
    for turn in turns:
        message = Message(role=turn.role, content=turn.content)
        messages.append(message)
    return tuple(messages)


def _parse_text(conversation: Any, column: str) -> Any:
    """Return what JSON text holds; another value is returned as it is."""
    if not isinstance(conversation, str):
        return conversation
    try:
        return parse_json(conversation)
    except ValueError as error:
        # The parser's words say nothing to who wrote CSV with pandas.
        if conversation.lstrip().startswith(PYTHON_LIST):
            raise Misfit(
                f"column {column} holds a list as Python prints it, not JSON: "
                "write it with json.dumps"
            ) from error
        raise Misfit(f"column {column}: {error}") from error


def _may_be_json(text: str) -> bool:
    beginning = text.lstrip()
    brackets = ("[", "{")
    return beginning.startswith(brackets)


def _unwrap(document: Any) -> Any:
    """Return the list inside an object such as {"messages": [...]}; anything else as it is."""
    if not isinstance(document, dict):
        return document
    # The first of the names that is there: more than one is said below.
    for key in CONVERSATION_KEYS:
        if key in document:
            return document[key]
    return document


def _remark_on_keys(document: Any) -> frozenset[str]:
    """Name the keys beside an inner list of messages: nothing reads them."""
    if not isinstance(document, dict):
        return frozenset()
    used = next((key for key in CONVERSATION_KEYS if key in document), None)
    remarks = set()
    for key in document:
        if key != used:
            shown = make_excerpt(key)
            remarks.add(f"the key {shown} beside the messages is not used")
    return frozenset(remarks)


def _is_pair_of_texts(exchange: Any) -> bool:
    if not isinstance(exchange, list | tuple):
        return False
    if len(exchange) != 2:
        return False
    return all(isinstance(text, str) for text in exchange)
