"""Whose folder it is.

A checkout of Assay is marked as one, and no other project is taken for it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import WorkspaceError
from core.project import FILE, find_project, find_root
from registry.ledger.ledger import open_ledger, read_ledger
from tests.support.journey import ROOT, CommandResult, git
from tests.support.waiting import SECONDS_AT_MOST

OURS = '[assay]\nformat = "assay-project/1"\n'


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A DVC project of somebody else, with a folder in it."""
    root = tmp_path / "theirs"
    (root / "below").mkdir(parents=True)
    git(root, "init", "--quiet")
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).write_text("{}\n")
    return root


def test_the_repository_is_marked() -> None:
    assert find_root(ROOT / "tests/flows") == ROOT


def test_a_marked_folder_is_found_from_below(foreign: Path) -> None:
    (foreign / FILE).write_text(OURS)
    assert find_root(foreign / "below") == foreign
    assert find_project(Path(".assay"), foreign / "below").home == foreign / ".assay"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        '[assay]\nname = "a tool of that name"\n',
        "[assay]\nformat = 1\n",
        'format = "assay-project/1"\n',
        'assay = "assay-project/1"\n',
        "[assay\n",
        "\udcff",
    ],
)
def test_a_project_of_somebody_else_is_not_taken_for_a_checkout(
    foreign: Path, text: str | None
) -> None:
    if text is not None:
        (foreign / FILE).write_bytes(text.encode(errors="surrogateescape"))
    (foreign / "pyproject.toml").write_text(
        '[project]\nname = "assay"\nscripts = {assay = "theirs:main"}\n'
    )
    assert find_root(foreign / "below") is None
    assert find_project(Path(".assay"), foreign / "below").root == ROOT


def test_a_checkout_of_before_the_marker_is_known_by_its_command(foreign: Path) -> None:
    (foreign / "pyproject.toml").write_text(
        '[project.scripts]\nassay = "flows.cli:main"\n'
    )
    assert find_root(foreign) == foreign


@pytest.mark.parametrize("name", ["dvc.yaml", "params.yaml"])
def test_a_checkout_that_is_not_whole_is_refused_and_not_passed_over(
    foreign: Path, name: str
) -> None:
    (foreign / FILE).write_text(OURS)
    (foreign / name).unlink()
    with pytest.raises(
        WorkspaceError,
        match=rf"theirs is a project of Assay without {name}\. Bring that back",
    ):
        find_project(Path(".assay"), foreign / "below")


def test_a_checkout_of_a_newer_assay_is_refused(foreign: Path) -> None:
    (foreign / FILE).write_text(OURS.replace("/1", "/2"))
    with pytest.raises(
        WorkspaceError, match=r"is of format assay-project/2, from a newer Assay"
    ):
        find_root(foreign)


def test_a_brake_in_a_foreign_project_acts_on_the_checkout_of_its_code_and_names_the_home(
    foreign: Path, cloned: Path, tmp_path: Path
) -> None:
    checkout = Path(shutil.copytree(cloned, tmp_path / "assay"))
    home = checkout / ".assay"
    open_ledger(home)
    done = assay_of(checkout, foreign, "freeze", "--reason", "a test")
    assert done.code == 0, done.err
    assert (
        f"theirs is in no project of Assay: this acts on {checkout} and its home {home}."
        in done.err
    )
    assert read_ledger(home).state().frozen is not None
    assert not (foreign / ".assay").exists()
    done = assay_of(checkout, checkout / "docs", "unfreeze", "--reason", "a test")
    assert (done.code, done.err) == (0, "")


def assay_of(checkout: Path, folder: Path, *arguments: str) -> CommandResult:
    """`assay ARGUMENTS`, installed from a checkout, typed in a folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "ASSAY_HOME": "",
        "ASSAY_USER": "ann",
    }
    command = [sys.executable, "-m", "cli", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_AT_MOST,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)
