"""The alias `release` in an MLflow without admission, where people.yaml takes it as a wish.

Nobody knows who set it, so the wish is by `mlflow:unknown`. It is judged like any other, also where
the version served before, and counts as nobody's approval. The controller's key signs it: a user of
MLflow's who is called `unknown` is somebody else, and comes by the key of admission.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from core.account import UNKNOWN, UNKNOWN_ACCOUNT
from core.errors import IllegalEntry
from core.project import Project
from flows.admission_there import AdmissionThere, may_ask_unknown
from registry.ledger.entries import Wished
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, Registration
from registry.mlflow.recorded import RELEASE, RELEASE_REASON, ModelVersion
from registry.mlflow.store import Store
from registry.release.context import ChangeRequest, append, attribute

_NO_REASON = "The alias `release` was set in an MLflow without admission."
_LONGEST_REASON = 2000


@dataclass
class AliasWishes:
    """Takes each alias once: one that was refused is put back, and not judged again."""

    project: Project
    there: AdmissionThere
    _taken: dict[str, str] = field(default_factory=dict)
    """The version whose alias was taken last, by model."""

    def take(self, store: Store, ledger: Ledger) -> tuple[str, ...]:
        """Enter a wish for each alias that nobody admitted; gives a sentence for each.

        `LedgerError` where it cannot be entered; `ParameterError` where people.yaml is broken.
        """
        if not may_ask_unknown(self.project):
            return ()
        ledger_state = ledger.state()
        sentences = []
        holders = store.holders(RELEASE)
        # One that somebody took away, too.
        self._forget_moved(holders)
        for name, version in holders.items():
            if not self._is_new(name, version, ledger_state):
                continue
            # Also where it cannot be asked for: it is put back, and not tried in every round.
            self._taken[name] = version
            registration = ledger_state.registration(name, version)
            page = store.get_version(name, version)
            if registration is None or not _is_same(page, registration):
                continue
            # Frozen, or revoked meanwhile.
            with suppress(IllegalEntry):
                _enter(store, ledger, page)
                sentences.append(
                    f"`release` of {name} {version} was found and is judged."
                )
        return tuple(sentences)

    def _is_new(self, name: str, version: str, ledger_state: LedgerState) -> bool:
        model = ledger_state.model(name)
        released = model.pending or model.answering
        # What the ledger released has the alias by right.
        if released is not None and released.release.version == version:
            self._taken.pop(name, None)
            return False
        is_known = ledger_state.registration(name, version) is not None
        is_taken = self._taken.get(name) == version
        if model.wish is not None or is_taken or not is_known:
            return False
        return self.there.is_missing(name)

    def forget_moved(self, store: Store) -> None:
        """An alias that was put back may be set again."""
        self._forget_moved(store.holders(RELEASE))

    def _forget_moved(self, holders: Mapping[str, str]) -> None:
        for name, version in tuple(self._taken.items()):
            has_moved = holders.get(name) != version
            if has_moved:
                del self._taken[name]


def _is_same(page: ModelVersion, registration: Registration) -> bool:
    """Whether the page is about the bytes that the ledger registered."""
    return page.package_sha256 == registration.made.package_sha256


def _enter(store: Store, ledger: Ledger, page: ModelVersion) -> None:
    tags = store.page_tags(page)
    reason = tags.get(RELEASE_REASON, "").strip()
    request = ChangeRequest(
        by=UNKNOWN,
        reason=reason[:_LONGEST_REASON] or _NO_REASON,
        account=UNKNOWN_ACCOUNT,
    )
    attribution = attribute(request, ledger)
    wish = Wished(
        model=page.name,
        version=page.version,
        package_sha256=page.package_sha256,
        **attribution,
    )
    append(ledger, lambda _: wish)
