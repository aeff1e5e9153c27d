"""The sealed reserve: held-out groups that no candidate was scored on, opened a block at a time.

Which groups are no longer sealed, and which block a run may open, is state from outside. It is
written into the workspace as an input before the stages that read it.
"""

import hashlib
from collections.abc import Iterable
from itertools import chain
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from core.files import digest_of_json
from core.value import FileDigest, Value
from pipelines.values.dataset import Row
from pipelines.values.verdict import Comparison

MOST_A_YEAR = 12
"""Confirmations of a model: the twelfth has a level of 0.0004, and below that no bound holds."""
SCORED_GROUPS = "scored_groups"
"""The home's folder that holds for each model which groups any candidate was scored on."""
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""A group without its name: the beginning of the name's SHA-256."""
Opponent = Literal["champion", "few_shot", "retrieval", "base"]
"""What a confirmation compares with: the champion, or the best prompt where nothing serves."""


class SeenGroups(Value):
    """Groups that some candidate was scored on: they judge every later one, and none is sealed."""

    groups: tuple[Key, ...] = ()


class Block(Value):
    """What one confirmation opens: these groups, once, at this level."""

    number: int = Field(ge=1, le=MOST_A_YEAR, description="Of this year, from 1 on.")
    level: float = Field(gt=0, lt=1, description="One-sided.")
    groups: tuple[Key, ...] = Field(min_length=1)
    rows_sha256: str = Field(description="Of its rows, in order.")
    against: Opponent
    margin: float = Field(
        default=0.0,
        ge=0,
        exclude_if=lambda margin: margin == 0,
        description="Loss that the bound may leave open; 0: it has to be better.",
    )


class BlockInput(Value):
    """What `data/reserve/block.json` holds; null where this run opens none."""

    block: Block | None = None


class Confirmation(Value):
    """What came of one block, or why none was opened."""

    block: Block | None = None
    comparison: Comparison | None = None
    rows: FileDigest | None = Field(
        default=None, description="The block's rows, which are sealed no longer."
    )
    evidence: FileDigest | None = None
    missing: str = Field(
        default="", description="Why no block was opened; empty where one was."
    )

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        """Either a block with all that came of it, or the reason that there is none."""
        parts = (self.block, self.comparison, self.rows, self.evidence)
        are_there = [part is not None for part in parts]
        # A comparison without its rows could not be checked by anybody.
        is_whole = all(are_there) and not self.missing
        is_empty = not any(are_there)
        is_reason = is_empty and bool(self.missing)
        if not (is_whole or is_reason):
            raise ValueError("neither a whole confirmation nor a reason for none")
        return self


def key_of(group: str) -> str:
    """A group's key: it says nothing about the name of a group that nobody guesses."""
    # Halves of surrogate pairs have no UTF-8, and are names all the same.
    name = group.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(name)
    text = digest.hexdigest()
    return text[:32]


def digest_of_rows(rows: tuple[Row, ...]) -> str:
    """SHA-256 of a block's rows, in order."""
    documents = []
    for row in rows:
        document = row.model_dump(mode="json")
        documents.append(document)
    return digest_of_json(documents)


def rows_of_groups(sealed: Iterable[Row], keys: Iterable[str]) -> tuple[Row, ...]:
    """The rows of some groups, group by group in the order of their keys."""
    # The ledger holds a digest of the rows in this order.
    by_key: dict[str, list[Row]] = {key: [] for key in keys}
    for row in sealed:
        key = key_of(row.group)
        if key in by_key:
            by_key[key].append(row)
    groups = by_key.values()
    return tuple(chain.from_iterable(groups))
