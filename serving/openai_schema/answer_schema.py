"""A JSON Schema that an answer is to match: its bounds, before anything is made of it.

Only what an engine could not stand is refused here: which words of JSON Schema it knows, an engine
says itself.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.engines.refusal import Refusal

LONGEST = 65_536
"""Characters of the schema as JSON."""
MOST_VALUES = 3_000
"""Objects, lists, texts and numbers in it, at any depth."""
DEEPEST = 200
"""Levels of the schema and of every part that a `$ref` names, all together.

An engine follows them one inside of the other, and its stack has an end.
"""
_MOST_STEPS = 20_000
_INSIDE = "#/"

Schema = dict[str, Any]


def check_answer_schema(schema: Schema) -> None:
    """Return only if an engine may be asked to hold answers to it; a `Refusal` says why not."""
    if len(json.dumps(schema)) > LONGEST:
        raise _refuse(f"has over {LONGEST} characters")
    count = sum(1 for _ in _values_in(schema))
    if count > MOST_VALUES:
        raise _refuse(f"has over {MOST_VALUES} values")
    references = _references_in(schema)
    parts = [schema, *(_resolve(each, schema) for each in references)]
    _check_depth(parts)
    if _Search(schema).is_endless(schema, frozenset("#")):
        raise _refuse("requires itself inside of itself, so that no answer could end")


def _values_in(node: Any) -> Iterator[Any]:
    """Everything in it, itself included."""
    # A list of what is left, so that no depth ends in a RecursionError.
    waiting = [node]
    while waiting:
        here = waiting.pop()
        yield here
        waiting += _children(here)


def _children(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else ()


def _references_in(schema: Schema) -> list[str]:
    """Every `$ref`, once; `Refusal` where one leads out of the schema."""
    references: dict[str, None] = {}
    for node in _values_in(schema):
        reference = node.get("$ref") if isinstance(node, dict) else None
        # A property may have that name: it is an object then.
        if reference is None or isinstance(reference, dict):
            continue
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _refuse(
                "has a $ref to another file or address, and nothing is fetched"
            )
        references[reference] = None
    return list(references)


def _resolve(reference: str, schema: Schema) -> Any:
    """What a `$ref` names."""
    node: Any = schema
    if reference == "#":
        return node
    for step in reference.removeprefix(_INSIDE).split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or key not in node:
            raise _refuse(f"has a $ref to {reference[:60]}, which is not in it")
        node = node[key]
    return node


def _check_depth(parts: Sequence[Any]) -> None:
    levels = 0
    for part in parts:
        levels += _depth(part)
        # At once: thousands of references may name the same large part.
        if levels > DEEPEST:
            raise _refuse(f"has over {DEEPEST} levels, its references included")


def _depth(node: Any) -> int:
    """Levels of objects and lists."""
    depth = 0
    level = [node]
    while level:
        depth += 1
        level = [child for each in level for child in _children(each)]
    return depth


class _Search:
    """Looks for an answer that could end, through every `$ref`."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._left = _MOST_STEPS

    def is_endless(self, node: Any, inside: frozenset[str]) -> bool:
        """Whether what it requires leads back to a reference that it is `inside` of."""
        self._left -= 1
        # So large that nobody knows: `max_tokens` ends its answers.
        if not isinstance(node, dict) or self._left < 0:
            return False
        needed = [*self._required_parts(node), *_list_at(node, "allOf")]
        if any(self.is_endless(part, inside) for part in needed):
            return True
        for word in ("anyOf", "oneOf"):
            choices = _list_at(node, word)
            if choices and all(self.is_endless(each, inside) for each in choices):
                return True
        return self._leads_back(node.get("$ref"), inside)

    def _leads_back(self, reference: Any, inside: frozenset[str]) -> bool:
        if not isinstance(reference, str):
            return False
        if reference in inside:
            return True
        target = _resolve(reference, self._schema)
        return self.is_endless(target, inside | {reference})

    def _required_parts(self, node: Schema) -> list[Any]:
        """Schemas of what stands in every answer."""
        properties = node.get("properties")
        if node.get("type") == "object" and isinstance(properties, dict):
            names = _list_at(node, "required")
            # Each is looked at, also where it leads nowhere.
            self._left -= len(names)
            return [properties[name] for name in names if _is_key(name, properties)]
        fewest = node.get("minItems")
        if node.get("type") == "array" and isinstance(fewest, int) and fewest > 0:
            first = _list_at(node, "prefixItems")[:fewest]
            return first or [node.get("items")]
        return []


def _list_at(node: Schema, word: str) -> list[Any]:
    listed = node.get(word)
    return listed if isinstance(listed, list) else []


def _is_key(name: Any, properties: Schema) -> bool:
    return isinstance(name, str) and name in properties


def _refuse(fact: str) -> Refusal:
    return Refusal(
        f"The JSON Schema in response_format {fact}: send another one.",
        code="invalid_value",
        param="response_format",
    )
