"""What came before: the same work, or the champion's own adapter. Then there is nothing to judge, and the run says so."""

from pathlib import Path

from flows.run.outcome import Outcome
from pipelines import layout
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.verdict import read_screen_verdict
from registry.mlflow.recorded import (
    CHAMPION,
    MADE_AGAIN,
    RECIPE,
    VERSION,
    ModelVersion,
    RecordedRun,
)
from registry.mlflow.store import Store


def earlier_outcome(
    store: Store,
    run: RecordedRun,
    logical_run: str,
    model: str,
    home: Path,
    *,
    registers: bool = True,
) -> Outcome | None:
    """What the same work came to before, from its MLflow run; None where it did not come to its end."""
    if run.verdict is None:
        return None
    if run.verdict == MADE_AGAIN:
        return _made_again_before(store, run, model, home)
    version = store.find_version(model, logical_run)
    if registers and run.verdict == "passed" and version is None:
        return None
    evidence = store.runs.fetch_evidence(run.run_id, home / "evidence" / run.run_id)
    return _outcome_in(evidence, model, version, run.run_id).model_copy(
        update={"unchanged": True}
    )


def champions_own(store: Store, model: str, recipe: str, home: Path) -> Outcome | None:
    """The champion's own outcome, where this work is what made it: it would be held against itself."""
    champion = store.holder(model, CHAMPION)
    if champion is None or store.runs.tags(champion.run_id).get(RECIPE) != recipe:
        return None
    return champions_outcome(store, champion, home).model_copy(
        update={"unchanged": True}
    )


def made_again(root: Path) -> Champion | None:
    """The champion, where training in this workspace came to its very adapter: it would be held against itself."""
    champion = ChampionInput.read(root / layout.CHAMPION_INPUT).champion
    made = Adapter.read(root / layout.ADAPTER)
    return (
        champion
        if champion is not None and _what_it_is(champion.adapter) == _what_it_is(made)
        else None
    )


def champions_outcome(store: Store, champion: ModelVersion, home: Path) -> Outcome:
    """What the champion was registered with, out of its package."""
    package = store.fetch(champion, home / "packages" / champion.package_sha256)
    return _outcome_in(package, champion.name, champion, champion.run_id).model_copy(
        update={"is_champion": True}
    )


def _outcome_in(
    folder: Path, model: str, version: ModelVersion | None, run_id: str
) -> Outcome:
    """What the verdict and the scorecard in a folder of evidence say."""
    verdict = read_screen_verdict(folder / "verdict.json")
    card = folder / "scorecard.json"
    return Outcome(
        verdict=verdict.verdict,
        gate=verdict.gate,
        findings=verdict.findings,
        scorecard=Scorecard.read(card) if card.is_file() else None,
        model=model,
        version=version.version if version else None,
        run_id=run_id,
    )


def _made_again_before(
    store: Store, run: RecordedRun, model: str, home: Path
) -> Outcome | None:
    number = store.runs.tags(run.run_id).get(VERSION)
    if number is None:
        return None
    outcome = champions_outcome(store, store.get_version(model, number), home)
    return outcome.model_copy(update={"run_id": run.run_id, "unchanged": True})


def _what_it_is(adapter: Adapter) -> tuple[str, str, str | None]:
    return adapter.sha256, adapter.base_digest, adapter.chat_template_sha256
