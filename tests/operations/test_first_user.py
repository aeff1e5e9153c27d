"""Who waives in the demo: two of MLflow's users, by the passwords that the home keeps."""

import json
from pathlib import Path

import pytest

from core.environment import set_library_environment
from core.errors import OperationError
from core.project import Project
from operations.demo import WAIVED
from operations.identity import first_user
from operations.waiving import enter_waiver_of
from registry.ledger.ledger import open_ledger
from registry.mlflow.accounts import knows_password, read_passwords
from registry.release.judging.waivers import NOT_BY_ONE_PERSON, WAIVABLE
from registry.release.people import read_people
from tests.support.journey import ROOT


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    set_library_environment()
    return Project(ROOT, tmp_path_factory.mktemp("home"))


def test_the_demo_waives_as_a_user_whose_password_holds_and_says_who(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(project.home))
    people = read_people(project.root)
    assert set(WAIVED) <= WAIVABLE & NOT_BY_ONE_PERSON
    for rule, user in WAIVED.items():
        identity = first_user(project, user)
        assert (identity.by, identity.account) == (user, f"mlflow:{user}")
        assert people.has_role(identity.by, identity.account, "release_manager")
        enter_waiver_of(identity, "letters", rule, "24h", "a test")
    waivers = open_ledger(project.home).state().waivers
    assert [waiver.account for waiver in waivers] == ["mlflow:manager", "mlflow:admin"]


def test_a_password_that_was_changed_is_nobodys(project: Project) -> None:
    first_user(project, "manager")
    path = project.home / "passwords.json"
    passwords = read_passwords(project.home)
    assert knows_password(project.home, "manager", passwords["manager"])
    assert not knows_password(project.home, "eve", passwords["manager"])
    path.write_text(json.dumps({**passwords, "manager": "changed"}))
    try:
        with pytest.raises(OperationError, match="somebody changed it"):
            first_user(project, "manager")
        with pytest.raises(OperationError, match="does not hold the password"):
            first_user(project, "eve")
    finally:
        path.write_text(json.dumps(passwords))


def test_without_a_database_of_accounts_nobody_is_known(tmp_path: Path) -> None:
    assert not knows_password(tmp_path, "manager", "x")
