"""The kinds of fields that requests have, and the forms in which clients may send them."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import WithJsonSchema

MAX_BODY_BYTES = 1_000_000
# Safe in a URL, in a log line and as a command's argument.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MOST_CHOICES = 16
"""Answers to one prompt."""

Stop = Annotated[str, Field(min_length=1, max_length=256)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Label = Annotated[str, Field(max_length=512)]
Choices = Annotated[int, Field(ge=1, le=MOST_CHOICES)]
# Ranges of a single number: the setting that changes nothing, in the type of its field.
Zero = Annotated[float, Field(ge=0, le=0)]
WholeZero = Annotated[int, Field(ge=0, le=0)]
One = Annotated[float, Field(ge=1, le=1)]
WholeOne = Annotated[int, Field(ge=1, le=1)]
Empty = Annotated[tuple[Any, ...], Field(max_length=0)]
NoEntries = Annotated[dict[str, Any], Field(max_length=0)]


class WireValue(BaseModel):
    """Strict: a number in quotes is no number, and `true` is not 1."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=True
    )


def as_tuple(given: Any) -> Any:
    """One form for two, a text and a list of texts."""
    if isinstance(given, str):
        return (given,)
    # Anything else stays as it is, for pydantic to refuse.
    return tuple(given) if isinstance(given, list) else given


def one_or_more(most: int) -> WithJsonSchema:
    """How OpenAPI shows a text, or a list of up to `most` of them."""
    text = {"type": "string", "minLength": 1, "maxLength": 256}
    texts = {"type": "array", "items": text, "maxItems": most}
    return WithJsonSchema({"anyOf": [text, texts]})


FewStops = Annotated[
    tuple[Stop, ...],
    Field(max_length=4),
    BeforeValidator(as_tuple),
    one_or_more(4),
]
# Tasks of lm-evaluation-harness end answers at more than four.
ManyStops = Annotated[
    tuple[Stop, ...],
    Field(max_length=16),
    BeforeValidator(as_tuple),
    one_or_more(16),
]
_ONLY_TEXT = {"type": "array", "items": {"const": "text"}, "minItems": 1, "maxItems": 1}
OnlyText = Annotated[
    tuple[Literal["text"]],
    BeforeValidator(as_tuple),
    WithJsonSchema(_ONLY_TEXT),
]


def optional(advice: str) -> Any:
    """A field that may be left out; `advice` says to people what to send."""
    return Field(None, description=advice)


def unserved(reason: str, neutral: str = "") -> Any:
    """A field that may be left out, and is otherwise taken only as `neutral`."""
    advice = f"leave it out or send {neutral}" if neutral else "leave it out"
    return Field(
        None,
        description=f"{reason}, so {advice}",
        json_schema_extra={"is_served": False},
    )
