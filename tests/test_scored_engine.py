"""An engine from parameter to package: what one scored names it in all that follows.

A champion of another engine answers as its users know it.
"""

from pathlib import Path

import pytest

from flows.run.attempt import fetch_package_of
from pipelines.engines.installed import installed_version
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.champion import ChampionInput
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
from tests.support.tiny import make_tiny_base
from tests.support.vllm_environment import VLLM_HEAD_SIZE, find_or_make_vllm

MODEL = "letters-tiny"
IN_OPENVINO = ("--set", "generation.engine=openvino")


def run(checkout: Checkout, judged: Journey, *more: str | Path) -> CommandResult:
    arguments = run_arguments(judged.data, judged.base, "--model", MODEL, *more)
    return invoke(checkout, *arguments)


@pytest.mark.ci
def test_what_openvino_scored_is_registered_and_regenerated_by_it(
    seeded: Checkout, judged: Journey
) -> None:
    result = run(seeded, judged, *IN_OPENVINO)
    assert result.code == 0, result.out + result.err
    version = seeded.store.get_version(MODEL, "1")
    package = fetch_package_of(seeded.store, version, seeded.home)
    finalist = read_screen_verdict(package / "verdict.json")
    assert isinstance(finalist, Finalist)
    assert finalist.spec.engine == "openvino"
    assert finalist.spec.engine_version == installed_version("openvino")
    makers = read_evidence(package / "evidence.parquet").made_by
    assert {spec.engine for spec in makers.values()} == {"openvino"}
    assert recompute(package, project=seeded.root).differences == ()
    assert regenerate(package, 5, seeded.home).is_enough


@pytest.mark.ci
def test_a_champion_answers_in_the_engine_that_its_users_get(
    seeded: Checkout, judged: Journey
) -> None:
    take_records(judged.checkout, seeded)
    seeded.store.move_alias(MODEL, CHAMPION, "1")
    result = run(seeded, judged, *IN_OPENVINO, "--set", "train.max_steps=80")
    assert result.code in {0, 3, 4}, result.out + result.err
    run_id = result.last["mlflow_run"]
    folder = seeded.store.runs.fetch_evidence(run_id, seeded.home / "evidence" / run_id)
    named = ChampionInput.read(folder / "champion.json").champion
    assert named is not None
    assert named.engine is not None
    assert named.engine.name == "transformers"
    makers = read_evidence(folder / "evidence.parquet").made_by
    engines = {system: spec.engine for system, spec in makers.items()}
    others = {"adapter", "base", "few_shot"}
    assert engines == {**dict.fromkeys(others, "openvino"), "champion": "transformers"}
    assert recompute(folder, project=seeded.root).differences == ()


@pytest.mark.slow
def test_what_vllm_scored_names_vllm_whatever_the_verdict(
    seeded: Checkout,
    judged: Journey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = find_or_make_vllm(tmp_path / "vllm")
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", str(python))
    base = make_tiny_base(tmp_path / "wide", VLLM_HEAD_SIZE)
    arguments = run_arguments(judged.data, base, "--model", "wide")
    result = invoke(seeded, *arguments, "--set", "generation.engine=vllm")
    assert result.code in {0, 3, 4}, result.out + result.err
    run_id = result.last["mlflow_run"]
    folder = seeded.store.runs.fetch_evidence(run_id, seeded.home / "evidence" / run_id)
    makers = read_evidence(folder / "evidence.parquet").made_by
    assert {spec.engine for spec in makers.values()} == {"vllm"}
    assert recompute(folder, project=seeded.root).differences == ()
