"""Whose folder it is.

A project of Assay is marked as one, and no other project is taken for it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.environment import set_library_environment
from core.errors import WorkspaceError
from core.project import FILE, find_project, find_root, project_servers
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


@pytest.mark.parametrize("text", ["[assay\n", "\udcff", OURS + "home = = 1\n"])
def test_a_marker_that_cannot_be_read_is_said_and_not_passed_over(
    foreign: Path, text: str
) -> None:
    (foreign / FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WorkspaceError, match=r"assay\.toml cannot be read as TOML"):
        find_project(Path(".assay"), foreign / "below")


def test_a_marker_that_an_editor_saved_with_its_mark_and_line_ends_is_read(
    foreign: Path,
) -> None:
    text = OURS.replace("\n", "\r\n")
    (foreign / FILE).write_text(text, encoding="utf-8-sig", newline="")
    assert find_root(foreign / "below") == foreign


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ('[servers]\nmflow = "http://team"\n', r"has 'servers\.mflow'"),
        ('[server]\nmlflow = "http://team"\n', "has 'server'"),
        ('hme = "/data/home"\n', r"has 'assay\.hme'"),
    ],
)
def test_a_slip_in_a_name_is_said_and_not_passed_over(
    foreign: Path, more: str, fact: str
) -> None:
    (foreign / FILE).write_text(OURS + more)
    with pytest.raises(WorkspaceError, match=fact):
        project_servers(foreign)


def test_servers_that_are_no_table_are_said(foreign: Path) -> None:
    (foreign / FILE).write_text(f'servers = "http://team"\n{OURS}')
    with pytest.raises(WorkspaceError, match="'servers' as a value"):
        project_servers(foreign)


@pytest.mark.parametrize("home", ['"."', '".."', "0", "false", '"/"'])
def test_a_home_that_is_no_folder_of_its_own_is_refused(
    foreign: Path, home: str
) -> None:
    (foreign / FILE).write_text(f"{OURS}home = {home}\n")
    with pytest.raises(WorkspaceError, match="names a home that"):
        find_project(Path(".assay"), foreign)


def test_a_home_below_that_of_the_account_is_understood(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(foreign.parent))
    (foreign / FILE).write_text(f'{OURS}home = "~/kept"\n')
    assert find_project(Path(".assay"), foreign).home == foreign.parent / "kept"


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


@pytest.fixture
def servers(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that names its servers, in which no variable does."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "ASSAY_LEDGER_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("ASSAY_SYSTEM_PID", raising=False)
    (foreign / FILE).write_text(
        f'{OURS}[servers]\nmlflow = "http://127.0.0.1:1"\nprefect = ""\n'
        'ledger = "postgresql://db.example.org/ledger"\n'
    )
    monkeypatch.chdir(foreign / "below")
    return foreign


def test_servers_of_the_project_count_where_no_variable_names_one(
    servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_LEDGER_URL", "postgresql://elsewhere/ledger")
    set_library_environment()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"
    assert os.environ["ASSAY_LEDGER_URL"] == "postgresql://elsewhere/ledger"
    assert os.environ["PREFECT_API_URL"] == ""


def test_what_assay_up_started_does_not_look_for_servers(
    servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_SYSTEM_PID", "1")
    set_library_environment()
    assert os.environ["MLFLOW_TRACKING_URI"] == ""


@pytest.mark.parametrize(
    "address",
    ['"http://kim:pw@host"', '"postgresql://host/db?password=pw"', "5", '["http://a"]'],
)
def test_a_login_in_the_projects_file_is_refused_and_not_shown(
    servers: Path, address: str
) -> None:
    (servers / FILE).write_text(f"{OURS}[servers]\nmlflow = {address}\n")
    with pytest.raises(WorkspaceError, match="set MLFLOW_TRACKING_URI") as refused:
        set_library_environment()
    assert "pw" not in str(refused.value)


def test_the_home_that_a_project_names_counts_unless_the_environment_names_one(
    foreign: Path,
) -> None:
    (foreign / FILE).write_text(f'{OURS}home = "kept/here"\n')
    assert find_project(Path(".assay"), foreign).home == foreign / "kept/here"
    assert find_project(Path("/elsewhere"), foreign).home == Path("/elsewhere")
    (foreign / FILE).write_text(f"{OURS}home = 5\n")
    with pytest.raises(WorkspaceError, match="names a home that is no path"):
        find_project(Path(".assay"), foreign)


def test_the_top_of_a_repository_stands_for_the_project_in_its_subfolder(
    foreign: Path, tmp_path: Path
) -> None:
    inner = foreign / "assay"
    inner.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        (inner / name).write_text("{}\n")
    (inner / FILE).write_text(OURS)
    assert find_root(foreign) == find_root(foreign / "below") == inner
    # Any other folder that holds one of that name is no repository.
    assert find_root(tmp_path) is None
