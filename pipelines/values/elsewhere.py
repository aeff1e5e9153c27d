"""What is known of an adapter that Assay did not train, and whether it seems to know the rows."""

from typing import Literal

from pydantic import Field

from core.value import Value

FILE = "membership.json"
"""The name of a `MembershipProbe` among a version's evidence."""
UNCLAIMED = (
    "Trained elsewhere: on which rows, and whether the held-out ones were among them, "
    "is not known here"
)
"""What a verdict and a page say of every such adapter."""


class TrainedElsewhere(Value):
    """What was brought, by digest, before Assay wrote a configuration of its own beside it."""

    weights_sha256: str
    config_sha256: str
    stated_base: str | None = Field(
        description="What its own configuration calls the base; nobody can check that."
    )
    notes: tuple[str, ...] = Field(
        default=(), description="What was left out or written in another way."
    )


Leaning = Literal["train and dev", "held-out", "neither"]


class MembershipProbe(Value):
    """Whether an adapter knows one part of the rows better than the other.

    Gains are nats a byte of the reference by which the adapter's loss is below the base's, as
    means over groups.
    """

    known_gain: float = Field(description="On the train and dev splits.")
    held_out_gain: float
    known_groups: int
    held_out_groups: int
    p_value: float = Field(ge=0, le=1, description="Of both sides.")
    leans_to: Leaning
    is_random_split: bool = Field(
        description="The split drew the held-out groups; False: a person chose that file."
    )

    @property
    def text(self) -> str:
        """What the probe says, and what it does not."""
        known, held_out = f"{self.known_gain:.3g}", f"{self.held_out_gain:.3g}"
        figures = (
            f"The adapter's loss is below the base's by {known} nats a byte on train and dev, "
            f"by {held_out} on held-out rows (p = {self.p_value:.2g})"
        )
        # Chosen rows can be harder ones, which would look like rows that were not seen.
        caution = "" if self.is_random_split else f". {_CHOSEN}"
        return f"{figures}: {_MEANINGS[self.leans_to]}{caution}"


_MEANINGS: dict[Leaning, str] = {
    "train and dev": "as of one that saw the former, and the latter less or not at all",
    "held-out": "as of one that was trained on the held-out rows; ask who trained it",
    "neither": "as of one that saw all of these rows or none, which the probe cannot tell apart",
}
_CHOSEN = (
    "The held-out file was chosen and not drawn, so the rows themselves may make "
    "the difference"
)
