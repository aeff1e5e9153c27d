"""What the ledger records, one kind of entry each: digests, names and numbers, never texts.

A reason that a person gave is kept beside the ledger under its SHA-256 (`Ledger.remember`), so that it can be erased and the chain still
holds.
"""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from core.value import Value
from pipelines.values.serving_spec import ServingSpec

Role = Literal["controller", "admission", "packaging"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
Name = Annotated[str, Field(pattern=MODEL_NAME, description="A registered model.")]
Number = Annotated[
    str, Field(pattern=r"^[1-9][0-9]{0,8}$", description="A version of it.")
]
Person = Annotated[str, Field(min_length=1, max_length=100)]
Account = Annotated[str, Field(min_length=1, max_length=200)]
"""An account of the operating system: a person's name can be chosen, this one cannot."""
Generation = Annotated[int, Field(ge=1)]


class PublicKey(Value):
    """An Ed25519 public key, and what it signs for. Its id is the SHA-256 of its bytes."""

    role: Role
    key_id: Digest
    public: Annotated[
        str,
        Field(pattern=r"^[0-9a-f]{64}$", description="32 raw bytes, in hexadecimal."),
    ]

    @model_validator(mode="after")
    def _is_named_by_its_bytes(self) -> Self:
        if hashlib.sha256(bytes.fromhex(self.public)).hexdigest() != self.key_id:
            raise ValueError("the key's id is not the SHA-256 of its bytes")
        return self


class Release(Value):
    """What is put in front of users: a version, the bytes that were judged, and the configuration that was scored."""

    model: Name
    version: Number
    package_sha256: Digest
    spec: ServingSpec
    known_answers_share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="Known answers that the probe must see again."
    )
    drawn_answers: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Held-out prompts that the probe draws by chance and asks beside the known answers.",
    )

    @property
    def fingerprint(self) -> str:
        """What its responses are marked with."""
        return self.spec.fingerprint


class _Ordered(Value):
    """Who wanted it, and why."""

    by: Person
    reason_sha256: Digest
    account: Account | None = Field(
        default=None,
        description="Under which account it was typed; None: before it was recorded.",
    )


class Opened(Value):
    """The first entry of a ledger: its name for ever, and the key that signs it."""

    kind: Literal["opened"] = "opened"
    ledger_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    key: PublicKey


class KeyAdded(_Ordered):
    """From here on another key may sign, too."""

    kind: Literal["key_added"] = "key_added"
    key: PublicKey


class KeyRevoked(_Ordered):
    """From here on a key signs nothing any more; what it signed before stays."""

    kind: Literal["key_revoked"] = "key_revoked"
    key_id: Digest


class Made(Value):
    """What a version consists of, as it was when it came into the ledger."""

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


class Registered(Made):
    """A run made this version: the only entry from which a version may be judged without somebody's word for it."""

    kind: Literal["registered"] = "registered"
    by: Person = Field(
        description="Who had it trained: its author, who does not approve it."
    )
    account: Account | None = None
    logical_run: Digest


class Adopted(Made, _Ordered):
    """A version that no run entered, such as one from before runs did: a person answers for where it came from."""

    kind: Literal["adopted"] = "adopted"


class Judged(Value):
    """What the gate `judge` answered."""

    kind: Literal["judged"] = "judged"
    model: Name
    version: Number
    package_sha256: Digest
    verdict: Literal["passed", "rejected", "undecided"]
    verdict_sha256: Digest
    policy_sha256: Digest
    waivers: tuple[Generation, ...] = Field(
        default=(), description="The waivers that it leans on, by generation."
    )
    adapter_sha256: Digest | None = Field(
        default=None,
        description="What a revocation of this version takes with it, under any name.",
    )
    registration: Generation | None = Field(
        default=None,
        description="The entry that says where the version came from; None: it was judged before there were any.",
    )


class ReleaseBegun(_Ordered):
    """A candidate is to be verified and loaded beside what serves."""

    kind: Literal["release_begun"] = "release_begun"
    release: Release
    judged: Generation


class ReleaseSwitched(Value):
    """Full traffic goes to it from here on."""

    kind: Literal["release_switched"] = "release_switched"
    begun: Generation


class ReleaseCompleted(Value):
    """The endpoint said that it answers."""

    kind: Literal["release_completed"] = "release_completed"
    begun: Generation


class ReleaseAborted(Value):
    """It never got traffic; why is in the reason."""

    kind: Literal["release_aborted"] = "release_aborted"
    begun: Generation
    reason_sha256: Digest
    by: Person | None = Field(
        default=None,
        description="Who ordered it; None: nobody did, since it did not come about.",
    )
    account: Account | None = None


class RolledBack(_Ordered):
    """Full traffic goes back to a release that served before; what is on its way is aborted."""

    kind: Literal["rolled_back"] = "rolled_back"
    model: Name
    to: Generation = Field(description="Generation at which that release had begun.")


class BaseServed(_Ordered):
    """The base model answers under the model's name, until the next release or rollback; what is on its way is aborted."""

    kind: Literal["base_served"] = "base_served"
    model: Name


class Revoked(_Ordered):
    """A version never serves again. Where it serves now, what served before takes over, or the base."""

    kind: Literal["revoked"] = "revoked"
    model: Name
    version: Number
    adapter_sha256: Digest | None = Field(
        default=None,
        description="Of a version that nobody judged: its bytes, under any name.",
    )


class Frozen(_Ordered):
    """No release begins and the ones on their way are aborted; going back stays possible."""

    kind: Literal["frozen"] = "frozen"


class Unfrozen(_Ordered):
    """Releases may begin again."""

    kind: Literal["unfrozen"] = "unfrozen"


class Waived(_Ordered):
    """A rule of `judge` does not hold for a model until a time: checked when a release begins, never afterwards."""

    kind: Literal["waived"] = "waived"
    rule: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    model: Name
    until: AwareDatetime


class LostHead(Value):
    """An entry that others remember and the ledger does not hold."""

    generation: Generation
    hash: Digest


class HeadAccepted(_Ordered):
    """From here on the ledger counts as it is, although others remember entries that it does not hold."""

    kind: Literal["head_accepted"] = "head_accepted"
    lost: tuple[LostHead, ...] = ()


Body = Annotated[
    Opened
    | KeyAdded
    | KeyRevoked
    | Registered
    | Adopted
    | Judged
    | ReleaseBegun
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


def _of_the_calendar(moment: datetime) -> datetime:
    """A time that UTC has, too: one at the calendar's end with a zone may lie beyond it."""
    try:
        canonical_time(moment)
    except OverflowError as error:
        raise ValueError("a time beyond the calendar") from error
    return moment


class Entry(Value):
    """One row of the ledger.

    `hash` is the SHA-256 of generation, time, body (`body_document`), previous hash and key id in canonical JSON; `signature` is Ed25519
    over the hash's 32 bytes.
    """

    generation: Generation
    at: Annotated[AwareDatetime, AfterValidator(_of_the_calendar)]
    body: Body
    previous: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    key_id: Digest
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

    So an entry that was written before a body had one more optional field still hashes to the same.
    """
    return {**body.model_dump(mode="json", exclude_defaults=True), "kind": body.kind}


def canonical_time(moment: datetime) -> str:
    """UTC, to the microsecond, as it is hashed."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
