"""The body of `POST /v1/feedback`: one answer, and whether it was good. It has room for no text."""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

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

    @property
    def is_negative(self) -> bool:
        """Whether the answer was a bad one."""
        return self.score < 0


def parse_rating(body: bytes) -> Rating:
    """Read a body; `Refusal` where it is no rating: a comment, NaN and `true` included."""
    try:
        return Rating.model_validate_json(body)
    except ValidationError as error:
        raise explain_refusal(error, Rating) from error
