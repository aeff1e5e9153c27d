"""What a new adapter is compared with: the champion, and the fixed anchor.

Both are written into the workspace before the first stage, so that DVC sees them as inputs.
"""

from collections.abc import Iterator
from pathlib import Path

from core.errors import RegistryError
from flows.run.attempt import fetch_package_of
from flows.run.comparator_bases import place_version
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.evidence import Adapter
from registry.ledger.entries import Release
from registry.ledger.ledger import read_ledger, was_ever_opened
from registry.ledger.state import ModelState
from registry.mlflow.recorded import ANCHOR, CHAMPION, ModelVersion
from registry.mlflow.store import Store


def place_comparators(store: Store, model: str, workspace: Workspace) -> None:
    """Write champion and anchor of a model into the workspace, where there are any.

    `RegistryError` where MLflow does not hold what the ledger says was served last.
    """
    champion_version = find_champion(store, model, workspace.home)
    anchor_version = find_anchor(store, model, workspace.home)
    # Compared once: what holds against the champion holds against the anchor, too.
    if anchor_version == champion_version:
        anchor_version = None
    champion = _place(
        store,
        champion_version,
        CHAMPION,
        workspace,
    )
    anchor = _place(
        store,
        anchor_version,
        ANCHOR,
        workspace,
    )
    if champion is not None or anchor is not None:
        comparators = ChampionInput(champion=champion, anchor=anchor)
        comparators.write(workspace.root / layout.CHAMPION_INPUT)


def find_comparators(store: Store, model: str, home: Path) -> tuple[ModelVersion, ...]:
    """The champion and the anchor of a model, where there are any."""
    found = (find_champion(store, model, home), find_anchor(store, model, home))
    return tuple(version for version in found if version is not None)


def _place(
    store: Store, version: ModelVersion | None, alias: str, workspace: Workspace
) -> Champion | None:
    if version is None:
        return None
    package = fetch_package_of(store, version, workspace.home)
    return place_version(version, package, alias, workspace)


def find_champion(store: Store, model: str, home: Path) -> ModelVersion | None:
    """The version that a new adapter has to beat; None where there is none.

    Of a model that the ledger ever released: the last version with full traffic that is not
    revoked, also while the base answers. The alias `champion` may lag behind it. Of another
    model: what holds the alias. `RegistryError` where MLflow does not hold the released bytes.
    """
    state = ModelState()
    if was_ever_opened(home):
        ledger_state = read_ledger(home).state()
        state = ledger_state.model(model)
    if state.comparator is not None:
        return released_version(store, state.comparator.release)
    # Everything that served is revoked: whatever holds the alias is no measure of quality.
    if state.once_served:
        return None
    champion = store.holder(model, CHAMPION)
    if champion is None or champion.version in state.revoked:
        return None
    return champion


def find_anchor(store: Store, model: str, home: Path) -> ModelVersion | None:
    """The fixed version that no later one may fall behind; None where there is none yet.

    What holds the alias `anchor`, which a release manager sets; else the first champion: the first
    version that ever had full traffic, is not revoked, and that MLflow still holds.
    """
    state = ModelState()
    if was_ever_opened(home):
        state = read_ledger(home).state().model(model)
    return next(_anchors(store, model, state), None)


def find_anchor_adapter(
    store: Store, model: str, home: Path, state: ModelState, candidate: str
) -> Adapter | None:
    """The anchor's adapter by what the ledger says; None where there is no anchor yet.

    `candidate` is the adapter that is judged: given the alias, it would be measured against itself.
    """
    for anchor in _anchors(store, model, state):
        package = fetch_package_of(store, anchor, home)
        adapter = Adapter.read(package / "adapter.json")
        if adapter.sha256 != candidate or _has_served(state, candidate):
            return adapter
    return None


def _anchors(store: Store, model: str, state: ModelState) -> Iterator[ModelVersion]:
    """What holds the alias, then the first champion."""
    chosen = store.holder(model, ANCHOR)
    if chosen is not None:
        yield chosen
    # The first of them and not the last: small losses would add up unseen.
    for recorded in state.once_served:
        release = recorded.release
        version = store.known(release.model, release.version)
        is_held = (
            version is not None and version.package_sha256 == release.package_sha256
        )
        if version and is_held and release.version not in state.revoked:
            yield version
            return


def _has_served(state: ModelState, adapter_sha256: str) -> bool:
    served = [recorded.release.spec.adapter_sha256 for recorded in state.once_served]
    return adapter_sha256 in served


def released_version(store: Store, release: Release) -> ModelVersion:
    """The version of a release; `RegistryError` where MLflow does not hold those bytes."""
    version = store.known(release.model, release.version)
    # A number alone is no identity: MLflow gives numbers out again where it was lost.
    if version is None or version.package_sha256 != release.package_sha256:
        raise RegistryError(
            f"Version {release.version} of {release.model} served last, and MLflow does not hold "
            "it as it was released. Restore MLflow from a backup, or train under another name "
            "with --model."
        )
    return version
