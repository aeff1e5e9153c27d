"""What serves and what served before it: who is scored again, against whom, and the entry of that.

The ledger says who serves. The alias `champion` may lag behind, and anybody may have moved it.
"""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile, IllegalEntry
from flows.run.artifacts import Verdict, collect_evidence
from flows.run.attempt import fetch_package_of
from flows.run.comparator_bases import place_version
from flows.run.comparators import released_version
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.values.champion import ChampionInput
from pipelines.values.evidence import Scorecard
from registry.ledger.entries import Rescored
from registry.ledger.ledger import open_ledger, read_ledger, was_ever_opened
from registry.ledger.state import ModelState, RecordedRelease
from registry.mlflow.recorded import CHAMPION, ModelVersion
from registry.mlflow.store import Store
from registry.release.context import append
from registry.release.recompute import recompute
from registry.release.rescore import PREDECESSOR, judge_again


@dataclass(frozen=True)
class Serving:
    """The version that serves, its release, and the release that a rollback leads to."""

    version: ModelVersion
    release: RecordedRelease | None = None
    """None: the ledger released nothing of the model, and an alias names the version."""
    before: RecordedRelease | None = None


def find_serving(store: Store, model: str, home: Path) -> Serving | None:
    """Who serves; None where nothing does. `RegistryError` where MLflow lost what was released."""
    state = ModelState()
    if was_ever_opened(home):
        state = read_ledger(home).state().model(model)
    answering = state.answering
    if answering is not None:
        version = released_version(store, answering.release)
        return Serving(version, answering, state.before)
    champion = store.holder(model, CHAMPION)
    # The base answers, or what served is revoked: an alias makes nobody serve.
    if champion is None or state.once_served:
        return None
    return Serving(champion)


def place_predecessor(
    serving: Serving, store: Store, workspace: Workspace
) -> RecordedRelease | None:
    """Put what served before into the workspace, to be scored on the same rows, and give it.

    None where there is none.
    """
    before = serving.before
    if before is None:
        return None
    version = store.known(before.release.model, before.release.version)
    # MLflow lost it: what serves is still worth its scores.
    if version is None or version.package_sha256 != before.release.package_sha256:
        return None
    package = fetch_package_of(store, version, workspace.home)
    # Its base may be another one: whoever wants to go back asks which of both answers better.
    predecessor = place_version(version, package, PREDECESSOR, workspace)
    # As the anchor it guards against losses, and need not be beaten once more.
    comparators = ChampionInput(champion=None, anchor=predecessor)
    comparators.write(workspace.root / layout.CHAMPION_INPUT)
    return before


def enter_rescore(
    serving: Serving,
    against: RecordedRelease | None,
    workspace: Workspace,
    verdict: Verdict,
) -> int | None:
    """Enter what the scores say of what serves; gives the entry's generation.

    None where there is nothing to enter: the ledger released nothing of the model, the rows were
    not admitted, or another version serves by now. `DamagedFile` where the verdict does not follow
    from its evidence.
    """
    release = serving.release
    # Rows that are refused say nothing of the version.
    if release is None or verdict.gate != "screen":
        return None
    evidence = collect_evidence(workspace, verdict)
    differences = recompute(evidence, project=workspace.root).differences
    # Others can write to the cache, and traffic may go back for this.
    if differences:
        raise DamagedFile(
            f"The verdict does not follow from its evidence ({differences[0]}). "
            "Remove .assay/cache and run again; nothing was entered."
        )
    ledger = open_ledger(workspace.home)
    policy = load_policy(workspace.root / layout.POLICY)
    again = judge_again(verdict, policy)
    scorecard = Scorecard.read(workspace.root / layout.SCORECARD)
    body = Rescored(
        model=serving.version.name,
        version=serving.version.version,
        package_sha256=serving.version.package_sha256,
        begun=release.begun,
        against=None if against is None else against.begun,
        verdict=again.verdict,
        verdict_sha256=ledger.remember(again.model_dump_json()),
        policy_sha256=verdict.policy_sha256,
        evidence_sha256=scorecard.content_sha256(),
    )
    try:
        ledger_state = append(ledger, lambda _: body)
    # To score takes minutes, in which somebody may have released or gone back.
    except IllegalEntry:
        return None
    return ledger_state.head.generation
