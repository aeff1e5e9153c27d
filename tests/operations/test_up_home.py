"""Where a home may lie."""

from configparser import ConfigParser
from pathlib import Path

import pytest

from core.errors import OperationError, WorkspaceError
from core.project import find_project
from registry.mlflow.accounts import passwords_file, service_login, write_settings


@pytest.mark.parametrize("name", ["what?", "number #1"])
def test_a_home_that_a_databases_address_cannot_hold_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(WorkspaceError, match="has a \\? or # in its path"):
        find_project(tmp_path / name)
    (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / name)
    with pytest.raises(WorkspaceError, match="Set ASSAY_HOME"):
        find_project(tmp_path / "link")
    assert find_project(tmp_path / "50% é").home == tmp_path / "50% é"


def test_a_percent_sign_in_a_homes_path_reaches_mlflow_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "50% %(here)s"
    settings = ConfigParser()  # what MLflow reads it with
    settings.read(write_settings(home))
    assert settings["mlflow"]["database_uri"] == f"sqlite:///{home}/mlflow-auth.db"


def test_a_file_of_passwords_without_the_services_own_is_named(tmp_path: Path) -> None:
    passwords_file(tmp_path).write_text("{}", encoding="utf-8")
    with pytest.raises(OperationError, match="has no password of assay"):
        service_login(tmp_path)
