"""Two projects in one repository: a clean-up of one leaves alone what the other's runs need."""

from pathlib import Path

import pytest

from flows.run.pin import keep_run_commit, pin_working_tree
from operations.init.create import InitRequest, create_project
from operations.run_refs import may_be_of_another_project, run_refs
from tests.support.journey import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two projects, whose files git does not track."""
    git(tmp_path, "init", "--quiet")
    create_project(InitRequest(folder=Path("sales")), tmp_path)
    create_project(InitRequest(folder=Path("support")), tmp_path)
    return tmp_path


def ended_run(root: Path, run_id: str) -> None:
    """A run's refs as it leaves them, made in the project itself."""
    pin_working_tree(root, run_id)
    (root / "data/code").mkdir()
    (root / "data/code/score.json").write_text("{}\n")
    keep_run_commit(root, run_id)


@pytest.mark.parametrize(("own", "other"), [("sales", "support"), ("support", "sales")])
def test_a_run_is_of_the_project_whose_code_it_recorded(
    repository: Path, own: str, other: str
) -> None:
    ended_run(repository / own, "a")
    refs = run_refs(repository)["a"]
    assert not may_be_of_another_project(repository / own, refs)
    assert may_be_of_another_project(repository / other, refs)


def test_a_run_that_died_may_be_of_either(repository: Path) -> None:
    pin_working_tree(repository / "sales", "a")
    refs = run_refs(repository)["a"]
    assert not may_be_of_another_project(repository / "sales", refs)
    assert may_be_of_another_project(repository / "support", refs)
    git(repository, "add", "--all")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(repository, *identity, "commit", "--quiet", "-m", "both")
    pin_working_tree(repository / "sales", "b")
    refs = run_refs(repository)["b"]
    assert may_be_of_another_project(repository / "sales", refs)
    assert may_be_of_another_project(repository / "support", refs)


def test_where_there_is_one_project_every_run_is_its_own(tmp_path: Path) -> None:
    create_project(InitRequest(), tmp_path)
    pin_working_tree(tmp_path, "a")
    assert not may_be_of_another_project(tmp_path, run_refs(tmp_path)["a"])
