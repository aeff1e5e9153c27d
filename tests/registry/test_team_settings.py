"""What the admin of a team's MLflow sets: a server that could be talked round does not start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import LedgerError, RegistryError
from registry.ledger.keys import key_file
from registry.ledger.ledger import open_ledger
from registry.mlflow.desk import Desk
from registry.mlflow.guarded_stores import Reach, check_classified
from registry.mlflow.team.rules import TEAM_TRACKING, team_models
from registry.mlflow.team.settings import MODELS_FILE, Team, read_team
from registry.release.people import FILE
from tests.support.team_mlflow import command, settings_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in settings_of(tmp_path).items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, text)
    return tmp_path


def read() -> Team:
    """Read anew: a server reads it once."""
    read_team.cache_clear()
    try:
        return read_team()
    finally:
        read_team.cache_clear()


def test_the_listed_models_are_governed_with_their_look_alikes_and_no_others(
    folder: Path,
) -> None:
    team = read()
    assert team.inner_app == "basic-auth"
    assert team.service == "assay"
    for name in ("letters", "LETTERS", "ｌetters", " letters", "let\u200bters"):
        assert team.governed.has(name), name
    for name in ("letter", "letters2", "", "my-letters"):
        assert not team.governed.has(name), name


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("ASSAY_HOME", "", "ASSAY_HOME is no absolute path"),
        ("ASSAY_HOME", ".assay", "ASSAY_HOME is no absolute path"),
        ("ASSAY_MLFLOW_PROJECT", "", "ASSAY_MLFLOW_PROJECT is no absolute path"),
        ("ASSAY_MLFLOW_PROJECT", "here", "ASSAY_MLFLOW_PROJECT is no absolute path"),
        ("ASSAY_MLFLOW_PROJECT", "/nowhere", "There is no /nowhere/people.yaml"),
        ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true", "Set MLFLOW_SERVER_ENABLE"),
        ("MLFLOW_ENABLE_WORKSPACES", "True", "without --enable-workspaces"),
    ],
)
def test_a_setting_that_leads_past_the_rules_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    text: str,
    words: str,
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(RegistryError, match=words):
        read()


def test_jobs_that_nobody_mentioned_are_refused_as_mlflow_runs_them_by_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION")
    with pytest.raises(RegistryError, match="MLflow's jobs run beside the rules"):
        read()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "models: []", "models: letters", "models: ['']", "models: [", "x: 1"],
)
def test_a_list_of_models_that_governs_nothing_is_refused(
    folder: Path, text: str
) -> None:
    (folder / "project" / MODELS_FILE).write_text(text)
    with pytest.raises(RegistryError, match="does not say which models are governed"):
        read()


@pytest.mark.parametrize(
    "text",
    [
        "models: [letters]\nmodels: [other]\n",
        "models: &all [letters]\nothers: *all\n",
        # Its end would be cut off, and the models there would be everybody's.
        "models:\n" + "".join(f"- model-{number:06}\n" for number in range(7_000)),
    ],
)
def test_a_list_that_does_not_say_one_thing_is_refused(folder: Path, text: str) -> None:
    (folder / "project" / MODELS_FILE).write_text(text)
    with pytest.raises(RegistryError, match="does not say which models are governed"):
        read()


def test_a_list_that_is_a_link_is_refused(folder: Path) -> None:
    listed = folder / "project" / MODELS_FILE
    elsewhere = folder / "elsewhere.yaml"
    listed.rename(elsewhere)
    listed.symlink_to(elsewhere)
    with pytest.raises(RegistryError, match="it is a link"):
        read()


def test_people_who_cannot_be_read_are_refused(folder: Path) -> None:
    (folder / "project" / FILE).write_text("people: [")
    with pytest.raises(RegistryError, match="does not say who may do what"):
        read()


@pytest.mark.ci
def test_mlflow_says_what_is_wrong_once_and_starts_no_worker(folder: Path) -> None:
    environment = {**os.environ, **settings_of(folder)}
    (folder / "project" / MODELS_FILE).unlink()
    started = subprocess.run(
        command(folder, 9, "sqlite"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert started.returncode == 1
    assert started.stderr.count("does not say which models are governed") == 1
    assert "Uvicorn running" not in started.stderr


_OPEN = """
import sys
from registry.mlflow.guard import all_store_registries
from registry.mlflow.team import app

app._install_guards()
for address in sys.argv[1:]:
    for registries in all_store_registries():
        for registry in registries:
            try:
                registry.get_store_builder(address)(address)
            except Exception as error:
                print(error)
            else:
                print("opened")
"""


def test_a_place_whose_names_are_compared_by_other_rules_is_not_opened(
    folder: Path,
) -> None:
    addresses = ("mysql+pymysql://u:pa55@h/d", "mssql://u:pa55@h/d", "file:///tmp/x")
    opened = subprocess.run(
        [sys.executable, "-c", _OPEN, *addresses],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    said = opened.stdout.splitlines()
    assert len(said) == 4 * len(addresses)
    for sentence in said:
        assert sentence.startswith("Admission guards records in SQLite or PostgreSQL.")
    assert "pa55" not in opened.stdout


def test_a_method_of_mlflow_that_no_rule_is_for_keeps_the_server_from_starting(
    folder: Path,
) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Records

    rules = team_models(Desk(folder, folder))
    check_classified(Models, rules)
    check_classified(Records, TEAM_TRACKING)
    for plain, known in ((Models, rules), (Records, TEAM_TRACKING)):
        newer = type("Newer", (plain,), {"promote_everything": lambda _: None})
        with pytest.raises(RegistryError, match="no rule for: promote_everything"):
            check_classified(newer, known)


def test_the_key_of_admission_alone_opens_the_ledger_and_makes_none(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, tmp_path)
    with pytest.raises(LedgerError):
        desk.admission()
    assert not key_file(tmp_path).exists()
    open_ledger(tmp_path)
    desk.admission()
    key_file(tmp_path).unlink()
    ledger = desk.admission()
    assert ledger.role == "admission"
    assert not key_file(tmp_path).exists()


def test_assay_ups_own_server_has_no_narrower_reach() -> None:
    assert Reach.trusts_start
    assert Reach().service == "assay"
