"""What is wrong with a request, in one sentence for people. No word of pydantic's is in it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipelines.engines.refusal import Refusal

# Characters of a value that an error message quotes.
_LONGEST_SHOWN = 40


def explain_refusal(error: ValidationError, schema: type[BaseModel]) -> Refusal:
    """The first problem in one sentence for people: the field, what it is, what to send."""
    # One is enough: whoever mends it hears of the next one.
    problem = error.errors(include_url=False)[0]
    path = tuple(problem["loc"])
    if not path:
        needed = [
            name for name, each in schema.model_fields.items() if each.is_required()
        ]
        return Refusal(
            f"The body is {_describe_body_fault(problem)}: "
            f"send a JSON object with {' and '.join(needed)}.",
            code="invalid_json",
        )
    # A path may hold names that the client made up, of any length.
    where = ".".join(str(part) for part in path)[:100]
    if problem["type"] == "extra_forbidden":
        return Refusal(
            f"{where} is not served here: leave it out.",
            code="unsupported_parameter",
            param=where,
        )
    field = _field_at(schema, path)
    if problem["type"] == "missing":
        return Refusal(
            f"{where} is missing: {field.description}.",
            code="invalid_value",
            param=str(path[0]),
        )
    # `unserved` marks its fields.
    is_served = not isinstance(field.json_schema_extra, dict)
    value = _describe_value(problem["input"])
    return Refusal(
        f"{where} is {value}: {field.description}.",
        code="invalid_value" if is_served else "unsupported_parameter",
        param=str(path[0]),
    )


def _describe_body_fault(problem: ErrorDetails) -> str:
    if problem["type"] != "json_invalid":
        return _describe_value(problem["input"])
    # The parser's own words, without any of the body's.
    context = problem.get("ctx", {})
    fault = str(context.get("error", ""))
    shown = fault[:100]
    return f"not valid JSON ({shown})"


def _field_at(schema: type[BaseModel], path: Sequence[int | str]) -> FieldInfo:
    """The innermost field of the request on that path."""
    model = schema
    field = next(iter(schema.model_fields.values()))
    names = (name for name in path if isinstance(name, str))
    for name in names:
        found = _named_field(model, name)
        # Below here are names that the client made up, as in `metadata`.
        if found is None:
            break
        field = found
        inner = next(_models_in(field.annotation), None)
        if inner is None:
            break
        model = inner
    return field


def _named_field(model: type[BaseModel], name: str) -> FieldInfo | None:
    """The field that clients call so."""
    for own_name, field in model.model_fields.items():
        if name == (field.alias or own_name):
            return field
    return None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The kinds of objects that a field may hold, in lists or by themselves."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _describe_value(value: Any) -> str:
    """What was sent, short enough for a sentence."""
    if isinstance(value, str):
        if len(value) > _LONGEST_SHOWN:
            return f"a text of {len(value)} characters"
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    # Python refuses to print integers of thousands of digits.
    if isinstance(value, int) and abs(value) >= 10**_LONGEST_SHOWN:
        return "a number that is too large"
    return json.dumps(value)
