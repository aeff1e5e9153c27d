"""Which JSON Schemas a request may hold: none that an engine could not stand."""

import json
from typing import Any

import pytest

from serving.openai_schema.answer_schema import (
    DEEPEST,
    LONGEST,
    MOST_VALUES,
    check_answer_schema,
)
from serving.openai_schema.chat import parse_request
from serving.refusal import Refusal

INTEGER = {"type": "integer"}


def fields(**properties: Any) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required}


def chain(length: int) -> dict[str, Any]:
    """References one behind the other."""
    parts = {
        f"d{number}": fields(a={"$ref": f"#/$defs/d{number + 1}"})
        for number in range(length)
    }
    parts[f"d{length}"] = INTEGER
    return {"$ref": "#/$defs/d0", "$defs": parts}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = INTEGER
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def doubling(depth: int) -> dict[str, Any]:
    """Each part has the next one twice: unfolded it is two to the power of `depth`."""
    parts: dict[str, Any] = {
        f"d{number}": {
            "allOf": [
                {"$ref": f"#/$defs/d{number + 1}"},
                {"$ref": f"#/$defs/d{number + 1}"},
            ]
        }
        for number in range(depth)
    }
    parts[f"d{depth}"] = INTEGER
    return {"$ref": "#/$defs/d0", "$defs": parts}


NODE = {"$ref": "#/$defs/node"}
NULL = {"type": "null"}


def recursive(node: dict[str, Any]) -> dict[str, Any]:
    return {**NODE, "$defs": {"node": node}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        fields(a=INTEGER),
        # Names of properties, which are none of the words.
        fields(**{"$ref": INTEGER, "anyOf": INTEGER, "items": INTEGER}),
        chain(20),
        nested(100),
        doubling(30),
        recursive(fields(next={"anyOf": [NODE, NULL]})),
        recursive({"type": "object", "properties": {"next": NODE}}),
        recursive(
            {"type": ["object", "null"], "properties": {"a": NODE}, "required": ["a"]}
        ),
        recursive(fields(rest={"type": "array", "items": NODE})),
        {"enum": ["x"] * (MOST_VALUES - 10)},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"required": "a", "allOf": 5, "anyOf": {}, "type": "object", "properties": []},
    ],
)
def test_what_an_engine_can_stand_is_taken(schema: dict[str, Any]) -> None:
    check_answer_schema(schema)


@pytest.mark.parametrize(
    ("schema", "fact"),
    [
        ({"description": "x" * LONGEST}, "characters"),
        ({"enum": [1] * MOST_VALUES}, "values"),
        (nested(DEEPEST), "levels"),
        (chain(200), "levels"),
        ({"$ref": "http://127.0.0.1:1/x.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"$ref": ["#"]}, "nothing is fetched"),
        ({"items": {"$ref": "other.json#/a"}}, "nothing is fetched"),
        ({"$ref": "#/$defs/none"}, "not in it"),
        ({"$ref": "#none"}, "not in it"),
        ({"$ref": "#"}, "requires itself"),
        (fields(a={"$ref": "#"}), "requires itself"),
        (recursive(fields(next=NODE)), "requires itself"),
        (recursive({"type": "array", "items": NODE, "minItems": 1}), "requires itself"),
        (recursive({"anyOf": [fields(a=NODE), fields(b=NODE)]}), "requires itself"),
        (recursive({"allOf": [fields(a=INTEGER), fields(b=NODE)]}), "requires itself"),
        (
            recursive({"type": "array", "prefixItems": [NODE], "minItems": 2}),
            "requires itself",
        ),
    ],
)
def test_what_it_could_not_is_refused_at_once(
    schema: dict[str, Any], fact: str
) -> None:
    with pytest.raises(Refusal) as refused:
        check_answer_schema(schema)
    assert fact in str(refused.value)
    assert refused.value.param == "response_format"


def asked(**response_format: Any) -> bytes:
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "a", "messages": messages, "response_format": response_format}
    return json.dumps(body).encode()


def described(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def test_a_request_says_what_its_answer_is_to_match() -> None:
    assert parse_request(asked(type="text")).answer_schema is None
    of_object = parse_request(asked(type="json_object")).answer_schema
    assert json.loads(of_object or "") == {"type": "object"}
    # Properties of an answer come in this order.
    schema = fields(b=INTEGER, a=INTEGER)
    request = parse_request(asked(**described(schema)))
    assert request.answer_schema == json.dumps(schema)


def test_a_request_with_a_schema_out_of_bounds_is_refused() -> None:
    with pytest.raises(Refusal, match="nothing is fetched"):
        parse_request(asked(**described({"$ref": "http://127.0.0.1:1/"})))


def test_a_body_that_is_all_schema_is_refused_before_it_is_searched() -> None:
    with pytest.raises(Refusal):
        parse_request(asked(**described({"enum": list(range(150_000))})))
