"""Every DVC stage depends on the code that it runs, and on the inputs that it may see."""

from pathlib import Path

import pytest
import yaml

from infra.deps import stage_list
from pipelines.__main__ import CODE, STAGES
from pipelines.stage_code import LISTED

ROOT = Path(__file__).parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def test_dvc_knows_every_stage_in_the_order_of_the_runner() -> None:
    assert tuple(DVC) == (CODE, *STAGES)


def test_the_list_of_what_each_stage_imports_is_that_of_the_import_graph() -> None:
    listed = yaml.safe_load(LISTED.read_text(encoding="utf-8"))
    assert listed == stage_list(), "run infra/deps.py"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_run_again_when_its_own_code_changes(stage: str) -> None:
    code = [dep for dep in DVC[stage]["deps"] if dep.startswith("data/code")]
    assert code == [f"data/code/{stage}.json"]


def test_what_the_installed_code_is_is_asked_each_time() -> None:
    assert DVC[CODE] == {
        "cmd": "exec assay stage code",
        "always_changed": True,
        "outs": ["data/code"],
    }


@pytest.mark.parametrize("stage", ["admit", "screen"])
def test_a_gate_is_run_again_when_the_policy_changes(stage: str) -> None:
    assert "registry/policies/default.yaml" in DVC[stage]["deps"]


def test_the_stages_that_train_cannot_receive_the_held_out_split() -> None:
    held_out = {"data/collect", "data/split", "data/validate", "data/raw"}
    assert not held_out & set(DVC["fine_tune"]["deps"])
