"""Every DVC stage depends on the code that it runs.

Hand-written deps are compared with the import graph.
"""

from pathlib import Path

import grimp
import pytest
import yaml

from pipelines.__main__ import STAGES

ROOT = Path(__file__).parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
GRAPH = grimp.build_graph("core", "pipelines", cache_dir=None)


def closure(stage: str) -> set[str]:
    """Files of the stage's module and of everything that it imports, however far."""
    module = f"pipelines.stages.{stage}"
    names = {module, *GRAPH.find_upstream_modules(module)} - {"core", "pipelines"}
    files = {ROOT / (name.replace(".", "/") + ".py") for name in names} | {
        ROOT / name.replace(".", "/") / "__init__.py" for name in names
    }
    return {path.relative_to(ROOT).as_posix() for path in files if path.is_file()}


def test_dvc_knows_every_stage_in_the_order_of_the_runner() -> None:
    assert tuple(DVC) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_transitive_imports_and_on_nothing_that_it_does_not_use(
    stage: str,
) -> None:
    deps = DVC[stage]["deps"]
    code = {dep for dep in deps if dep.startswith(("core/", "pipelines/"))}
    folders = {dep for dep in code if not dep.endswith(".py")}
    needed = closure(stage)
    covered = {
        file
        for file in needed
        if file in code or any(file.startswith(f"{folder}/") for folder in folders)
    }
    assert needed - covered == set(), (
        f"add them to dvc.yaml, or run infra/deps.py: {sorted(needed - covered)}"
    )
    assert code - folders <= needed, (
        f"take them out of dvc.yaml: {sorted(code - folders - needed)}"
    )
    assert all(
        any(file.startswith(f"{folder}/") for file in needed) for folder in folders
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_run_again_when_the_lock_changes(stage: str) -> None:
    assert "requirements.lock" in DVC[stage]["deps"]


@pytest.mark.parametrize("stage", ["admit", "screen"])
def test_a_gate_is_run_again_when_the_policy_changes(stage: str) -> None:
    assert "registry/policies/default.yaml" in DVC[stage]["deps"]


def test_the_stages_that_train_cannot_receive_the_held_out_split() -> None:
    held_out = {"data/collect", "data/split", "data/validate", "data/raw"}
    assert not held_out & set(DVC["fine_tune"]["deps"])
