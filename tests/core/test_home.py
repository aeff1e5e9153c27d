"""Who may look into a home."""

import os
import stat
from pathlib import Path

import pytest

from core.home import describe_openness, explain_no_access, make_home
from registry.ledger.ledger import open_ledger
from tests.support.another_account import NOBODY, run_as


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o002])
@pytest.mark.parametrize("name", [".assay", "elsewhere/home"])
def test_a_home_is_made_for_its_owner_alone_whatever_the_umask(
    tmp_path: Path, name: str, umask: int
) -> None:
    before = os.umask(umask)
    try:
        make_home(tmp_path / name)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / name) == 0o700
    assert describe_openness(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (".assay", 0o755, 0o700),
        (".assay", 0o777, 0o770),
        (".assay", 0o770, 0o770),  # a group was let in by hand
        (".assay", 0o2770, 0o2770),
        (".assay", 0o700, 0o700),
        (".assay", 0o500, 0o500),
        ("srv", 0o755, 0o755),  # somebody else's folder may be for more than Assay
    ],
)
def test_a_home_of_former_times_is_closed_and_a_folder_that_somebody_made_is_not(
    tmp_path: Path, name: str, before: int, after: int
) -> None:
    home = tmp_path / name
    home.mkdir()
    home.chmod(before)
    make_home(home)
    assert mode_of(home) == after
    home.chmod(0o700)


def test_a_home_that_is_a_link_or_lies_in_the_temporary_folder_changes_no_other_folder(
    tmp_path: Path,
) -> None:
    make_home(tmp_path)
    assert Path("/tmp").stat().st_mode & stat.S_ISVTX  # noqa: S108 - whose mode is looked at
    before = mode_of(Path("/tmp"))  # noqa: S108
    make_home(Path("/tmp"))  # noqa: S108
    assert mode_of(Path("/tmp")) == before  # noqa: S108


def test_the_ledger_makes_a_home_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    open_ledger(tmp_path / "home")
    assert mode_of(tmp_path / "home") == 0o700


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o755, ("every account of this machine may read", "chmod 700")),
        (0o701, ("every account of this machine may read", "chmod 700")),
        (0o777, ("every account of this machine may write", "chmod 700")),
        (0o750, ("the group", "may read", "unless that is meant")),
        (0o770, ("the group", "may write", "unless that is meant")),
    ],
)
def test_an_open_home_is_told_with_who_may_do_what(
    tmp_path: Path, mode: int, words: tuple[str, ...]
) -> None:
    tmp_path.chmod(mode)
    said = describe_openness(tmp_path) or ""
    assert all(each in said for each in words), said


def test_what_may_be_read_or_is_not_there_is_closed_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert explain_no_access(tmp_path / "file") is None
    assert explain_no_access(tmp_path / "none" / "there") is None


@pytest.mark.parametrize(("folder", "file"), [(0o700, 0o644), (0o755, 0o600)])
def test_another_account_is_told_what_it_may_not_read_and_whose_it_is(
    open_folder: Path, folder: int, file: int
) -> None:
    home = open_folder / "home"
    home.mkdir()
    (home / "ledger.db").write_text("x")
    (home / "ledger.db").chmod(file)
    home.chmod(folder)
    done = run_as(
        NOBODY,
        "-c",
        "from pathlib import Path; from core.home import explain_no_access; "
        f"print(explain_no_access(Path({str(home / 'ledger.db')!r})))",
    )
    closed, mode = (home, folder) if folder == 0o700 else (home / "ledger.db", file)
    assert (
        done.stdout.strip()
        == f"you (nobody) may not read {closed}: it belongs to root (mode {mode:o})"
    ), done.stderr
