"""What the ledger records, one kind of entry each: digests, names and numbers, never texts.

A reason that a person gave is kept beside the ledger under its SHA-256 (`Ledger.remember`), so that
it can be erased and the chain still holds.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from core.roles import PersonRole
from core.value import Value
from pipelines.values.canary import CanaryPlan, Quorum, Weight
from pipelines.values.dataset import Interval
from pipelines.values.serving_spec import ServingSpec

Role = Literal["controller", "admission", "packaging"]
Algorithm = Literal["ed25519", "ecdsa-p256"]
# SHA-256 in hexadecimal.
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# The name is part of paths, tags and messages, so it holds nothing that any of them reads.
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
Name = Annotated[str, Field(pattern=MODEL_NAME, description="A registered model.")]
Number = Annotated[
    str, Field(pattern=r"^[1-9][0-9]{0,8}$", description="A version of it.")
]
Person = Annotated[str, Field(min_length=1, max_length=100)]
Account = Annotated[str, Field(min_length=1, max_length=200)]
"""An account of the operating system: a person's name can be chosen, this one cannot."""
Generation = Annotated[int, Field(ge=1)]
Level = Annotated[float, Field(gt=0, lt=1)]


# Ed25519: 32 raw bytes. P-256: an uncompressed point of 65 bytes, which begins with 4.
_FORMS: dict[Algorithm, str] = {
    "ed25519": r"[0-9a-f]{64}",
    "ecdsa-p256": r"04[0-9a-f]{128}",
}


class PublicKey(Value):
    """A public key, and what it signs for. Its id is the SHA-256 of its bytes."""

    role: Role
    key_id: Digest
    public: Annotated[
        str, Field(max_length=130, description="Its raw bytes, in hexadecimal.")
    ]
    # A default, so that keys from before there was another algorithm keep their entries' hash.
    algorithm: Algorithm = Field(
        default="ed25519",
        description="Entries are signed with Ed25519, packages with ECDSA on P-256.",
    )

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        form = _FORMS[self.algorithm]
        if not re.fullmatch(form, self.public):
            raise ValueError(f"these are not the bytes of a key for {self.algorithm}")
        if self.algorithm != "ed25519" and self.role != "packaging":
            raise ValueError(f"a key for {self.algorithm} signs packages alone")
        return self

    @model_validator(mode="after")
    def _check_key_id(self) -> Self:
        # Otherwise a key could be added under the id of another one.
        raw = bytes.fromhex(self.public)
        hashed = hashlib.sha256(raw)
        digest = hashed.hexdigest()
        if digest != self.key_id:
            raise ValueError("the key's id is not the SHA-256 of its bytes")
        return self


class Release(Value):
    """What is put in front of users.

    A version, the bytes that were judged, and the configuration that was scored.
    """

    model: Name
    version: Number
    package_sha256: Digest
    # The configuration is part of the release: another one was not scored.
    spec: ServingSpec
    known_answers_share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="Known answers that the probe must see again."
    )
    drawn_answers: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Held-out prompts that the probe draws by chance"
        " and asks beside the known answers.",
    )
    signed_by: Digest | None = Field(
        default=None,
        description="The packaging key whose signature is verified before each load;"
        " None: it was released without one.",
    )
    canary: CanaryPlan | None = Field(
        default=None,
        description="How it is tried on a share of the traffic; None: it switches at once.",
    )
    replica_quorum: Quorum = Field(
        default=100,
        description="Percent of the replicas that have it ready before the switch, "
        "and answer with it before it is complete.",
    )

    @property
    def fingerprint(self) -> str:
        """What its responses are marked with."""
        return self.spec.fingerprint


class _HumanAct(Value):
    """What a person does by name and with a reason."""

    by: Person
    # A digest and not the text: a reason may have to be erased.
    reason_sha256: Digest
    # Optional, since entries from before it was recorded must keep their hash.
    account: Account | None = Field(
        default=None,
        description="Under which account it was typed; None: before it was recorded.",
    )


class Opened(Value):
    """The first entry of a ledger: its permanent name, and the key that signs it."""

    kind: Literal["opened"] = "opened"
    # Chosen by chance: it tells this ledger from every other one.
    ledger_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    key: PublicKey


class KeyAdded(_HumanAct):
    """From here on another key may sign, too."""

    kind: Literal["key_added"] = "key_added"
    key: PublicKey


class KeyRevoked(_HumanAct):
    """From here on a key signs nothing any more; what it signed before stays."""

    kind: Literal["key_revoked"] = "key_revoked"
    key_id: Digest
    is_compromised: bool = Field(
        default=False,
        description="Somebody else may have it: nothing that it signed is released again.",
    )


class VersionContents(Value):
    """What a version consists of, as it was when it was entered into the ledger."""

    model: Name
    version: Number
    package_sha256: Digest
    adapter_sha256: Digest
    evidence_sha256: Digest = Field(
        description="Of the scorecard, which names the digest of every row of evidence."
    )
    verdict_sha256: Digest = Field(description="Of what the gate `screen` answered.")
    policy_sha256: Digest = Field(
        description="Of the policy under which it was screened."
    )


class Registered(VersionContents):
    """A run made this version.

    From no other entry may a version be judged without a person who answers for it.
    """

    kind: Literal["registered"] = "registered"
    by: Person = Field(
        description="Who had it trained: its author, who does not approve it."
    )
    account: Account | None = None
    # The same inputs give the same logical run, however often it is started.
    logical_run: Digest


class Adopted(VersionContents, _HumanAct):
    """A version that no run entered, such as one from before runs did.

    A person answers for where it came from.
    """

    kind: Literal["adopted"] = "adopted"


class BlockOpened(Value):
    """A run is about to look at groups that no candidate was scored on: a candidate's only try.

    From this entry on the block is spent, whatever becomes of the run.
    """

    kind: Literal["block_opened"] = "block_opened"
    model: Name
    number: Annotated[int, Field(ge=1)] = Field(
        description="Of this model's confirmations in the last 365 days, from 1 on."
    )
    level: Level = Field(description="One-sided, of its test.")
    rows_sha256: Digest = Field(description="Of the block's rows.")
    groups_sha256: Digest = Field(
        description="Of the text with the keys of its groups, kept beside the ledger."
    )
    adapter_sha256: Digest = Field(description="The candidate's.")
    against: Literal["champion", "few_shot", "retrieval", "base"]
    against_sha256: Digest | None = Field(
        default=None, description="The champion's adapter; None: nothing served yet."
    )
    by: Person
    account: Account | None = None
    logical_run: Digest


class BlockClosed(Value):
    """What the opened block showed."""

    kind: Literal["block_closed"] = "block_closed"
    model: Name
    opened: Generation = Field(description="The entry at which it was opened.")
    is_confirmed: bool
    evidence_sha256: Digest = Field(
        description="Of the rows of evidence on which the test was made."
    )


class OriginHead(Value):
    """How far the ledger of another installation went when it was read here."""

    name: Name = Field(description="What `environments.yaml` calls the installation.")
    ledger_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    generation: Generation
    hash: Digest


class OriginApproval(Value):
    """A person wanted these bytes released there; whether that counts here, the policy says."""

    by: Person
    account: Account | None = None
    at: AwareDatetime


class OriginConfirmation(Value):
    """What the ledger there says of the block that this version's adapter opened."""

    generation: Generation = Field(description="The entry there that opened it.")
    opened: BlockOpened
    closed: BlockClosed


class Received(VersionContents):
    """Another installation made this version, and its ledger, which is trusted here, says so."""

    kind: Literal["received"] = "received"
    by: Person = Field(description="Who had it trained there: its author here, too.")
    account: Account | None = None
    origin: OriginHead
    version_there: Number
    entered_there: Generation = Field(
        description="The entry there that holds these bytes."
    )
    made_at: AwareDatetime = Field(
        description="When a run first entered it: moving makes no evidence fresh."
    )
    signer: PublicKey | None = Field(
        default=None,
        description="The packaging key that the ledger there knows and that signed the package;"
        " it counts here for this version alone.",
    )
    approvals: tuple[OriginApproval, ...] = ()
    released_by: Person | None = Field(
        default=None, description="Who last released it there; None: nobody did."
    )
    transfer_sha256: Digest
    confirmation: OriginConfirmation | None = Field(
        default=None,
        description="None: no block of a sealed reserve was opened for it there.",
    )


class OriginSeen(Value):
    """A newer ledger of another installation was read and verified."""

    kind: Literal["origin_seen"] = "origin_seen"
    origin: OriginHead
    revoked_adapters: tuple[Digest, ...] = Field(
        default=(), description="What was received from there and is revoked there."
    )
    by: Person | None = Field(
        default=None, description="Who brought it; None: it came with a version."
    )
    account: Account | None = None


class Judged(Value):
    """What the gate `judge` answered."""

    # Rejections are entered, too: a later one stops a release of an earlier pass.
    kind: Literal["judged"] = "judged"
    model: Name
    version: Number
    package_sha256: Digest
    verdict: Literal["passed", "rejected", "undecided"]
    verdict_sha256: Digest
    policy_sha256: Digest
    waivers: tuple[Generation, ...] = Field(
        default=(), description="The waivers that it needs, by generation."
    )
    adapter_sha256: Digest | None = Field(
        default=None,
        description="What a revocation of this version takes with it, under any name.",
    )
    registration: Generation | None = Field(
        default=None,
        description="The entry that says where the version came from;"
        " None: it was judged before there were any.",
    )
    signed_by: Digest | None = Field(
        default=None,
        description="The packaging key that signed the package;"
        " None: it passed without a signature.",
    )
    approvals_asked: int | None = Field(
        default=None,
        ge=0,
        description="How many approvals the policy asked for;"
        " None: it was judged before that was entered.",
    )
    waivers_by: tuple[PersonRole, ...] | None = Field(
        default=None,
        description="Whose waivers the policy let count;"
        " None: it was judged before that was entered.",
    )


class Rescored(Value):
    """What answers was scored again, on rows of that day, against what served before it."""

    kind: Literal["rescored"] = "rescored"
    model: Name
    version: Number
    package_sha256: Digest
    begun: Generation = Field(description="The entry at which its release began.")
    against: Generation | None = Field(
        default=None,
        description="At which that of its predecessor began;"
        " None: there is none that could be compared with.",
    )
    verdict: Literal["passed", "rejected", "undecided"] = Field(
        description="Rejected: it is shown to be worse than its predecessor, or unfair."
    )
    verdict_sha256: Digest
    policy_sha256: Digest
    evidence_sha256: Digest


class Wished(_HumanAct):
    """A release manager wants that version to serve: the controller judges it and answers.

    A later wish for the same model takes the place of an open one.
    """

    kind: Literal["wished"] = "wished"
    model: Name
    version: Number
    package_sha256: Digest | None = Field(
        default=None,
        description="The bytes that the page was about; None: nobody looked at one.",
    )


class WishClosed(Value):
    """A wish that came to nothing; the reason says why."""

    kind: Literal["wish_closed"] = "wish_closed"
    wished: Generation
    reason_sha256: Digest
    by: Person | None = Field(
        default=None, description="Who took it back; None: it was refused."
    )
    account: Account | None = None


class Approved(_HumanAct):
    """A person wants these very bytes to be released."""

    kind: Literal["approved"] = "approved"
    model: Name
    version: Number
    package_sha256: Digest


class ApprovalWithdrawn(_HumanAct):
    """A person takes every approval of that version back that the same person gave."""

    kind: Literal["approval_withdrawn"] = "approval_withdrawn"
    model: Name
    version: Number


class ReviewOpened(Value):
    """People are asked to rate answers blind; what each item is stays sealed until it is closed."""

    kind: Literal["review_opened"] = "review_opened"
    by: Person
    account: Account | None = None
    model: Name
    version: Number
    package_sha256: Digest
    against: Literal["champion", "base"]
    plan_sha256: Digest = Field(description="Of what each item is: the sealed plan.")
    reviewers: tuple[Person, ...] = Field(
        description="Users of MLflow's, each with a queue of their own; nobody: "
        "a language model rates in the place of people."
    )


class Rated(Value):
    """What the ratings of a review came to. It is closed, and nobody closes it again."""

    kind: Literal["rated"] = "rated"
    by: Person
    account: Account | None = None
    model: Name
    version: Number
    package_sha256: Digest
    opened: Generation = Field(description="The entry that opened the review.")
    ratings_sha256: Digest
    raters: Annotated[int, Field(ge=0)] = Field(description="People who count.")
    prompts: Annotated[int, Field(ge=0)]
    difference: Interval | None = None
    safe_share: Interval | None = None
    agreement: Interval | None = None


class ModelRated(Value):
    """What a language model said of the items of a review, in people's place or beside them."""

    kind: Literal["model_rated"] = "model_rated"
    by: Person
    account: Account | None = None
    model: Name
    version: Number
    package_sha256: Digest
    opened: Generation = Field(description="The entry that opened the review.")
    judge_sha256: Digest = Field(
        description="Of address, model and wording: another judge is another digest."
    )
    replies_sha256: Digest = Field(description="Of every reply, word for word.")
    items: Annotated[int, Field(ge=0)] = Field(description="Items that it rated.")
    difference: Interval | None = None
    safe_share: Interval | None = None


class ReleaseBegun(_HumanAct):
    """A candidate is to be verified and loaded beside what serves."""

    kind: Literal["release_begun"] = "release_begun"
    release: Release
    judged: Generation
    wished: Generation | None = Field(
        default=None, description="The wish that it answers; None: a command asked."
    )


class CanaryStep(Value):
    """From here on the candidate answers that share of the requests; the step before it passed."""

    kind: Literal["canary_step"] = "canary_step"
    begun: Generation
    weight: Weight = Field(description="Percent; 0: it answers copies alone.")
    evidence_sha256: Digest | None = Field(
        default=None, description="Of the counts on which the step before passed."
    )


class CanaryPaused(Value):
    """Nobody asks, so nothing is shown: the step waits for traffic."""

    kind: Literal["canary_paused"] = "canary_paused"
    begun: Generation


class CanaryResumed(Value):
    """There is traffic again."""

    kind: Literal["canary_resumed"] = "canary_resumed"
    begun: Generation


class CanarySkipped(_HumanAct):
    """A second person has a release switch before its canary is over."""

    kind: Literal["canary_skipped"] = "canary_skipped"
    begun: Generation


class ReleaseSwitched(Value):
    """From here on it gets full traffic."""

    kind: Literal["release_switched"] = "release_switched"
    # A release is named by the entry at which it began, since a version may be released twice.
    begun: Generation
    evidence_sha256: Digest | None = Field(
        default=None, description="Of the counts on which its last canary step passed."
    )


class ReleaseCompleted(Value):
    """The endpoint said that it answers."""

    kind: Literal["release_completed"] = "release_completed"
    begun: Generation


class ReleaseAborted(Value):
    """It never got traffic; the reason says why."""

    kind: Literal["release_aborted"] = "release_aborted"
    begun: Generation
    reason_sha256: Digest
    by: Person | None = Field(
        default=None,
        description="Who ordered it; None: nobody did, and it failed.",
    )
    account: Account | None = None
    wished: Generation | None = Field(
        default=None,
        description="The wish that it answers: what serves is to go on serving.",
    )


class RolledBack(_HumanAct):
    """Full traffic goes back to a release that served before.

    A pending release is aborted.
    """

    kind: Literal["rolled_back"] = "rolled_back"
    model: Name
    # Not a version: the same version may have served under two configurations.
    to: Generation = Field(description="Generation at which that release had begun.")
    wished: Generation | None = Field(
        default=None, description="The wish that it answers; None: a command asked."
    )


class BaseServed(_HumanAct):
    """The base model answers under the model's name, until the next release or rollback.

    A pending release is aborted.
    """

    kind: Literal["base_served"] = "base_served"
    model: Name


class Revoked(_HumanAct):
    """A version never serves again.

    Where it serves now, the release before it takes over, or the base.
    """

    kind: Literal["revoked"] = "revoked"
    model: Name
    version: Number
    adapter_sha256: Digest | None = Field(
        default=None,
        description="Of a version that nobody judged: its bytes, under any name.",
    )


class Frozen(_HumanAct):
    """No release begins, and pending ones are aborted; a rollback stays possible."""

    kind: Literal["frozen"] = "frozen"


class Unfrozen(_HumanAct):
    """Releases may begin again."""

    kind: Literal["unfrozen"] = "unfrozen"


class Waived(_HumanAct):
    """A rule of `judge` does not hold for a model until a time.

    It is checked when a release begins, never afterwards.
    """

    kind: Literal["waived"] = "waived"
    rule: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    model: Name
    # Always an end: nobody remembers to take back an exception.
    until: AwareDatetime


class LostHead(Value):
    """An entry that others remember and the ledger does not hold."""

    generation: Generation
    hash: Digest


class HeadAccepted(_HumanAct):
    """From here on the ledger counts as it is.

    Others remember entries that it does not hold, and a person accepts their loss.
    """

    kind: Literal["head_accepted"] = "head_accepted"
    lost: tuple[LostHead, ...] = ()


# A new kind needs its step in `rules.py` and its row in docs/reference/ledger-format.md.
Body = Annotated[
    Opened
    | KeyAdded
    | KeyRevoked
    | Registered
    | Adopted
    | Received
    | OriginSeen
    | Judged
    | BlockOpened
    | BlockClosed
    | Rescored
    | Wished
    | WishClosed
    | Approved
    | ApprovalWithdrawn
    | ReviewOpened
    | Rated
    | ModelRated
    | ReleaseBegun
    | CanaryStep
    | CanaryPaused
    | CanaryResumed
    | CanarySkipped
    | ReleaseSwitched
    | ReleaseCompleted
    | ReleaseAborted
    | RolledBack
    | BaseServed
    | Revoked
    | Frozen
    | Unfrozen
    | Waived
    | HeadAccepted,
    Field(discriminator="kind"),
]


def _check_calendar(moment: datetime) -> datetime:
    """Refuse a time that UTC does not have: at the calendar's end a zone may lead beyond it."""
    try:
        canonical_time(moment)
    except OverflowError as error:
        raise ValueError("a time beyond the calendar") from error
    return moment


class Entry(Value):
    """One row of the ledger.

    `hash` is the SHA-256 of generation, time, body (`body_document`), previous hash and key id in
    canonical JSON; `signature` is Ed25519 over the hash's 32 bytes.
    """

    generation: Generation
    at: Annotated[AwareDatetime, AfterValidator(_check_calendar)]
    body: Body
    previous: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    key_id: Digest
    # Everything above is under the hash; see `chain.py`.
    hash: Digest
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Head(Value):
    """How far a ledger goes: what an endpoint, a version page and an export remember of it."""

    ledger_id: str
    generation: Generation
    hash: Digest

    @property
    def as_tag(self) -> str:
        """As a version page remembers it; `registry.ledger.audit` reads it back."""
        return f"{self.generation}:{self.hash}"


def body_document(body: Body) -> dict[str, Any]:
    """A body as it is hashed and stored: its kind and what differs from a default.

    So an entry that was written before a body had one more optional field still has the same hash.
    """
    document = body.model_dump(mode="json", exclude_defaults=True)
    # The kind is a default of its class, and nothing could be parsed without it.
    return {**document, "kind": body.kind}


def canonical_time(moment: datetime) -> str:
    """UTC, to the microsecond, as it is hashed: `2026-11-01T12:00:00.000000+00:00`."""
    in_utc = moment.astimezone(UTC)
    return in_utc.isoformat(timespec="microseconds")
