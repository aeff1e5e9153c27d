"""JSON-schema validity: the share of answers that are JSON of the form that callers expect."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from core.files import digest_of_json
from pipelines.metrics.json_answers import SIGNATURE, NotJson, is_json, parse_json
from pipelines.metrics.json_valid import no_json
from pipelines.metrics.metric import (
    FloatArray,
    References,
    ScoredRow,
    describe_unfit,
)
from pipelines.metrics.shares import share_of

Check = Callable[[Any], bool]


class JsonSchemaValid:
    """Share of answers, 0 to 1, that are one JSON value to which the schema applies.

    The schema is the parameter `score.json_schema`; without one any JSON value is valid. Draft
    2020-12, as the library jsonschema reads it; `format` is no condition.
    """

    name = "json_schema_valid"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = False
    stand_in: str | None = None

    def __init__(self, schema: dict[str, Any] | None = None) -> None:
        self._schema = schema
        self._check: Check | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the answer is valid, and one row."""
        prediction = row.prediction
        is_valid = self._is_valid(prediction)
        return float(is_valid), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Valid answers over rows."""
        return share_of(sums)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts as JSON, and the digest of the schema."""
        schema = "none"
        if self._schema is not None:
            # Of the content: another order of keys is the same schema.
            digest = digest_of_json(self._schema)
            schema = digest[:12]
        return f"{SIGNATURE}|draft:2020-12|schema:{schema}"

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have a reference that is not valid itself."""
        if self._schema is None:
            return no_json(references)
        return describe_unfit(
            references,
            self._is_valid,
            "a reference to which score.json_schema does not apply. "
            "Correct the schema or the rows, or score json_valid",
        )

    def _is_valid(self, text: str) -> bool:
        if self._schema is None:
            return is_json(text)
        try:
            document = parse_json(text)
        except NotJson:
            return False
        if self._check is None:
            self._check = _compile(self._schema)
        return self._check(document)


def _compile(schema: dict[str, Any]) -> Check:
    """A check by the schema, built once for all rows."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    kind = extend(Draft202012Validator, {"uniqueItems": _unique_items})
    # No reference leaves it: the parameter takes no schema that has such a one.
    validator = kind(schema)

    def check(document: Any) -> bool:
        try:
            return bool(validator.is_valid(document))
        # Of numbers that no float can hold, against `multipleOf`.
        except OverflowError:
            return False

    return check


def _unique_items(
    validator: Any, is_asked: Any, document: Any, schema: Any
) -> Iterator[Exception]:
    """The rule `uniqueItems` in one pass: the library's own compares every entry with every one."""
    from jsonschema.exceptions import ValidationError

    del validator, schema
    if is_asked is not True or not isinstance(document, list):
        return
    distinct = {_hashable(entry) for entry in document}
    has_repeated = len(distinct) < len(document)
    if has_repeated:
        yield ValidationError("an entry is there twice")


def _hashable(value: Any) -> Hashable:
    """A value that is equal where two documents are: `1` is `1.0`, and neither is `true`."""
    # As deep as `parse_json` lets a document be, so that recursion ends.
    if isinstance(value, dict):
        return frozenset((key, _hashable(entry)) for key, entry in value.items())
    if isinstance(value, list):
        return tuple(_hashable(entry) for entry in value)
    # For Python a boolean is a number, for JSON it is none.
    return isinstance(value, bool), value
