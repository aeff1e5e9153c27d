"""Each thing that the doctor looks at, gone wrong for real: named, with what to do."""

import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.private_file import write_private
from core.project import Project
from operations import checks
from operations.checks import Check
from operations.doctor import examine
from operations.services import Ports
from registry.ledger.keys import key_file
from registry.ledger.ledger import open_ledger


@pytest.fixture
def project(cloned: Path, tmp_path: Path) -> Project:
    (tmp_path / "home").mkdir(mode=0o700)
    return Project(cloned, tmp_path / "home")


def problems(project: Project) -> dict[str, str]:
    """What is wrong, by the name of the check; ports of this machine and its installation aside."""
    return {
        each.name: each.text
        for each in examine(project)
        if not each.is_ok and each.name not in ("ports", "libraries", "memory")
    }


def test_an_empty_home_has_no_problem(project: Project) -> None:
    assert problems(project) == {}


def test_a_home_with_a_ledger_has_no_problem(project: Project) -> None:
    open_ledger(project.home)
    assert problems(project) == {}


def open_passwords(project: Project) -> None:
    write_private(project.home / "passwords.json", "{}")
    (project.home / "passwords.json").chmod(0o644)


def others_write(project: Project) -> None:
    project.home.chmod(0o777)


def others_read(project: Project) -> None:
    project.home.chmod(0o755)


def foreign_key(project: Project) -> None:
    open_ledger(project.home)
    other = project.home / "other"
    open_ledger(other)
    key_file(other).replace(key_file(project.home))


def no_key(project: Project) -> None:
    open_ledger(project.home)
    key_file(project.home).unlink()


def open_key(project: Project) -> None:
    open_ledger(project.home)
    key_file(project.home).chmod(0o644)


def broken_ledger(project: Project) -> None:
    (project.home / "ledger.db").write_bytes(b"no database at all" * 100)


def ledger_of_tomorrow(project: Project) -> None:
    open_ledger(project.home, lambda: datetime.now(UTC) + timedelta(days=1))


def lost_ledger(project: Project) -> None:
    open_ledger(project.home)
    (project.home / "ledger.db").unlink()


@pytest.mark.parametrize(
    ("spoil", "name", "fact"),
    [
        (open_passwords, "secrets", "chmod 600"),
        (others_write, "home", "chmod 700"),
        (others_read, "home", "every account of this machine may read"),
        (foreign_key, "key", "is not one that the ledger trusts"),
        (no_key, "key", "holds no key"),
        (open_key, "key", "chmod 600"),
        (broken_ledger, "ledger", "ledger"),
        (lost_ledger, "ledger", "There was a ledger here"),
        (ledger_of_tomorrow, "clock", "behind the ledger. Set the clock"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    project: Project, spoil: Callable[[Project], None], name: str, fact: str
) -> None:
    spoil(project)
    assert fact in problems(project)[name]


def test_a_library_that_is_not_as_locked_is_named(
    project: Project, tmp_path: Path
) -> None:
    root = tmp_path / "clone"
    (root / "infra").mkdir(parents=True)
    for name in ("requirements.lock", "infra/lock.sh"):
        shutil.copyfile(project.root / name, root / name)
    with (root / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write(
            "click==0.0.1 \\\n    --hash=sha256:00\nno-such-thing-at-all==1.0 \\\n    "
            "--hash=sha256:00\n"
        )
    (found,) = checks.libraries(Project(root, project.home))
    assert not found.is_ok
    assert "locked 0.0.1" in found.text
    assert "no-such-thing-at-all is missing" in found.text


def test_a_lock_of_the_persons_own_is_not_taken_for_that_of_assay(
    project: Project, tmp_path: Path
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("click==0.0.1\nno-such-thing-at-all==1.0\n", encoding="utf-8")
    (found,) = checks.libraries(Project(tmp_path, project.home))
    assert "as this Assay asks for" in found.text
    assert "no-such-thing-at-all" not in found.text


def test_a_port_of_another_program_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(checks, "Ports", lambda: Ports(mlflow=port))
        assert Check(
            name="ports",
            is_ok=False,
            text=f"{port} is taken by another program. Give `assay up` another with --mlflow-port.",
        ) in tuple(checks.ports(project))


def test_a_folder_that_is_no_checkout_of_git_is_named(tmp_path: Path) -> None:
    (found,) = checks.git(Project(tmp_path, tmp_path))
    assert not found.is_ok
    assert "Look at the repository" in found.text


def test_too_little_disk_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LEAST_DISK", 10**18)
    (found,) = checks.disk(project)
    assert not found.is_ok
    assert "`assay gc` frees some" in found.text


def test_a_check_that_breaks_is_a_problem_and_no_crash(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LEAST_DISK", None)
    assert "could not be checked (TypeError" in problems(project)["disk"]
