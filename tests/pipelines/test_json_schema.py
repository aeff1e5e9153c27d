"""Answers are held to a JSON schema, and a hostile schema is none."""

import json
import time
from typing import Any

import pytest
from pydantic import ValidationError

from core.errors import ParameterError
from pipelines.metrics import METRICS, metric_named
from pipelines.metrics.json_schema_valid import JsonSchemaValid
from pipelines.metrics.metric import ScoredRow
from pipelines.metrics.needless import describe_needless, needless_settings
from pipelines.scoring.evidence_file import read_evidence, write_evidence
from pipelines.values.json_schema import LONGEST, check_schema
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.params import parse_assignment, preview_override
from tests.support import trials

ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["colour", "size"],
    "additionalProperties": False,
    "properties": {"colour": {"$ref": "#/$defs/colour"}, "size": {"type": "integer"}},
    "$defs": {"colour": {"enum": ["red", "green"]}},
}
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
GOOD = '{"colour": "red", "size": 3}'


def settings(schema: dict[str, Any] | None) -> MetricSettings:
    return MetricSettings(json_schema=schema)


def is_valid(answer: str, schema: dict[str, Any] | None = ORDER) -> bool:
    metric = metric_named("json_schema_valid", settings(schema))
    row = ScoredRow(prompt_id="p", prediction=answer, references=(GOOD,))
    valid, weight = metric.row_statistics(row)
    assert weight == 1
    return valid == 1


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        (GOOD, True),
        (f"```json\n{GOOD}\n```", True),
        ('{"size": 3.0, "colour": "green"}', True),
        ('{"colour": "blue", "size": 3}', False),
        ('{"colour": "red"}', False),
        ('{"colour": "red", "size": "3"}', False),
        ('{"colour": "red", "size": true}', False),
        ('{"colour": "red", "size": 3, "more": 1}', False),
        ('{"colour": "red", "size": NaN}', False),
        (f"{GOOD} and more", False),
        ("", False),
        ("[]", False),
    ],
)
def test_an_answer_is_valid_where_the_schema_applies(
    answer: str, *, valid: bool
) -> None:
    assert is_valid(answer) is valid


def test_without_a_schema_any_json_is_valid() -> None:
    assert is_valid("[1]", None)
    assert not is_valid("no", None)


def test_a_number_that_no_float_holds_is_not_valid() -> None:
    assert not is_valid("9" * 400, {"multipleOf": 0.5})


def doubling(levels: int) -> dict[str, Any]:
    """A small schema of which each level is checked twice by the one above it."""
    definitions: dict[str, Any] = {"level0": {"type": "object"}}
    for level in range(1, levels):
        reference = {"$ref": f"#/$defs/level{level - 1}"}
        definitions[f"level{level}"] = {"allOf": [reference, reference]}
    return {"$defs": definitions, "$ref": f"#/$defs/level{levels - 1}"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "https://example.org/schema.json"}, "to another file or address"),
        ({"$ref": "file:///etc/passwd"}, "to another file or address"),
        ({"properties": {"a": {"$ref": "other.json#/a"}}}, "another file or address"),
        ({"$ref": 3}, "to another file or address"),
        ({"$ref": "#/$defs/nothing"}, "which is not in it"),
        ({"$id": "https://example.org/", "type": "object"}, "has \\$id"),
        ({"$dynamicRef": "#meta"}, "has \\$dynamicRef"),
        ({"$ref": "#"}, "holds itself"),
        ({"properties": {"next": {"$ref": "#"}}}, "holds itself"),
        (doubling(14), "unfolds into over 2000 parts"),
        ({"type": "string", "pattern": "^(a+)+$"}, "regular expressions"),
        ({"patternProperties": {"^(a+)+$": {}}}, "regular expressions"),
        ({"unevaluatedProperties": False}, "has unevaluatedProperties"),
        ({"type": "objekt"}, "is no JSON schema: 'objekt'"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "another draft"),
        # Where no draft looks, and a reference leads none the less.
        ({"$ref": "#/default", "default": {"type": "objekt"}}, "is no JSON schema"),
        ({"$ref": "#/default", "default": {"minimum": "3"}}, "is no JSON schema"),
        ({"$ref": "#/default", "default": {"pattern": {}}}, "is no JSON schema"),
        ({"$ref": "#/default", "default": ["string"]}, "is no JSON schema"),
        ({"$ref": "#/default", "default": 3}, "is no JSON schema"),
        # An older draft's `id` names an address, to which its references lead.
        (
            {"items": {"$schema": DRAFT_4, "id": "http://127.0.0.1/", "type": "null"}},
            "another draft",
        ),
        ({"const": float("nan")}, "what no JSON can hold"),
        ({"description": "x" * LONGEST}, "has over 20000 characters"),
    ],
)
def test_a_hostile_schema_is_refused_in_a_sentence(
    schema: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(schema)


def test_a_schema_that_holds_itself_in_memory_is_refused() -> None:
    schema: dict[str, Any] = {}
    schema["allOf"] = [schema]
    with pytest.raises(ValueError, match="what no JSON can hold"):
        check_schema(schema)


def test_properties_may_have_the_names_of_words() -> None:
    named = {"type": "string"}
    properties = {"pattern": named, "$ref": named, "$id": named, "$schema": named}
    schema = {"properties": properties}
    assert is_valid('{"pattern": "a", "$ref": "b"}', schema)
    assert not is_valid('{"pattern": 1}', schema)


def test_a_reference_may_have_escaped_steps() -> None:
    schema = {"$defs": {"a/b~c": {"const": 1}}, "$ref": "#/$defs/a~1b~0c"}
    assert is_valid("1", schema)
    assert not is_valid("2", schema)


@pytest.mark.parametrize(
    ("answer", "unique"),
    [
        ("[]", True),
        ('[1, true, "1", null, 0, false, "", [], {}, [1], [true]]', True),
        ('[{"a": [1]}, {"a": [true]}, {"a": {}}]', True),
        ("[1, 1.0]", False),
        ('[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]', False),
        ("[[null], [null]]", False),
        ('"aa"', True),
    ],
)
def test_entries_are_unique_where_no_two_are_equal(
    answer: str, *, unique: bool
) -> None:
    assert is_valid(answer, {"uniqueItems": True}) is unique
    assert is_valid(answer, {"uniqueItems": False})


def test_many_entries_that_are_objects_are_compared_at_once() -> None:
    entries = [{"a": number} for number in range(12_000)]
    begun = time.monotonic()
    assert is_valid(json.dumps(entries), {"uniqueItems": True})
    # Each with each would be over a minute.
    assert time.monotonic() - begun < 10


def test_the_signature_is_that_of_the_schemas_content() -> None:
    def signature(schema: dict[str, Any] | None) -> str:
        return JsonSchemaValid(schema).signature(())

    turned = dict(reversed(ORDER.items()))
    assert signature(ORDER) == signature(turned)
    looser = {**ORDER, "required": []}
    assert len({signature(ORDER), signature(looser), signature(None)}) == 3


def test_a_schema_counts_only_where_the_policy_names_it() -> None:
    references = [(GOOD,), (GOOD,)]
    own = JsonSchemaValid(ORDER)
    # What it takes to be let off is what the gate `screen` rejects otherwise.
    needless = needless_settings(own, JsonSchemaValid(), references)
    assert needless is not None
    assert needless.startswith("schema:")
    assert "set score.json_schema to null" in describe_needless(own.name, needless)
    assert needless_settings(JsonSchemaValid(), JsonSchemaValid(), references) is None


def test_it_applies_where_the_references_are_valid_themselves() -> None:
    metric = JsonSchemaValid(ORDER)
    assert metric.inapplicable([(GOOD,), (GOOD,), ("no",)]) is None
    note = metric.inapplicable([(GOOD,), ('{"colour": "blue", "size": 1}',)])
    assert note is not None
    assert note.startswith("1 of 2 prompts has a reference to which score.json_schema")
    without = JsonSchemaValid().inapplicable([("no",)])
    assert without is not None


def test_the_schema_is_a_parameter_and_stays_with_the_evidence() -> None:
    text = json.dumps(ORDER)
    name, schema = parse_assignment(f"score.json_schema={text}")
    params = preview_override(trials.PARAMS, {name: schema})
    assert params.score.settings.json_schema == ORDER
    evidence = trials.evidence().model_copy(update={"settings": params.score.settings})
    metric = evidence.metric_named("json_schema_valid")
    assert metric.signature(()) == JsonSchemaValid(ORDER).signature(())
    with pytest.raises(ParameterError, match="json_schema"):
        preview_override(trials.PARAMS, {name: {"$ref": "http://localhost/"}})


def test_evidence_is_read_with_the_schema_that_counted_it(tmp_path: Any) -> None:
    path = tmp_path / "evidence.parquet"
    for schema in (ORDER, None):
        given = trials.evidence().model_copy(update={"settings": settings(schema)})
        write_evidence(path, given)
        assert read_evidence(path).settings == settings(schema)


def test_it_is_one_of_the_metrics() -> None:
    assert "json_schema_valid" in [metric.name for metric in METRICS]
