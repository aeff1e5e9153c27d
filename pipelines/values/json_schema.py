"""A JSON schema that a run may set: which ones are taken, so that none is hostile.

A schema comes from whoever sets a parameter, and is checked against answers that a model wrote.
Without these limits a small one asks the network, never ends, or unfolds into millions of checks.
"""

import json
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

LONGEST = 20_000
"""Characters of the schema as JSON."""
MOST_CHECKS = 2_000
"""Objects of the schema, with every `$ref` unfolded."""
DEEPEST = 40
_NOT_TAKEN = {
    # Both are read elsewhere, or at a place that depends on the answer.
    "$id": "other places",
    "$anchor": "other places",
    "$dynamicRef": "other places",
    "$dynamicAnchor": "other places",
    "$recursiveRef": "other places",
    # A regular expression can take years over forty letters.
    "pattern": "regular expressions",
    "patternProperties": "regular expressions",
    # Each of them checks once more what is below it: twenty levels are a million checks.
    "unevaluatedProperties": "such checks",
    "unevaluatedItems": "such checks",
}
_TEXTS = frozenset(word for word in _NOT_TAKEN if word[0] == "$") | {"pattern"}
"""Those that say a text, so that a property of such a name can be told from them."""
_INSIDE = "#/"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Give the schema back where it is harmless; a `ValueError` says why it is not."""
    try:
        text = json.dumps(schema, allow_nan=False)
    # A date or a NaN of YAML, or a document that holds itself.
    except (TypeError, ValueError, RecursionError) as error:
        raise _problem("holds what no JSON can hold") from error
    if len(text) > LONGEST:
        raise _problem(f"has over {LONGEST} characters")
    left = [MOST_CHECKS]
    _walk(schema, schema, left, DEEPEST)
    _check_form(schema)
    return schema


def _walk(node: Any, whole: dict[str, Any], left: list[int], depth: int) -> None:
    """Count every object as often as a validator can come to it."""
    left[0] -= 1
    if left[0] < 0:
        raise _problem(f"unfolds into over {MOST_CHECKS} parts")
    # A `$ref` to what it stands in never ends.
    if depth < 0:
        raise _problem(f"is more than {DEEPEST} levels deep, or holds itself")
    if isinstance(node, list):
        for entry in node:
            _walk(entry, whole, left, depth - 1)
    if not isinstance(node, dict):
        return
    _check_words(node)
    for entry in node.values():
        _walk(entry, whole, left, depth - 1)
    reference = node.get("$ref")
    if reference is not None:
        target = _resolve(reference, whole)
        # It may stand where anything may, such as in an example, which no draft checks.
        if not isinstance(reference, dict):
            _check_form(target)
        _walk(target, whole, left, depth - 1)


def _check_words(node: dict[str, Any]) -> None:
    draft = node.get("$schema", _DRAFT)
    # Below the top, too: another draft has words of its own, such as one that names an address.
    if draft != _DRAFT and not isinstance(draft, dict):
        raise _problem(f"is of another draft than {_DRAFT}, or a part of it is")
    for word, reason in _NOT_TAKEN.items():
        setting = node.get(word)
        if word not in node:
            continue
        # A property may have such a name: what it says is an object then.
        is_property = isinstance(setting, dict) and word in _TEXTS
        if not is_property:
            raise _problem(f"has {word}; schemas with {reason} are not taken")


def _resolve(reference: Any, whole: dict[str, Any]) -> Any:
    """The part of the schema that a `$ref` names; it never names another file or address."""
    # A property with the name `$ref`.
    if isinstance(reference, dict):
        return reference
    if reference == "#":
        return whole
    text = reference if isinstance(reference, str) else ""
    if not text.startswith(_INSIDE):
        raise _problem("has a $ref to another file or address")
    node: Any = whole
    for step in text.removeprefix(_INSIDE).split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or key not in node:
            raise _problem(f"has a $ref to {text[:60]}, which is not in it")
        node = node[key]
    return node


def _check_form(schema: Any) -> None:
    """Whether it is a schema of the draft that counts."""
    # Imported where a schema is set: nearly no run sets one.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise _problem(f"is no JSON schema: {error.message[:200]}") from error


def _problem(fact: str) -> PydanticCustomError:
    # It holds braces, which the message's template would fill in.
    return PydanticCustomError("json_schema", "the JSON schema {fact}", {"fact": fact})


JsonSchema = Annotated[dict[str, Any], AfterValidator(check_schema)]
