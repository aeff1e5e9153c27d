"""Which JSON Schemas a request may hold: none that an engine could not stand."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.engines.refusal import Refusal
from serving.openai_schema.answer_schema import (
    DEEPEST,
    LONGEST,
    MOST_VALUES,
    check_answer_schema,
)
from serving.openai_schema.chat import parse_request

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


def nested(depth: int, innermost: dict[str, Any] = INTEGER) -> dict[str, Any]:
    schema = innermost
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


class CountedNames(list[str]):
    """A list that counts what is read of it."""

    read = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.read += 1
            yield name


def test_a_search_that_meets_many_names_again_and_again_ends() -> None:
    names = CountedNames(["other"] * (MOST_VALUES - 300))
    schema = doubling(14)
    leaf = {"type": "object", "properties": {"a": INTEGER}, "required": names}
    schema["$defs"]["d14"] = leaf
    check_answer_schema(schema)
    assert 0 < names.read < 50_000


class CountedFields(dict[str, Any]):
    """An object that counts how often it is read."""

    read = 0

    def values(self) -> Any:
        self.read += 1
        return super().values()


def test_a_part_under_many_names_is_not_measured_for_each_of_them() -> None:
    """In a reference `~` and `~0` are the same letter."""
    spellings = ["".join(each) for each in itertools.product(["~", "~0"], repeat=8)]
    bottom = CountedFields(type="integer")
    deep = nested(30, bottom)
    references = [{"$ref": f"#/{spelling}"} for spelling in spellings]
    with pytest.raises(Refusal, match="levels"):
        check_answer_schema({"~" * 8: deep, "anyOf": references})
    assert 0 < bottom.read < 20


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
