"""How things stand in the ledger, as values: what `registry.ledger.rules` makes of its entries, for release, endpoint, controller and audit."""

from pydantic import AwareDatetime, Field

from core.value import Value
from registry.ledger.entries import (
    Head,
    Judged,
    Made,
    PublicKey,
    Release,
)


class RecordedRelease(Value):
    """A release as the ledger holds it: when it began, when it got full traffic, for whom and why."""

    begun: int
    release: Release
    judged: int
    by: str
    reason_sha256: str
    at: AwareDatetime
    is_completed: bool = False


class ModelState(Value):
    """One registered model: what serves, what is on its way, what may never serve again."""

    served: tuple[RecordedRelease, ...] = ()
    """Oldest first; the last one serves, the one before it is where a rollback goes."""
    once_served: tuple[RecordedRelease, ...] = ()
    """Every release that ever had full traffic, in the order of its beginning."""
    pending: RecordedRelease | None = None
    revoked: frozenset[str] = frozenset()
    serves_base: bool = False
    changed_at: int = 0
    """Generation at which what serves was last changed: a verdict from before it is about another comparison."""

    @property
    def current(self) -> RecordedRelease | None:
        """What serves; with `serves_base` its base alone."""
        return self.served[-1] if self.served else None

    @property
    def answering(self) -> RecordedRelease | None:
        """The release that answers under the model's name; None where the base does, or nothing."""
        return None if self.serves_base else self.current

    @property
    def comparator(self) -> RecordedRelease | None:
        """The last release with full traffic that is not revoked, also while the base answers in its place."""
        if self.current is not None:
            return self.current
        return next(
            (
                held
                for held in reversed(self.once_served)
                if held.release.version not in self.revoked
            ),
            None,
        )

    @property
    def before(self) -> RecordedRelease | None:
        """Where a rollback goes; None where nothing served before."""
        return self.served[-2] if len(self.served) > 1 else None


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
    """How a version came into the ledger: by the run that made it, or by a person who answers for it."""

    generation: int
    at: AwareDatetime
    by: str
    account: str | None
    made: Made
    is_adopted: bool

    @property
    def key(self) -> str:
        """Its place in `LedgerState.registrations`."""
        return registration_key(self.made.model, self.made.version)


class Freeze(Value):
    """Nothing is released; who said so, and why."""

    generation: int
    at: AwareDatetime
    by: str
    reason_sha256: str


class LedgerState(Value):
    """Everything that the entries up to `head` amount to."""

    head: Head
    at: AwareDatetime
    keys: tuple[PublicKey, ...]
    models: dict[str, ModelState] = Field(default_factory=dict)
    registrations: dict[str, Registration] = Field(default_factory=dict)
    """By model and version, the last of each: MLflow begins its numbers anew where its database was lost."""
    judged: dict[int, Judged] = Field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    frozen: Freeze | None = None
    revoked_adapters: dict[str, int] = Field(default_factory=dict)
    """Adapters that never serve again, whatever they are called, with the entry that revoked each."""

    accepted: dict[str, int] = Field(default_factory=dict)
    """Hashes of entries that others remember and that are lost, with the entry that accepted each loss."""

    def model(self, name: str) -> ModelState:
        """A model that no entry names stands at nothing."""
        return self.models.get(name, ModelState())

    def registration(self, model: str, version: str) -> Registration | None:
        """How that version came into the ledger; None where nothing says so."""
        return self.registrations.get(registration_key(model, version))

    def key(self, key_id: str) -> PublicKey | None:
        """The key of that id, if it may sign now."""
        return next((key for key in self.keys if key.key_id == key_id), None)


def registration_key(model: str, version: str) -> str:
    """Names hold no space and numbers hold nothing but digits, so that no two versions share a key."""
    return f"{model} {version}"
