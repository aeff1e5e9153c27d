"""A run whose answers are computed otherwise than usual, and what it has put into MLflow."""

from pathlib import Path

from flows.run.attempt import fetch_package_of
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import Finalist, read_screen_verdict
from registry.mlflow.recorded import CHAMPION
from registry.release.recompute import recompute
from serving.regenerate import regenerate
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    invoke,
    run_arguments,
    take_records,
)

MODEL = "letters-tiny"


def run(checkout: Checkout, judged: Journey, *more: str | Path) -> CommandResult:
    arguments = run_arguments(judged.data, judged.base, "--model", MODEL, *more)
    return invoke(checkout, *arguments)


def evidence_of(checkout: Checkout, result: CommandResult) -> Path:
    """Of a run that came to a verdict, whichever: it follows from what it holds."""
    assert result.code in {0, 3, 4}, result.out + result.err
    run_id = result.last["mlflow_run"]
    folder = checkout.home / "evidence" / run_id
    fetched = checkout.store.runs.fetch_evidence(run_id, folder)
    assert recompute(fetched, project=checkout.root).differences == ()
    return fetched


def registered(checkout: Checkout, result: CommandResult) -> tuple[Path, ServingSpec]:
    """The package of a run that passed, and what was scored: it answers so once more."""
    assert result.code == 0, result.out + result.err
    version = checkout.store.get_version(MODEL, "1")
    package = fetch_package_of(checkout.store, version, checkout.home)
    finalist = read_screen_verdict(package / "verdict.json")
    assert isinstance(finalist, Finalist)
    assert recompute(package, project=checkout.root).differences == ()
    assert regenerate(package, 5, checkout.home).is_enough
    return package, finalist.spec


def run_against_usual(checkout: Checkout, judged: Journey, *how: str) -> Path:
    """The evidence of another candidate, whose champion was scored as usual."""
    take_records(judged.checkout, checkout)
    checkout.store.move_alias(MODEL, CHAMPION, "1")
    result = run(checkout, judged, *how, "--set", "train.max_steps=80")
    return evidence_of(checkout, result)


def champion_in(evidence: Path) -> Champion:
    named = ChampionInput.read(evidence / "champion.json").champion
    assert named is not None
    return named
