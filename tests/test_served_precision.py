"""A precision from parameter to engine: what is scored in int8 is served in int8.

A champion in another precision answers as its users know it.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import ServingError
from flows.run.attempt import fetch_package_of
from pipelines.models.base_store import locate_base_model
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import ChampionInput
from pipelines.values.verdict import Finalist, read_screen_verdict
from registry.mlflow.recorded import CHAMPION
from registry.release.recompute import recompute
from serving.load import EngineConfig, load_engine
from serving.regenerate import regenerate
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    invoke,
    run_arguments,
    take_records,
)

pytestmark = pytest.mark.ci

MODEL = "letters-tiny"
IN_INT8 = ("--set", "generation.precision=int8")


def run(checkout: Checkout, judged: Journey, *more: str | Path) -> CommandResult:
    arguments = run_arguments(judged.data, judged.base, "--model", MODEL, *more)
    return invoke(checkout, *arguments)


def evidence_of(checkout: Checkout, result: CommandResult) -> Path:
    run_id = result.last["mlflow_run"]
    folder = checkout.home / "evidence" / run_id
    return checkout.store.runs.fetch_evidence(run_id, folder)


def test_what_passed_in_int8_is_registered_regenerated_and_served_in_int8(
    seeded: Checkout, judged: Journey
) -> None:
    result = run(seeded, judged, *IN_INT8)
    assert result.code == 0, result.out + result.err
    version = seeded.store.get_version(MODEL, "1")
    package = fetch_package_of(seeded.store, version, seeded.home)
    finalist = read_screen_verdict(package / "verdict.json")
    assert isinstance(finalist, Finalist)
    assert finalist.spec.precision == "int8"
    assert recompute(package, project=seeded.root).differences == ()
    assert regenerate(package, 5, seeded.home).is_enough
    base = BaseModelManifest.read(package / "base_model.json")
    folder = locate_base_model(base, seeded.home)
    config = EngineConfig(folder, package / "base_model.json", package, MODEL)
    engine = load_engine(config)
    assert engine.specs[MODEL] == finalist.spec
    engine.close()
    with pytest.raises(ServingError, match="precision is float32, not int8"):
        load_engine(replace(config, precision="float32"))


def test_a_champion_answers_in_the_precision_that_its_users_get(
    seeded: Checkout, judged: Journey
) -> None:
    take_records(judged.checkout, seeded)
    seeded.store.move_alias(MODEL, CHAMPION, "1")
    result = run(seeded, judged, *IN_INT8, "--set", "train.max_steps=80")
    assert result.code in {0, 3, 4}, result.out + result.err
    folder = evidence_of(seeded, result)
    named = ChampionInput.read(folder / "champion.json").champion
    assert named is not None
    assert named.precision == "float32"
    makers = read_evidence(folder / "evidence.parquet").made_by
    precisions = {system: spec.precision for system, spec in makers.items()}
    others = {"adapter", "base", "few_shot"}
    assert precisions == {**dict.fromkeys(others, "int8"), "champion": "float32"}
    assert recompute(folder, project=seeded.root).differences == ()
