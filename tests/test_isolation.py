"""Tests see neither what was done in the checkout nor what its developer has set."""

import os
from pathlib import Path

from tests.support.environment import isolate
from tests.support.journey import IDENTITY, clone_tracked_files, git


def test_a_clone_for_tests_holds_tracked_files_as_they_are_now_and_nothing_else(
    tmp_path: Path,
) -> None:
    used = tmp_path / "used"
    used.mkdir()
    git(used, "init", "--quiet")
    (used / "dvc.yaml").write_text("before")
    git(used, "add", "dvc.yaml")
    git(used, *IDENTITY, "commit", "--quiet", "--message", "one file")
    (used / "dvc.yaml").write_text("now")
    (used / "dvc.lock").write_text("what `dvc repro` left")
    clone = clone_tracked_files(tmp_path / "clone", used)
    assert {path.name for path in clone.iterdir()} == {".git", "dvc.yaml"}
    assert git(clone, "show", "HEAD:dvc.yaml") == "now"


def test_no_database_that_a_test_or_a_command_left_is_part_of_the_checkout() -> None:
    tracked = git(Path(__file__).parents[1], "ls-files").splitlines()
    assert tracked
    assert [
        name for name in tracked if name.endswith((".db", ".sqlite", ".db-wal"))
    ] == []


def test_what_a_developer_has_set_reaches_no_test() -> None:
    set_by_developer = {
        "ASSAY_HOME": "/",
        "MLFLOW_TRACKING_URI": "a",
        "PREFECT_API_URL": "b",
        "GIT_DIR": "c",
    }
    environment = {**set_by_developer, "OMP_NUM_THREADS": "64", "HOME": "/home/ann"}
    isolate(environment)
    assert not set_by_developer.keys() & environment.keys()
    assert (environment["OMP_NUM_THREADS"], environment["HOME"]) == ("1", "/home/ann")


def test_tests_and_the_processes_that_they_start_count_with_one_thread() -> None:
    import torch

    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"
