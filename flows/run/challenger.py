"""At most one challenger of a model is under review: whether a new finalist takes its place."""

from pathlib import Path

from core.errors import LedgerError
from core.value import Value
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.evidence import Adapter, Scorecard
from registry.mlflow.recorded import CHALLENGER, CHAMPION, ModelVersion
from registry.mlflow.store import Store
from registry.release.succession import against_challenger, beats

SUPERSEDED_BY = "assay.superseded_by"


class Succession(Value):
    """Whether a finalist takes the alias `challenger`, from which open challenger, and what kept it from it."""

    takes: bool
    over: ModelVersion | None = None
    shortfall: str = ""
    is_same: bool = False
    """The challenger is the same adapter: it is not held against itself, and the newer evidence counts."""


def succession(
    store: Store,
    workspace: Workspace,
    model: str,
    logical_run: str,
    scorecard: Scorecard,
) -> Succession:
    """Hold the finalist against the open challenger: it takes the alias where there is none, or by beating it under `screen`."""
    held = store.holder(model, CHALLENGER)
    if (
        held is None
        or held.logical_run == logical_run
        or not _is_open(store, workspace.project.home, held)
    ):
        return Succession(takes=True)
    package = store.fetch(
        held, workspace.project.home / "packages" / held.package_sha256
    )
    if Adapter.read(package / "adapter.json").sha256 == scorecard.adapter.sha256:
        return Succession(takes=True, over=held, is_same=True)
    own = read_evidence(scorecard.evidence.checked(workspace.root))
    policy = load_policy(workspace.root / layout.POLICY)
    findings = against_challenger(
        scorecard, own, read_evidence(package / "evidence.parquet"), policy
    )
    if beats(findings):
        return Succession(takes=True, over=held)
    short = next(
        (finding.text for finding in findings if finding.outcome != "passed"),
        "no rule was judged",
    )
    return Succession(
        takes=False,
        over=held,
        shortfall=short.replace("champion", f"challenger {held.version}"),
    )


def settle(store: Store, place: Succession, version: str) -> str:
    """Mark the challenger that was superseded, and say what became of the alias."""
    if place.over is None:
        return "alias challenger"
    if place.takes:
        store.annotate(place.over, {SUPERSEDED_BY: version})
        how = "as the same adapter, judged anew" if place.is_same else "by beating it"
        return (
            f"alias challenger, which it takes from version {place.over.version} {how}"
        )
    return f"version {version} does not beat challenger {place.over.version}, which stays under review: {place.shortfall}"


def _is_open(store: Store, home: Path, held: ModelVersion) -> bool:
    """Under review still: not the champion, and by the ledger neither released before nor revoked."""
    champion = store.holder(held.name, CHAMPION)
    if champion is not None and champion.version == held.version:
        return False
    from registry.ledger.ledger import read_ledger

    try:
        model = read_ledger(home).state().model(held.name)
    except LedgerError:
        return True  # nothing was ever released or revoked here, or it cannot be told: leave the review alone
    return held.version not in model.revoked and all(
        once.release.version != held.version for once in model.once_served
    )
