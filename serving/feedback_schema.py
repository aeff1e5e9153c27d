"""The body of `POST /v1/feedback`: one answer, whether it was good, and why.

Texts are taken only where the endpoint keeps records of feedback.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from pipelines.engines.refusal import Refusal
from serving.openai_schema.fields import WireValue
from serving.openai_schema.refusals import explain_refusal

ANSWER_ID = r"[A-Za-z0-9_-]{1,128}"
"""What an engine calls an answer: `chatcmpl-` and a random number."""


def _check_sign(score: int) -> int:
    if score not in {1, -1}:
        raise PydanticCustomError("score", "neither 1 nor -1")
    return score


class Rating(WireValue):
    """What one client says of one answer."""

    id: Annotated[str, Field(pattern=f"^{ANSWER_ID}$")] = Field(
        description="send the id of the answer, as it came with it"
    )
    # Not a Literal: that takes true for 1, strict or not.
    score: Annotated[int, AfterValidator(_check_sign)] = Field(
        description="send 1 for a good answer, -1 for a bad one"
    )

    text: Annotated[str, Field(max_length=2_000)] | None = Field(
        None, description="send a text of up to 2000 characters"
    )
    # What the answer should have been: a row to train on, once a person has looked at it.
    correction: Annotated[str, Field(max_length=20_000)] | None = Field(
        None, description="send a text of up to 20000 characters"
    )

    @property
    def is_negative(self) -> bool:
        """Whether the answer was a bad one."""
        return self.score < 0


def parse_rating(body: bytes, *, takes_texts: bool = False) -> Rating:
    """Read a body.

    `Refusal` where it is no rating, NaN and `true` included, or has a text that nobody keeps.
    """
    try:
        rating = Rating.model_validate_json(body)
    except ValidationError as error:
        raise explain_refusal(error, Rating) from error
    for name in ("text", "correction"):
        if getattr(rating, name) is not None and not takes_texts:
            raise _not_kept_error(name)
    return rating


def _not_kept_error(name: str) -> Refusal:
    return Refusal(
        f"{name} is not kept here: leave it out, "
        "or switch on `feedback` in the endpoint's rules.",
        code="unsupported_parameter",
        param=name,
    )
