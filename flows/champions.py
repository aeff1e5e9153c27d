"""The aliases `champion` and `challenger` in MLflow, as the ledger has them.

The ledger decides what serves. The aliases follow it, for batch jobs and for people.
"""

from collections.abc import Iterator

from core.errors import RegistryError
from registry.ledger.entries import Release
from registry.ledger.state import LedgerState, ModelState
from registry.mlflow.recorded import CHALLENGER, CHAMPION
from registry.mlflow.store import Store


def move_champions(store: Store, ledger_state: LedgerState) -> tuple[str, ...]:
    """Make the alias `champion` of each model what the ledger says.

    Gives a sentence for each that was moved or could not be. Only a release with full traffic
    counts. Where the base answers there is no champion: a batch job must not load what was taken
    out of service. A model that Assay registered and never released has none either, whoever gave
    it one. Models that others registered are left alone.
    """
    holders = store.holders(CHAMPION)
    # Also models that the ledger does not know: one may bear an alias by mistake.
    names = set(ledger_state.models)
    for name, number in holders.items():
        if name not in names and _is_registered_by_assay(store, name, number):
            names.add(name)
    sentences: list[str] = []
    for name in sorted(names):
        model = ledger_state.model(name)
        sentences += _move_champion(
            store,
            name,
            model,
            holders.get(name),
        )
    return tuple(sentences)


def drop_revoked_challengers(
    store: Store, ledger_state: LedgerState
) -> tuple[str, ...]:
    """Take the alias `challenger` from revoked versions; gives a sentence for each."""
    sentences = []
    for name, model in ledger_state.models.items():
        if not model.revoked:
            continue
        challenger = store.holder(name, CHALLENGER)
        if challenger is not None and challenger.version in model.revoked:
            store.move_alias(name, CHALLENGER, None)
            sentences.append(
                f"challenger of {name}: {challenger.version} → none, since it is revoked"
            )
    return tuple(sentences)


def _is_registered_by_assay(store: Store, name: str, number: str) -> bool:
    version = store.known(name, number)
    if version is None:
        return False
    # Only our versions carry the digest of a package.
    return bool(version.package_sha256)


def _move_champion(
    store: Store, name: str, model: ModelState, holder: str | None
) -> Iterator[str]:
    """Move the alias of one model from its present `holder`; yield what there is to say."""
    serving = model.answering
    # A release on its way moves nothing yet: it may still be rolled back.
    is_under_way = serving is not None and not serving.is_completed
    if is_under_way:
        return
    champion, doubt = None, ""
    try:
        if serving is not None:
            doubt = doubt_about(store, serving.release)
            champion = None if doubt else serving.release.version
        # Only a change is written: MLflow's history of aliases stays readable.
        if holder != champion:
            store.move_alias(name, CHAMPION, champion)
    except RegistryError as error:
        # Reported, not raised: the other models must not wait for this one.
        yield f"champion of {name} is not what the ledger says: {error}"
        return
    if doubt:
        yield f"{name} has no champion: {doubt}"
    elif holder != champion:
        move = f"{holder or 'none'} → {champion or 'none'}"
        yield f"champion of {name}: {move}"


def doubt_about(store: Store, release: Release) -> str:
    """Why MLflow's version of that number is not what was released; empty where it is.

    MLflow's numbers begin again at 1 where its database was lost.
    """
    version = store.known(release.model, release.version)
    subject = f"version {release.version}, which the ledger says is released,"
    next_step = (
        "It goes on serving from this machine's copy, but nothing can be compared with it any "
        "more. Find out who changed MLflow, and restore MLflow from a backup; or revoke that "
        "version before a new one is trained and promoted; or train under another name."
    )
    if version is None:
        return f"{subject} is not in MLflow any more. {next_step}"
    if version.package_sha256 != release.package_sha256:
        digest = version.package_sha256[:12] or "unknown"
        return f"{subject} is another package in MLflow now (SHA-256 {digest}). {next_step}"
    return ""
