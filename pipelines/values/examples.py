"""What the baselines put before the prompts: few-shot examples, or rows found for each prompt."""

from typing import Annotated

from pydantic import Field

from core.files import digest_of_json
from core.value import Value
from pipelines.values.dataset import Message

RowKey = Annotated[str, Field(pattern=r"^.+/\d+$")]
"""A training row as `ID/NUMBER`: rows of the same prompt have one id and several numbers."""


class FewShotChoice(Value):
    """The examples before each prompt, and the dev loss of every draw that was tried."""

    examples: tuple[Message, ...]
    dev_nats_per_token: tuple[float, ...]

    @property
    def prefix_sha256(self) -> str:
        """What evidence calls these examples by."""
        return digest_of_messages(self.examples)


class Retrieved(Value):
    """The index, the number of examples chosen on dev, and the rows found for each prompt.

    It holds no texts: an evidence folder goes to others, and training rows may be private.
    """

    # Another version of the library may rank otherwise: the search belongs to the record.
    method: str = Field(
        description="Library, version and settings of the search, as a signature."
    )
    # By it a check finds out that no held-out row was in the index.
    train_sha256: str = Field(description="Of the admitted training rows, the index.")
    rows: int = Field(ge=1, description="Training rows in the index.")
    examples: int = Field(
        ge=1, description="Examples before a prompt, at most; chosen on dev."
    )
    dev_nats_per_token: dict[int, float] = Field(
        min_length=1, description="Dev loss of each number of examples that was tried."
    )
    found: dict[str, tuple[RowKey, ...]] = Field(
        description="By prompt, the rows before it, the most similar last."
    )

    @property
    def prefix_sha256(self) -> str:
        """What evidence calls this record by."""
        return self.content_sha256()


def digest_of_messages(messages: tuple[Message, ...]) -> str:
    """The digest of what stands before every prompt."""
    return digest_of_json([message.model_dump() for message in messages])
