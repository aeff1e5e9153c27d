"""What the ledger asks an engine for."""

from dataclasses import dataclass, replace

from registry.ledger.entries import PublicKey
from registry.ledger.state import LedgerState, RecordedRelease
from serving.endpoint.engine_record import EngineContents
from serving.endpoint.shared.company import SharedBase


@dataclass(frozen=True)
class Need:
    """A release that must be loaded, or its base alone."""

    recorded: RecordedRelease
    with_adapter: bool = True
    # It has had no traffic: its first failure is its last.
    is_pending: bool = False
    # The key that signed its package, and the entry that said that others may have that key.
    signer: PublicKey | None = None
    signer_compromised_at: int | None = None
    # The release on its way that it is compared with, by the generation at which that began: what
    # serves is loaded a second time then. 0: it is loaded to serve.
    beside: int = 0
    # Releases of other models on its base serve as well.
    has_company: bool = False
    # A release that is watched is compared with it: copies of requests wake no engine.
    is_compared: bool = False

    def with_company(self, bases: frozenset[SharedBase]) -> "Need":
        """The same, with whether its base is one of those that have several models."""
        base = SharedBase.of(self.recorded.release.spec)
        return replace(self, has_company=base in bases)

    def with_signer(self, ledger_state: LedgerState) -> "Need":
        """The same, with what the ledger says now of the key that signed its package."""
        key_id = self.recorded.release.signed_by
        if key_id is None:
            return self
        return replace(
            self,
            signer=ledger_state.known_key(key_id),
            signer_compromised_at=ledger_state.compromised_at(key_id),
        )

    @property
    def may_share(self) -> bool:
        """Whether it may be in one process with releases of other models.

        Not what is on its way or is compared with that: a bad candidate ends nobody else.
        """
        is_by_itself = self.is_pending or self.beside != 0 or not self.with_adapter
        return self.has_company and self.recorded.is_completed and not is_by_itself

    @property
    def key(self) -> tuple[int, bool, int]:
        """What identifies its engine."""
        return self.recorded.begun, self.with_adapter, self.beside

    @property
    def contents(self) -> EngineContents:
        """What its engine has loaded."""
        release = self.recorded.release
        return EngineContents.of(release, with_adapter=self.with_adapter)

    @property
    def label(self) -> str:
        """What a log line and an alarm call it."""
        release = self.recorded.release
        if self.beside:
            return f"the baseline, version {release.version} of {release.model}"
        if self.with_adapter:
            return f"version {release.version} of {release.model}"
        return f"the base of {release.model}"
