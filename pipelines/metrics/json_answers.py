"""JSON as an answer holds it: read strictly, and as leaves that can be compared.

Stricter than Python's reader, so that what counts here is read in the same way by everybody: no
key twice, no NaN or Infinity, nothing so deep or so long that a reader may give up.
"""

import json
import math
import re
from typing import Any

LONGEST = 200_000
"""Characters."""
DEEPEST = 64
_FENCE = "```"
_OPENING = re.compile(r"```[\w-]*[ \t]*")
# Possessive, and without its end a string as well: each letter is looked at once, whatever a model
# or a server writes. A string that never ends is no JSON anyway.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
SIGNATURE = (
    "json:strict|keys:once|numbers:finite, 1 is 1.0 and not true"
    f"|fence:one around all is taken off|depth:{DEEPEST}|characters:{LONGEST}"
)
Leaf = tuple[str, str, Any]
"""Path, kind and value."""


class NotJson(ValueError):
    """The text is no JSON that every reader reads in the same way."""


def parse_json(text: str) -> Any:
    """Read a whole answer; `NotJson` says why it is none.

    A code fence around all of it is taken off, as callers do.
    """
    body = strip_fence(text)
    if len(body) > LONGEST:
        raise NotJson(f"it has over {LONGEST} characters")
    # Before it is read: how deep Python's reader gets depends on who calls it.
    if _depth(body) > DEEPEST:
        raise NotJson(f"it is more than {DEEPEST} levels deep")
    try:
        return json.loads(
            body,
            object_pairs_hook=_without_repeated_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    # Of numbers with thousands of digits, too.
    except ValueError as error:
        raise NotJson(str(error)) from error


def is_json(text: str) -> bool:
    """Whether `parse_json` reads it."""
    try:
        parse_json(text)
    except NotJson:
        return False
    return True


def strip_fence(text: str) -> str:
    """The text without white space at its ends, and without a fence around all of it."""
    stripped = text.strip()
    opening, _, rest = stripped.partition("\n")
    # No expression over the whole: one that looks for the end takes hours on many spaces.
    is_fenced = _OPENING.fullmatch(opening) and rest.endswith(_FENCE)
    # Text beside a fence stays, and makes the answer invalid: a caller would trip over it.
    if not is_fenced:
        return stripped
    return rest.removesuffix(_FENCE).strip()


def leaves(text: str) -> frozenset[Leaf]:
    """Every value of the answer with its path; of a text that is no JSON, the text itself.

    Never empty: an empty object or list is a leaf. Entries of a list count by their place.
    """
    try:
        document = parse_json(text)
    except NotJson:
        return frozenset({("", "text", text.strip())})
    return flatten(document)


def flatten(document: Any) -> frozenset[Leaf]:
    """Every value of a document with its path."""
    found: set[Leaf] = set()
    # A list and no recursion, which a deep document would exhaust.
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        path, value = waiting.pop()
        children = _children(value)
        if children:
            # By its JSON, so that a key with a dot is no path.
            waiting += [(f"{path}/{key}", child) for key, child in children]
            continue
        found.add((path, *_scalar(value)))
    return frozenset(found)


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(json.dumps(key), child) for key, child in value.items()]
    # By place: an entry in another place is another value.
    if isinstance(value, list):
        return [(str(place), child) for place, child in enumerate(value)]
    return []


def _scalar(value: Any) -> tuple[str, Any]:
    """Kind and value: `1` is `1.0`, and neither is `true` or `"1"`."""
    # Before numbers: Python counts True as 1.
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        return "number", value
    if isinstance(value, str):
        return "string", value
    # A null that was asked for is an answer, and not a missing one.
    if value is None:
        return "null", None
    return type(value).__name__, "empty"


def _depth(text: str) -> int:
    """How deep brackets nest outside of strings."""
    # Brackets inside of strings nest nothing.
    outside = _STRING.sub("", text)
    deepest = depth = 0
    for sign in outside:
        if sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth -= 1
    return deepest


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    # Readers differ in which of the two counts.
    if len(document) < len(pairs):
        raise NotJson("it has a key twice")
    return document


def _refuse_constant(name: str) -> Any:
    # Python reads NaN and Infinity, and hardly any other reader does.
    raise NotJson(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    # 1e999 would be read as infinity.
    if not math.isfinite(number):
        # The beginning alone: a model can write digits without end.
        shown = digits[:20]
        raise NotJson(f"{shown} is no finite number")
    return number
