"""The alias `release` in MLflow, as the ledger has it: what was wished last, and was granted.

Where MLflow's server admits wishes, a person's alias and the ledger agree. An alias that moved in
another way, such as by an edit of the database, changes nothing that serves, and is put back here.
"""

from collections.abc import Callable, Iterator

from core.errors import RegistryError
from flows.champions import doubt_about
from registry.ledger.state import LedgerState, ModelState, RecordedRelease
from registry.mlflow.recorded import RELEASE, RELEASE_NOTE
from registry.mlflow.store import Store

_ASK_HERE = "Set the alias on this page to have the version judged."


def put_releases_back(
    store: Store,
    ledger_state: LedgerState,
    explain: Callable[[str], str] = lambda _: "",
) -> tuple[str, ...]:
    """Have the alias `release` of each model name what the ledger released last.

    `explain` says of a model what people should know where its MLflow has no admission.

    Gives a sentence for each that was moved or could not be. A model with an open wish waits for
    its answer.
    """
    holders = store.holders(RELEASE)
    sentences: list[str] = []
    registered = {each.made.model for each in ledger_state.registrations.values()}
    # Also models of which nothing was ever released: the alias has no place there.
    names = registered | set(ledger_state.models)
    for name in sorted(names):
        model = ledger_state.model(name)
        if model.wish is None:
            advice = explain(name) or _ASK_HERE
            holder = holders.get(name)
            sentences += _put_back(store, name, model, holder, advice)
    return tuple(sentences)


def _put_back(
    store: Store, name: str, model: ModelState, holder: str | None, advice: str
) -> Iterator[str]:
    released = _released_last(model)
    try:
        wanted = _version_in_mlflow(store, released)
        # Only a change is written: MLflow shows when an alias moved.
        if holder == wanted:
            return
        store.move_alias(name, RELEASE, wanted)
        _explain(store, name, holder, wanted, advice)
    except RegistryError as error:
        yield f"release of {name} is not what the ledger says: {error}"
        return
    move = f"{holder or 'none'} → {wanted or 'none'}"
    yield f"release of {name}: {move}"


def _explain(
    store: Store, name: str, holder: str | None, wanted: str | None, advice: str
) -> None:
    """Say on the page of the version that lost the alias why it has it no more."""
    version = None if holder is None else store.known(name, holder)
    # Nobody reads the page of a version that is not there.
    if version is None:
        return
    released = "none is" if wanted is None else f"version {wanted} is"
    note = (
        f"The alias `release` was put back: by the ledger {released} released. {advice}"
    )
    store.annotate(version, {RELEASE_NOTE: note})


def _released_last(model: ModelState) -> RecordedRelease | None:
    """The release on its way, else the one that answers; None where the base does."""
    return model.pending or model.answering


def _version_in_mlflow(store: Store, released: RecordedRelease | None) -> str | None:
    """Its number, if MLflow's version of that number is what was released."""
    # Where it is not, the duty that keeps `champion` says so.
    if released is None or doubt_about(store, released.release):
        return None
    return released.release.version
