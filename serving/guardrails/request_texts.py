"""Every text of a request's body that a model would read, wherever the body holds it."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Change = Callable[[str], str]


def change_texts(body: bytes, change: Change) -> bytes:
    """The body with every text changed; the very same bytes where no text is another one.

    A body that is no request is given back as it is: whoever reads it says what is wrong.
    """
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict) and _change_document(document, change):
            return json.dumps(document).encode()
    return body


def texts_in(body: bytes) -> frozenset[str]:
    """Every text, each once."""
    texts: set[str] = set()

    def keep(text: str) -> str:
        texts.add(text)
        return text

    change_texts(body, keep)
    return frozenset(texts)


def has_token_ids(body: bytes) -> bool:
    """Whether its prompt is numbers, in which nobody can look for a text."""
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        prompt = document.get("prompt") if isinstance(document, dict) else None
        return isinstance(prompt, list) and any(
            not isinstance(part, str) for part in prompt
        )
    return False


def count_choices(body: bytes) -> int:
    """How many answers it asks for: `n` of each prompt; 1 where it is no request."""
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict):
            return _count_each(document) * _count_prompts(document.get("prompt"))
    return 1


def _count_each(document: dict[str, Any]) -> int:
    asked = document.get("n")
    return asked if isinstance(asked, int) and asked > 0 else 1


def _count_prompts(prompt: Any) -> int:
    if not isinstance(prompt, list) or not prompt:
        return 1
    # Numbers are the tokens of one prompt.
    return 1 if isinstance(prompt[0], int) else len(prompt)


def _change_document(document: dict[str, Any], change: Change) -> bool:
    """Change it in place; gives whether anything is another one now."""
    changes = [_change_at(document, name, change) for name in ("prompt", "suffix")]
    messages = document.get("messages")
    turns = messages if isinstance(messages, list) else []
    changes += [_change_turn(turn, change) for turn in turns if isinstance(turn, dict)]
    return any(changes)


def _change_turn(turn: dict[str, Any], change: Change) -> bool:
    """Change what one turn of a conversation says."""
    parts = turn.get("content")
    texts = _texts_of_parts(parts)
    if texts is None:
        return _change_at(turn, "content", change)
    # A model reads the parts as one text: looked at one by one, nothing would be found in a
    # number that is cut in two.
    text = "".join(texts)
    changed = change(text)
    if changed == text:
        return False
    turn["content"] = [{"type": "text", "text": changed}]
    return True


def _texts_of_parts(parts: Any) -> list[str] | None:
    """The texts of a list of parts; None where it is anything else, which no engine takes."""
    if not isinstance(parts, list):
        return None
    found = [part.get("text") for part in parts if isinstance(part, dict)]
    texts = [text for text in found if isinstance(text, str)]
    return texts if len(texts) == len(parts) else None


def _change_at(holder: dict[str, Any], name: str, change: Change) -> bool:
    """Change a text, a list of texts, or a list of parts with texts."""
    content = holder.get(name)
    if isinstance(content, str):
        changed = change(content)
        holder[name] = changed
        return changed != content
    if not isinstance(content, list):
        return False
    changes = []
    for place, part in enumerate(content):
        if isinstance(part, dict):
            changes.append(_change_at(part, "text", change))
        elif isinstance(part, str):
            content[place] = change(part)
            changes.append(content[place] != part)
    return any(changes)
