"""The state of the ledger as values.

`registry.ledger.rules` makes it of the entries, for release, endpoint, controller and audit.
"""

from pydantic import AwareDatetime, Field

from core.value import Value
from pipelines.values.dataset import Interval
from registry.ledger.entries import (
    BlockClosed,
    BlockOpened,
    Head,
    Judged,
    OriginHead,
    PublicKey,
    Received,
    Release,
    VersionContents,
)


class CanaryProgress(Value):
    """How far the canary of a release on its way has come."""

    step: int | None = None
    """Generation of the step that runs; None before the first."""
    weight: int | None = None
    paused: int | None = None
    """Generation since which nobody asks; None while there is traffic."""
    skipped: int | None = None
    """Generation of the entry by which a second person ended it early."""


class RecordedRelease(Value):
    """A release as the ledger holds it: when it began, on which verdict, for whom and why."""

    begun: int
    release: Release
    judged: int
    by: str
    reason_sha256: str
    at: AwareDatetime
    is_completed: bool = False
    canary: CanaryProgress | None = None
    account: str | None = None
    """Under which account it was ordered; recorded where a second person may be needed."""


class RecordedWish(Value):
    """A wish that nobody has answered yet: which version, for whom and why."""

    generation: int
    version: str
    package_sha256: str | None = None
    by: str
    account: str | None
    reason_sha256: str
    at: AwareDatetime
    key_id: str = ""
    """The key that signed the entry: what a stolen one signed counts no more."""


class RecordedApproval(Value):
    """A person wants these bytes released."""

    generation: int
    model: str
    version: str
    package_sha256: str
    by: str
    account: str | None
    at: AwareDatetime
    key_id: str = ""


class RecordedWithdrawal(Value):
    """A person took back what that person had approved of a version."""

    generation: int
    by: str


class RecordedModelRating(Value):
    """A language model rated the items of a review."""

    generation: int
    at: AwareDatetime
    judge_sha256: str
    replies_sha256: str
    difference: Interval | None = None
    """As it was counted then: what it shows against the version outlives erased replies."""
    safe_share: Interval | None = None
    by: str = ""
    """Who had it rate: they choose what stands behind the address."""
    account: str | None = None
    key_id: str = ""
    """The key that signed the entry."""


class RecordedReview(Value):
    """People were asked to rate answers of these bytes, and what came of it."""

    opened: int
    at: AwareDatetime
    model: str
    version: str
    package_sha256: str
    plan_sha256: str
    reviewers: tuple[str, ...]
    rated: int | None = None
    """The entry that closed it; None: it is open, or a later one took its place."""
    closed_at: AwareDatetime | None = None
    ratings_sha256: str | None = None
    difference: Interval | None = None
    """As it was counted then: what it shows against the version outlives erased ratings."""
    safe_share: Interval | None = None
    key_ids: tuple[str, ...] = ()
    """The keys that signed its entries."""
    model_ratings: tuple[RecordedModelRating, ...] = ()
    """In the order in which language models were asked, each judge once."""


# Field names of these values are written to disk by the endpoint, and are never renamed.
class ModelState(Value):
    """One registered model: what serves, what is on its way, what may never serve again."""

    served: tuple[RecordedRelease, ...] = ()
    """Oldest first; the last one serves, and a rollback goes to the one before it."""
    once_served: tuple[RecordedRelease, ...] = ()
    """Every release that ever had full traffic, in the order of its beginning."""
    pending: RecordedRelease | None = None
    wish: RecordedWish | None = None
    """What a release manager asked for and the controller has not answered."""
    # Versions; a frozenset, since the order of revocations decides nothing.
    revoked: frozenset[str] = frozenset()
    serves_base: bool = False
    changed_at: int = 0
    """Generation at which what serves was last changed.

    An earlier verdict is about another comparison.
    """

    @property
    def current(self) -> RecordedRelease | None:
        """What serves; with `serves_base` its base alone."""
        if not self.served:
            return None
        return self.served[-1]

    @property
    def answering(self) -> RecordedRelease | None:
        """The release that answers under the model's name; None where the base does, or nothing."""
        if self.serves_base:
            return None
        return self.current

    @property
    def comparator(self) -> RecordedRelease | None:
        """The last release with full traffic that is not revoked, also while the base serves."""
        # Also while the base answers: a candidate must beat the last release, not the base.
        if self.current is not None:
            return self.current
        # Nothing serves: what did was revoked, or a rollback went back from it.
        for recorded in reversed(self.once_served):
            if recorded.release.version not in self.revoked:
                return recorded
        return None

    @property
    def before(self) -> RecordedRelease | None:
        """Where a rollback goes; None where nothing served before."""
        if len(self.served) < 2:
            return None
        return self.served[-2]


class RecordedConfirmation(Value):
    """A block of a model's sealed reserve: who tried it, and what it showed."""

    opened: BlockOpened
    generation: int
    at: AwareDatetime
    closed: BlockClosed | None = None
    """None: the run did not say, and the block is spent all the same."""

    @property
    def is_confirmed(self) -> bool:
        """Whether the candidate was shown to be better on it."""
        return self.closed is not None and self.closed.is_confirmed


class Waiver(Value):
    """A rule that does not hold for a while."""

    generation: int
    rule: str
    model: str
    until: AwareDatetime
    by: str
    reason_sha256: str
    account: str | None = None


class Registration(Value):
    """How a version came into the ledger.

    A run made it, or a person answers for it.
    """

    generation: int
    at: AwareDatetime
    by: str
    account: str | None
    made: VersionContents
    is_adopted: bool
    received: Received | None = None
    """What the ledger of another installation says of it; None: it was made here."""

    @property
    def key(self) -> str:
        """Its key in `LedgerState.registrations`."""
        made = self.made
        return registration_key(made.model, made.version)


class RevokedKey(Value):
    """A key that may sign nothing any more, and the entries that said so."""

    key: PublicKey
    generation: int
    compromised_at: int | None
    """The entry that said that somebody else may have it; None where none did."""


class Freeze(Value):
    """Nothing is released; who ordered it, and why."""

    generation: int
    at: AwareDatetime
    by: str
    reason_sha256: str


class LedgerState(Value):
    """Everything that the entries up to `head` amount to."""

    head: Head
    at: AwareDatetime
    # Those that may sign now: a revoked key is removed, and what it signed stays valid.
    keys: tuple[PublicKey, ...]
    revoked_keys: dict[str, RevokedKey] = Field(default_factory=dict)
    """By id. What they signed before stays valid, so their public halves are kept."""
    models: dict[str, ModelState] = Field(default_factory=dict)
    registrations: dict[str, Registration] = Field(default_factory=dict)
    """By model and version, the last of each.

    MLflow restarts its numbers where its database was lost, so a version may be registered twice.
    """
    # By generation: a release names the verdict that it relies on.
    judged: dict[int, Judged] = Field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    approvals: tuple[RecordedApproval, ...] = ()
    """In the order in which they were given, without those that were withdrawn."""
    withdrawals: dict[str, RecordedWithdrawal] = Field(default_factory=dict)
    """By model and version, the last of each, also where it was approved again."""
    confirmations: tuple[RecordedConfirmation, ...] = ()
    """In the order in which their blocks were opened."""
    reviews: tuple[RecordedReview, ...] = ()
    """In the order in which they were opened, closed ones too."""
    # None: releases may begin.
    frozen: Freeze | None = None
    revoked_adapters: dict[str, int] = Field(default_factory=dict)
    """Adapters that never serve again under any name, with the entry that revoked each."""

    origins: dict[str, OriginHead] = Field(default_factory=dict)
    """By name, the furthest head of each installation that was read here."""
    received_keys: dict[str, PublicKey] = Field(default_factory=dict)
    """Packaging keys of other installations, by id: each counts for what came with it alone."""
    revoked_in_origin: dict[str, int] = Field(default_factory=dict)
    """Received adapters that are revoked where they came from, with the entry that says so."""

    accepted: dict[str, int] = Field(default_factory=dict)
    """Hashes of lost entries that others remember, with the entry that accepted each loss."""

    def model(self, name: str) -> ModelState:
        """The state of one model; an empty one where no entry names it."""
        empty = ModelState()
        return self.models.get(name, empty)

    def registration(self, model: str, version: str) -> Registration | None:
        """How that version came into the ledger; None where no entry says so."""
        key = registration_key(model, version)
        return self.registrations.get(key)

    def confirmations_of(self, model: str) -> tuple[RecordedConfirmation, ...]:
        """Every block that candidates of a model opened, the oldest first."""
        return tuple(each for each in self.confirmations if each.opened.model == model)

    def reviews_of(self, model: str, version: str) -> tuple[RecordedReview, ...]:
        """Every review of a version, oldest first, also of other bytes under that number."""
        return tuple(
            review
            for review in self.reviews
            if (review.model, review.version) == (model, version)
        )

    def open_review(self, model: str, version: str) -> RecordedReview | None:
        """The review that people may still rate for; None where there is none."""
        reviews = self.reviews_of(model, version)
        # An earlier one gave way to the last.
        if not reviews or reviews[-1].rated is not None:
            return None
        return reviews[-1]

    @property
    def controller_keys(self) -> tuple[PublicKey, ...]:
        """The keys that may sign entries and seal head records now."""
        return tuple(key for key in self.keys if key.role == "controller")

    def key(self, key_id: str) -> PublicKey | None:
        """The key of that id, if it may sign now."""
        for key in self.keys:
            if key.key_id == key_id:
                return key
        return None

    def known_key(self, key_id: str) -> PublicKey | None:
        """The key of that id, whether it may still sign or not, also of another installation."""
        revoked = self.revoked_keys.get(key_id)
        if revoked is not None:
            return revoked.key
        return self.key(key_id) or self.received_keys.get(key_id)

    def compromised_at(self, key_id: str) -> int | None:
        """The entry that revoked the key as compromised; None where none did."""
        revoked = self.revoked_keys.get(key_id)
        return None if revoked is None else revoked.compromised_at


def registration_key(model: str, version: str) -> str:
    """The key of a version in the fields of `LedgerState`: `letters 3`."""
    # Names hold no space and numbers hold only digits, so no two versions share a key.
    return f"{model} {version}"
