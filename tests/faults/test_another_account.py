"""Another account of the machine.

It reads nothing of the home, starts nothing, and is told the true reason.
"""

import json
from pathlib import Path

import pytest

from core.home import make_home
from core.notify import notify
from core.private_file import write_private
from registry.ledger.ledger import open_ledger
from tests.support.another_account import NOBODY, run_as
from tests.support.ledgers import append_released


@pytest.fixture
def home(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of root's, as Assay makes it, with a ledger, notices and a database."""
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    made = open_folder / ".assay"
    make_home(made)
    append_released(open_ledger(made))
    notify(made, "a title", "a text", sends=False)
    write_private(made / "mlflow.db", "x")
    return made


def test_status_says_whose_home_it_is_and_nothing_that_is_not_so(home: Path) -> None:
    done = run_as(NOBODY, "-m", "cli", "status", ASSAY_HOME=str(home))
    assert done.returncode == 0, done.stderr
    reason = f"you (nobody) may not read {home}: it belongs to root (mode 700)"
    assert f"! The ledger is not yours to read: {reason}." in done.stdout
    assert "nothing of `assay up` runs" not in done.stdout
    assert "no ledger" not in done.stdout
    said = json.loads(
        run_as(NOBODY, "-m", "cli", "status", "--json", ASSAY_HOME=str(home)).stdout
    )
    assert {each.partition(":")[0] for each in said["out_of_reach"]} == {
        "The ledger is not yours to read",
        "Of the endpoint nothing is known",
        "Of MLflow nothing is known",
        "Of the services nothing is known",
        "Of notices nothing is known",
    }


@pytest.mark.ci
def test_status_works_with_what_may_be_read(home: Path) -> None:
    home.chmod(0o755)
    (home / "ledger.db").chmod(0o644)
    done = run_as(NOBODY, "-m", "cli", "status", "--json", ASSAY_HOME=str(home))
    said = json.loads(done.stdout)
    assert said["ledger"]["generation"] == 5
    assert [each["model"] for each in said["models"]] == ["letters"]
    assert any(
        f"may not read {home / 'mlflow.db'}: it belongs to root" in each
        for each in said["out_of_reach"]
    )
    assert any(
        f"was not compared with it: you (nobody) may not read {home / 'keys'}" in each
        for each in said["alarms"]
    )
    assert not any(
        "damaged" in each or "is missing" in each or "Errno" in each
        for each in said["alarms"]
    )


@pytest.mark.ci
@pytest.mark.parametrize(
    "command",
    [
        ("history",),
        ("audit", "verify"),
        ("up", "--no-open"),
        ("freeze", "--reason", "x"),
        ("promote", "1", "--model", "letters", "--reason", "x"),
        ("backup", "never-made"),
        ("gc",),
    ],
)
def test_every_other_command_ends_with_the_reason_in_one_line(
    home: Path, command: tuple[str, ...]
) -> None:
    done = run_as(NOBODY, "-m", "cli", *command, ASSAY_HOME=str(home))
    assert done.returncode == 1, done.stdout + done.stderr
    assert (
        f"may not read {home}: it belongs to root (mode 700)"
        in done.stdout + done.stderr
    )
    assert "Traceback" not in done.stderr
    told = [
        line
        for line in done.stderr.splitlines()
        if "is in no project of Assay" not in line
    ]
    assert len(told) <= 1, done.stderr


@pytest.mark.ci
def test_the_doctor_tells_another_account_the_same(home: Path) -> None:
    done = run_as(NOBODY, "-m", "cli", "doctor", "--json", ASSAY_HOME=str(home))
    found = {each["name"]: each["text"] for each in json.loads(done.stdout)}
    assert f"may not read {home}: it belongs to root" in found["ledger"]
