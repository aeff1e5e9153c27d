"""Tool calls: the share of answers that call the right tools with the right arguments."""

import re
from collections.abc import Sequence
from typing import Any

from pipelines.metrics.json_answers import SIGNATURE, Leaf, NotJson, flatten, parse_json
from pipelines.metrics.metric import (
    FloatArray,
    References,
    ScoredRow,
    describe_unfit,
)
from pipelines.metrics.shares import share_of

_TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
Call = tuple[str, frozenset[Leaf]]


class ToolCall:
    """Share of answers, 0 to 1, that make exactly the calls of a reference, in its order.

    Names and arguments have to be the same; the order of arguments does not count. Where the
    reference calls nothing, an answer is right that calls nothing either: what it says is not
    compared.
    """

    name = "tool_call"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the calls are right, and one row."""
        answered = find_calls(row.prediction)
        wanted = [find_calls(text) for text in row.references]
        is_right = answered in wanted
        return float(is_right), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Right answers over rows."""
        return share_of(sums)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as a call, and as the same one."""
        forms = "name and arguments, function, tool_calls, <tool_call>"
        return f"reference:any|calls:all, in order|forms:{forms}|{SIGNATURE}"

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have a reference without a call."""
        return describe_unfit(
            references,
            find_calls,
            "a reference that calls no tool. Score json_field_f1 or chrf",
        )


def find_calls(text: str) -> tuple[Call, ...]:
    """The calls of an answer in their order; none where any of them cannot be read.

    One JSON object or a list of them, as OpenAI's API or Hermes' templates write calls: with
    `name` and `arguments`, also below `function`, `tool_calls`, or between `<tool_call>` tags.
    Arguments may be JSON in a string.
    """
    tagged = _TAGGED.findall(text)
    try:
        documents = [parse_json(part) for part in tagged or [text]]
        return tuple(
            _read_call(entry) for document in documents for entry in _entries(document)
        )
    # One broken call would be none for a caller, and so would those beside it.
    except NotJson:
        return ()


def _entries(document: Any) -> list[Any]:
    if isinstance(document, dict) and isinstance(document.get("tool_calls"), list):
        return list(document["tool_calls"])
    # Several calls at once, as models write them in parallel.
    if isinstance(document, list):
        return document
    return [document]


def _read_call(entry: Any) -> Call:
    # OpenAI's form, which says beside it that the kind of tool is a function.
    if isinstance(entry, dict) and isinstance(entry.get("function"), dict):
        entry = entry["function"]
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise NotJson("it names no tool")
    # Some templates leave them out where there are none.
    arguments = entry.get("arguments", {})
    if isinstance(arguments, str):
        # Of a call without any, some write an empty text.
        arguments = parse_json(arguments or "{}")
    if not isinstance(arguments, dict):
        raise NotJson("its arguments are no object")
    return name, flatten(arguments)
