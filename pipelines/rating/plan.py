"""The sealed plan of a review: what each item is, which nobody who rates may know."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from core.files import digest_of_json
from core.value import Value
from pipelines.values.dataset import Message

Side = Literal["candidate", "comparator"]
Comparator = Literal["champion", "base"]
Planted = Literal["another prompt's answer", "shuffled words", "cut short", "reference"]
"""What an item of the calibration set is; all but references are bad answers."""
ItemId = Annotated[str, Field(pattern=r"^tr-[0-9a-f]{32}$")]
LOWEST, HIGHEST = 1, 5
BAD_AT_MOST = 2
"""A planted bad answer is caught where it gets no more than that."""


class Item(Value):
    """One answer to one prompt, as a trace of its own."""

    id: ItemId
    prompt_id: str
    cluster: str
    side: Side | None = Field(description="None: it belongs to the calibration set.")
    planted: Planted | None = None
    answer_sha256: str = Field(description="Of the text that is shown.")
    messages_sha256: str | None = Field(
        default=None,
        description="Of the question that is shown, by `digest_of_messages`; None: an older plan.",
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        # Without either nobody could say what a rating of it shows.
        is_rated = self.side is not None
        is_planted = self.planted is not None
        if is_rated == is_planted:
            raise ValueError("an item is one side's answer, or planted")
        return self

    @property
    def is_bad(self) -> bool:
        """Whether it was planted to be found bad."""
        # A reference is planted too: whoever finds everything bad must not look careful.
        kind = self.planted
        is_planted = kind is not None
        return is_planted and kind != "reference"


class ReviewPlan(Value):
    """Everything that is shown in one review, in the order in which it is shown."""

    model: str
    version: str
    package_sha256: str
    comparator: Comparator
    reviewers: tuple[str, ...] = Field(
        description="Users of MLflow's; nobody: a language model rates in their place."
    )
    items: tuple[Item, ...] = Field(min_length=1)
    closes_at: AwareDatetime | None = Field(
        default=None,
        description="What is rated later does not count; None: an older plan, without an end.",
    )
    criteria_sha256: str | None = Field(
        default=None,
        description="Of the questions that people are asked; None: an older plan.",
    )

    @model_validator(mode="after")
    def _check_items(self) -> Self:
        """Each item once, and of each rated prompt both sides."""
        ids = [item.id for item in self.items]
        if _has_double(ids):
            raise ValueError("an item is there twice")
        # Each of their ratings would count twice.
        if _has_double(self.reviewers):
            raise ValueError("a reviewer is there twice")
        # Half a pair would be compared with nothing.
        candidate = self.side("candidate")
        comparator = self.side("comparator")
        if not candidate or set(candidate) != set(comparator):
            raise ValueError("a prompt has not both sides' answers")
        return self

    def side(self, side: Side) -> dict[str, Item]:
        """One side's items by prompt."""
        by_prompt = {}
        for item in self.items:
            if item.side == side:
                by_prompt[item.prompt_id] = item
        return by_prompt

    @property
    def asked(self) -> int:
        """How many ratings are asked for: of each person one for each item."""
        people = len(self.reviewers)
        return people * len(self.items)

    @property
    def bad(self) -> tuple[Item, ...]:
        """The planted bad answers."""
        planted = [item for item in self.items if item.is_bad]
        return tuple(planted)


class Rating(Value):
    """What one person said of one item."""

    reviewer: str
    item: ItemId
    score: int = Field(ge=LOWEST, le=HIGHEST, strict=True)
    is_safe: bool = Field(strict=True)


class Ratings(Value):
    """Every rating of a review that counts, and a sentence on each that does not."""

    ratings: tuple[Rating, ...]
    dropped: tuple[str, ...] = ()
    altered: tuple[ItemId, ...] = Field(
        default=(),
        description="Items that MLflow showed otherwise than they were sealed.",
    )

    @model_validator(mode="after")
    def _check_once(self) -> Self:
        # Two ratings of one item would weigh twice.
        given = []
        for rating in self.ratings:
            key = (rating.reviewer, rating.item)
            given.append(key)
        if _has_double(given):
            raise ValueError("a person rated an item twice")
        return self


def digest_of_messages(messages: Iterable[Message]) -> str:
    """SHA-256 of a conversation, each message with its role."""
    turns = []
    for message in messages:
        turn = [message.role, message.content]
        turns.append(turn)
    return digest_of_json(turns)


def _has_double(keys: Sequence[Hashable]) -> bool:
    distinct = set(keys)
    count = len(keys)
    return len(distinct) < count


def parse_plan(text: str) -> ReviewPlan | None:
    """Read a plan as it was sealed; None where it is something else."""
    try:
        return ReviewPlan.model_validate_json(text)
    except ValidationError:
        return None


def parse_ratings(text: str) -> Ratings | None:
    """Read the ratings of a review that was closed; None where it is something else."""
    try:
        return Ratings.model_validate_json(text)
    except ValidationError:
        return None
