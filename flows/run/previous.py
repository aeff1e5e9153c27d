"""Earlier outcomes: of the same work, or of the champion's own adapter. They need no judging."""

from pathlib import Path

from flows.run.attempt import Attempt, fetch_package_of
from flows.run.outcome import Outcome
from pipelines import layout
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.verdict import read_screen_verdict
from registry.ledger.ledger import read_ledger, was_ever_opened
from registry.mlflow.recorded import CHAMPION, MADE_AGAIN, RECIPE, VERSION, ModelVersion
from registry.mlflow.store import Store


def earlier_outcome(attempt: Attempt, *, registers: bool = True) -> Outcome | None:
    """The outcome of the same work before, from its MLflow run; None where that never ended.

    `registers`: a finalist without its version has not ended either.
    """
    run, store = attempt.run, attempt.store
    if run.verdict is None:
        return None
    # That answer is no verdict of a gate: its outcome is the champion's.
    if run.verdict == MADE_AGAIN:
        return _earlier_champion(attempt)
    # A verdict without its version was cut short between the two: the run goes on.
    version = store.find_version(attempt.model, attempt.logical_run)
    has_passed = run.verdict == "passed"
    if registers and has_passed and version is None:
        return None
    folder = attempt.home / "evidence" / run.run_id
    evidence = store.runs.fetch_evidence(run.run_id, folder)
    outcome = _read_outcome(
        evidence,
        attempt.model,
        version,
        run.run_id,
    )
    return outcome.model_copy(update={"unchanged": True})


def outcome_of_recipe(
    store: Store, model: str, recipe: str, home: Path
) -> Outcome | None:
    """The champion's outcome, where this recipe made the champion; else None.

    Run again, the recipe would compare the champion with itself.
    """
    champion = store.holder(model, CHAMPION)
    if champion is None or _is_revoked(champion, home):
        return None
    tags = store.runs.tags(champion.run_id)
    if tags.get(RECIPE) != recipe:
        return None
    outcome = champions_outcome(store, champion, home)
    return outcome.model_copy(update={"unchanged": True})


def _is_revoked(version: ModelVersion, home: Path) -> bool:
    """Whether the ledger revokes it; its alias may still be in MLflow."""
    if not was_ever_opened(home):
        return False
    return version.version in read_ledger(home).state().model(version.name).revoked


def champion_made_again(root: Path) -> Champion | None:
    """The champion, where training in this workspace made its very adapter again; else None."""
    champion_input = ChampionInput.read(root / layout.CHAMPION_INPUT)
    champion = champion_input.champion
    adapter = Adapter.read(root / layout.ADAPTER)
    if champion is None or _identity(champion.adapter) != _identity(adapter):
        return None
    return champion


def champions_outcome(store: Store, champion: ModelVersion, home: Path) -> Outcome:
    """The outcome with which the champion was registered, read from its package."""
    package = fetch_package_of(store, champion, home)
    outcome = _read_outcome(
        package,
        champion.name,
        champion,
        champion.run_id,
    )
    return outcome.model_copy(update={"is_champion": True})


def _read_outcome(
    folder: Path, model: str, version: ModelVersion | None, run_id: str
) -> Outcome:
    """The outcome that verdict and scorecard in a folder of evidence describe."""
    verdict = read_screen_verdict(folder / "verdict.json")
    scorecard = folder / "scorecard.json"
    return Outcome(
        verdict=verdict.verdict,
        gate=verdict.gate,
        findings=verdict.findings,
        scorecard=Scorecard.read(scorecard) if scorecard.is_file() else None,
        model=model,
        version=version.version if version else None,
        run_id=run_id,
    )


def _earlier_champion(attempt: Attempt) -> Outcome | None:
    store = attempt.store
    tags = store.runs.tags(attempt.run.run_id)
    # A run that was killed before it ended has the verdict and no version yet.
    if VERSION not in tags:
        return None
    champion = store.get_version(attempt.model, tags[VERSION])
    outcome = champions_outcome(store, champion, attempt.home)
    return outcome.model_copy(update={"run_id": attempt.run.run_id, "unchanged": True})


def _identity(adapter: Adapter) -> tuple[str, str, str | None]:
    """What decides an adapter's answers: weights, base, and chat template."""
    return (
        adapter.sha256,
        adapter.base_digest,
        adapter.chat_template_sha256,
    )
