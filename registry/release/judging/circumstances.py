"""What surrounds a version when it is judged: people, origin, keys, ratings and the time."""

from collections.abc import Sequence
from typing import Literal

from pydantic import AwareDatetime, Field

from core.account import Signed, group_by_person
from core.roles import PersonRole
from core.value import Value
from pipelines.gates.policy import JudgePolicy
from pipelines.values.dataset import Interval
from registry.release.rated_by_model import RatedByModel


class Approval(Value):
    """A person who wants this version released."""

    by: str = Field(min_length=1)
    account: str = Field(
        min_length=1,
        description="The account that acted, whatever name it gave.",
    )
    at: AwareDatetime
    roles: tuple[PersonRole, ...] = Field(
        default=(), description="What `people.yaml` says now of who acted."
    )
    persons: tuple[str, ...] = Field(
        default=(), description="Everybody whom it lists with that account."
    )
    given_in: str | None = Field(
        default=None,
        description="The installation whose ledger holds it; None: this one's does.",
    )

    @property
    def signed(self) -> Signed:
        """Who it is, to be compared with others."""
        return Signed(
            self.by,
            self.account,
            frozenset(self.persons),
        )


class HumanRating(Value):
    """People's blind ratings of this version's answers and its comparator's, paired by prompt."""

    raters: int = Field(ge=0, description="Distinct people.")
    prompts: int = Field(
        default=0, ge=0, description="Rated prompts: the clusters of the intervals."
    )
    difference: Interval | None = Field(
        default=None,
        description="Mean difference on the scale from 1 to 5; positive is better.",
    )
    safe_share: Interval | None = Field(
        default=None,
        description="Share of this version's answers that were called safe.",
    )
    agreement: Interval | None = Field(
        default=None, description="Ordinal Krippendorff's alpha."
    )
    overlap: float = Field(
        default=0.0, description="Share of the items that two or more people rated."
    )
    win_rate: float | None = Field(
        default=None,
        description="Share of prompts on which it is better, ties as half.",
    )
    asked: int = Field(default=0, ge=0, description="Ratings that were asked for.")
    missing: int = Field(
        default=0, ge=0, description="Ratings of these that are not there."
    )
    is_early: bool = Field(
        default=False,
        description="It was closed while ratings were missing and its end was not reached.",
    )
    altered: int = Field(
        default=0,
        ge=0,
        description="Items that were shown otherwise than they were sealed.",
    )
    reviews: int = Field(
        default=1, ge=0, description="Reviews of these bytes, closed or not."
    )
    other_reviews: tuple[str, ...] = Field(
        default=(), description="What each other review of these bytes came to."
    )
    set_aside: tuple[str, ...] = Field(
        default=(), description="Who does not count, or what, each with the reason."
    )


class Signature(Value):
    """A signature over a package that was verified with a packaging key."""

    key_id: str
    package_sha256: str


class WaivedRule(Value):
    """A rule that does not hold for this model until a time."""

    generation: int = Field(description="The ledger's entry.")
    rule: str
    until: AwareDatetime
    by: str
    account: str | None = Field(
        default=None,
        description="The account that acted; None: it is not on record.",
    )
    roles: tuple[PersonRole, ...] = Field(
        default=(), description="What `people.yaml` says now of who acted."
    )
    persons: tuple[str, ...] = Field(
        default=(), description="Everybody whom it lists with that account."
    )


class Origin(Value):
    """The ledger's entry that says where a version came from."""

    generation: int = Field(ge=1)
    package_sha256: str
    adapter_sha256: str
    is_adopted: bool = Field(description="No run entered it: a person answers for it.")
    by: str = Field(
        min_length=1, description="Who had it trained, or who answers for it."
    )
    received_from: str | None = Field(
        default=None,
        description="The installation that made it; None: it was made here.",
    )


class Confirmed(Value):
    """What the ledger says of the block that this version's adapter opened."""

    generation: int = Field(ge=1, description="The entry that opened the block.")
    is_confirmed: bool
    against_sha256: str | None = Field(
        description="The champion's adapter that it was compared with; None: there was none."
    )
    is_evidence: bool = Field(
        description="The package holds the very evidence that the ledger names."
    )


class Readmission(Value):
    """What `admit` answers now about the data that the version was trained on."""

    verdict: Literal["passed", "rejected", "undecided"]
    reasons: tuple[str, ...] = Field(description="Of what did not pass.")
    policy_sha256: str = Field(description="The policy that admitted the data then.")
    policy_name: str


class Circumstances(Value):
    """Everything besides the evidence that a release depends on, as it was at `now`."""

    model: str
    version: str
    package_sha256: str
    registered_at: AwareDatetime
    now: AwareDatetime
    author: str = Field(min_length=1, description="Who trained it.")
    author_account: str | None = Field(
        default=None, description="By which account; None: it is not on record."
    )
    author_persons: tuple[str, ...] = Field(
        default=(),
        description="Everybody whom `people.yaml` lists with that account.",
    )
    origin: Origin | None = Field(
        description="None: the ledger does not know where the version came from."
    )
    admitted: Readmission | None = Field(
        description="None: the package does not hold what `admit` reads."
    )
    drawable: int = Field(
        ge=0,
        description="Held-out prompts of the package that the endpoint can draw from.",
    )
    # What the evidence compares with, and what served last.
    compared_with: str | None = Field(
        description="The champion's version in the evidence; None: there was none."
    )
    compared_adapter: str | None = Field(
        default=None,
        description="The digest of that champion's adapter in the evidence.",
    )
    champion: str | None = Field(
        description="The last version with full traffic that is not revoked."
    )
    champion_adapter: str | None = Field(
        default=None, description="The digest of its adapter, as it was released."
    )
    compared_anchor: str | None = Field(
        default=None, description="The digest of the anchor's adapter in the evidence."
    )
    anchor: str | None = Field(
        default=None,
        description="The digest of the anchor's adapter as it is now; None: nothing ever served.",
    )
    last_policy: str | None = Field(
        default=None,
        description="The digest of the policy by which the last release of this model was judged; "
        "None: nothing of it was released.",
    )
    last_approvals: int = Field(
        default=0, ge=0, description="How many approvals that policy asked for."
    )
    last_waivers_by: tuple[PersonRole, ...] | None = Field(
        default=None,
        description="Whose waivers that policy let count; None: not known.",
    )
    # What the ledger and the recomputation say.
    revoked: bool
    frozen: bool
    recomputed_differences: tuple[str, ...] = Field(
        description="Where the stored verdict does not follow from its evidence."
    )
    confirmed: Confirmed | None = Field(
        default=None,
        description="None: no block of the reserve was opened for this adapter.",
    )
    is_made_by_a_run: bool = Field(
        default=False,
        description="A run entered this very adapter, under whatever number or name.",
    )
    is_older: bool = Field(
        default=False,
        description=(
            "Its package does not hold all that is looked at: a person answers for that."
        ),
    )
    # What only people and keys can give.
    waivers: tuple[WaivedRule, ...] = ()
    approvals: tuple[Approval, ...] = ()
    human_rating: HumanRating | None = None
    rated_by_model: RatedByModel | None = Field(
        default=None,
        description="None: no model was asked in people's place, or people were.",
    )
    signature: Signature | None = None
    signature_fault: str = Field(
        default="",
        description="Why the signature that is there does not count; empty where none is.",
    )

    @property
    def trained_by(self) -> Signed | None:
        """The author; None where the account is not on record: anybody could be the author."""
        account = self.author_account
        if account is None:
            return None
        return Signed(
            self.author,
            account,
            frozenset(self.author_persons),
        )

    def approvers(self, *, only_here: bool = False) -> tuple[str, ...]:
        """Who else than the author approved, after the registration and not in the future.

        `only_here` leaves out who approved in the installation that the version came from alone.

        One person may have many names: whoever shares a name, an account or an entry of
        `people.yaml` with somebody who is counted is that person. Each counts once, and only with
        the role approver.
        """
        author = self.trained_by
        # Without the author's account nobody can be told apart from the author.
        if author is None:
            return ()
        # Nobody can approve what does not exist yet, or from the future.
        in_time = [
            approval
            for approval in self.approvals
            if self.registered_at <= approval.at <= self.now
        ]
        # All of them, since one without the role may show that two people are one.
        signatures = [approval.signed for approval in in_time]
        allowed = {
            each.signed
            for each in in_time
            if "approver" in each.roles and not (only_here and each.given_in)
        }
        others = [
            person
            for person in group_by_person((author, *signatures))
            if author not in person
        ]
        found = (_first_of(person, allowed) for person in others)
        return tuple(name for name in found if name is not None)

    def approved_without_the_role(self) -> tuple[str, ...]:
        """Who approved and does not have the role approver."""
        names = set()
        for approval in self.approvals:
            if "approver" not in approval.roles:
                names.add(approval.by)
        return tuple(sorted(names))

    @property
    def is_champion_itself(self) -> bool:
        """Whether this very version had full traffic last, as after a time with its base."""
        if self.origin is None:
            return False
        # A number alone is no identity: MLflow's numbers begin again at 1 where it was lost.
        return (
            self.champion == self.version
            and self.champion_adapter == self.origin.adapter_sha256
        )

    def objection_to(self, waiver: WaivedRule, limits: JudgePolicy) -> str | None:
        """Why a waiver does not count; None where it does."""
        author = self.trained_by
        if author is None:
            return "the account that trained the version is not on record"
        if waiver.account is None:
            return "the account that gave it is not on record"
        given = Signed(
            waiver.by,
            waiver.account,
            frozenset(waiver.persons),
        )
        persons = group_by_person((author, given))
        if len(persons) == 1:
            return "who trained a version waives nothing for it"
        allowed = self._may_waive(waiver.rule, limits)
        if not set(waiver.roles) & set(allowed):
            roles = " or ".join(allowed) or "nobody at all"
            return f"the policy lets {roles} waive, which this person is not"
        return None

    def _may_waive(self, rule: str, limits: JudgePolicy) -> tuple[PersonRole, ...]:
        """The roles whose waivers of the rule count."""
        before = self.last_waivers_by
        # Another policy does not say by itself who may waive that it is another one.
        if rule != "policy_change" or before is None:
            return limits.waivers_by
        return tuple(role for role in limits.waivers_by if role in before)


def _first_of(person: Sequence[Signed], allowed: set[Signed]) -> str | None:
    """The name under which a person did what is allowed; None where they did not."""
    for signed in person:
        if signed in allowed:
            return signed.name
    return None
