"""What the same work came to before: then nothing is to be done, and the run says so."""

from pathlib import Path

from flows.run.outcome import Outcome
from pipelines.evidence import Scorecard
from pipelines.verdict import read_screen_verdict
from registry.recorded import CHAMPION, RECIPE, RecordedRun
from registry.store import Store


def earlier_outcome(store: Store, run: RecordedRun, work: str, model: str, home: Path, *, registers: bool = True) -> Outcome | None:
    """What the same work came to before, from its MLflow run; None where it did not come to its end."""
    if run.verdict is None:
        return None
    version = store.find_version(model, work)
    if registers and run.verdict == "passed" and version is None:
        return None
    evidence = store.runs.fetch_evidence(run.run_id, home / "evidence" / run.run_id)
    verdict = read_screen_verdict(evidence / "verdict.json")
    card = evidence / "scorecard.json"
    return Outcome(
        verdict=verdict.verdict,
        gate=verdict.gate,
        findings=verdict.findings,
        scorecard=Scorecard.read(card) if card.is_file() else None,
        model=model,
        version=version.version if version else None,
        run_id=run.run_id,
        unchanged=True,
    )


def champions_own(store: Store, model: str, recipe: str, home: Path) -> Outcome | None:
    """The champion's own outcome, where this work is what made it: it would be held against itself."""
    champion = store.holder(model, CHAMPION)
    if champion is None or store.runs.tags(champion.run_id).get(RECIPE) != recipe:
        return None
    return earlier_outcome(store, RecordedRun(run_id=champion.run_id, verdict="passed"), champion.logical_run, model, home)
