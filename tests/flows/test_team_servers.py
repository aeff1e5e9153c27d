"""The team's servers together: what the doctor says in seconds, and a run before it trains.

Against real servers: MLflow with accounts, Prefect with a login.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import AssayError, OperationError
from core.project import Project
from flows.schedule.examine_prefect import examine_prefect
from flows.servers import LEDGER, MLFLOW, PREFECT, check_servers, examine_servers
from flows.start import request_from, run_training
from operations.doctor import examine
from registry.mlflow.examine import examine_mlflow
from tests.support.impostors import Reply, answering, silent
from tests.support.team_servers import (
    ADMIN,
    PREFECT_LOGIN,
    Mlflow,
    mlflow_with_accounts,
    prefect_with_login,
)
from tests.support.waiting import SECONDS_AT_MOST

KIM = ("kim", "kim-pa55word-1")


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "ASSAY_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    # Nobody's own file of logins.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))


def test_without_settings_the_embedded_ones_are_named() -> None:
    findings = examine_servers()
    assert [each.name for each in findings] == [MLFLOW, PREFECT, LEDGER]
    assert all(each.is_ok for each in findings)
    assert [each.text.partition(":")[0] for each in findings] == [
        "not configured (MLFLOW_TRACKING_URI)",
        "not configured (PREFECT_API_URL)",
        "not configured (ASSAY_LEDGER_URL)",
    ]
    check_servers()


def test_three_that_hang_cost_the_doctor_the_time_of_one(
    cloned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    with silent() as port:
        place = f"127.0.0.1:{port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{place}")
        monkeypatch.setenv("PREFECT_API_URL", f"http://{place}/api")
        monkeypatch.setenv(
            "ASSAY_LEDGER_URL", f"postgresql://kim:pa55word-9@{place}/ledger"
        )
        began = time.monotonic()
        findings = examine(Project(cloned, tmp_path / "home"))
        # One after another they would take 13 s, and the other checks of the ledger 20 more.
        assert time.monotonic() - began < 12
    said = {each.name: each.text for each in findings}
    for name in (MLFLOW, PREFECT, LEDGER):
        assert "did not answer within 4.5 s" in said[name]
    assert "pa55word" not in " ".join(said.values())
    assert "ledger" not in said


@pytest.mark.parametrize(
    ("setting", "path"), [("MLFLOW_TRACKING_URI", ""), ("PREFECT_API_URL", "/api")]
)
def test_a_run_ends_in_one_sentence_before_anything_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, path: str
) -> None:
    request = request_from()
    with answering(lambda _: Reply(401)) as (url, _):
        monkeypatch.setenv(setting, url + path)
        with pytest.raises(OperationError) as told:
            run_training(request)
    assert "wants a login (401)" in str(told.value)
    assert str(told.value).endswith("`assay doctor` checks it again.")
    # No server was started, no database made, no worktree.
    assert list((tmp_path / "home").iterdir()) == []


def test_a_ledger_in_one_file_is_named_and_a_wrong_address_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSAY_LEDGER_URL", f"sqlite:///{tmp_path / 'ledger.db'}")
    assert examine_servers()[2].text.endswith("ledger.db, a SQLite file")
    for address, fact in (
        ("mysql://kim@127.0.0.1/x", "cannot be kept at mysql://127.0.0.1/x"),
        ("'postgresql://kim@127.0.0.1/x'", "begins or ends with a quote"),
        ("postgresql://kim:pa55word-9@127.0.0.1:9/x", "is unreachable"),
    ):
        monkeypatch.setenv("ASSAY_LEDGER_URL", address)
        finding = examine_servers()[2]
        assert not finding.is_ok
        assert fact in finding.text
        assert "pa55word" not in finding.text


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    with mlflow_with_accounts(tmp_path_factory.mktemp("team-mlflow")) as server:
        server.post("2.0/mlflow/users/create", username=KIM[0], password=KIM[1])
        yield server


def log_in(patch: pytest.MonkeyPatch, url: str, login: tuple[str, str]) -> None:
    patch.setenv("MLFLOW_TRACKING_URI", url)
    patch.setenv("MLFLOW_TRACKING_USERNAME", login[0])
    patch.setenv("MLFLOW_TRACKING_PASSWORD", login[1])


def mlflow_says() -> str:
    try:
        return examine_mlflow(SECONDS_AT_MOST) or ""
    except AssayError as error:
        return f"problem: {error}"


@pytest.mark.ci
def test_a_real_mlflow_with_accounts_is_told_from_its_rights_and_keeps_no_trace(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    assert "wants a login (401)" in mlflow_says()
    log_in(monkeypatch, mlflow.url, ("kim", "wrong-pa55word"))
    assert "does not know this login (401)" in mlflow_says()
    before = mlflow.everything()
    for login in (ADMIN, KIM):
        log_in(monkeypatch, mlflow.url, login)
        assert mlflow_says().endswith("the first run makes the experiment 'assay'")
    assert mlflow.everything() == before
    made = mlflow.post("2.0/mlflow/experiments/create", name="assay")
    before = mlflow.everything()
    assert "write to the experiment 'assay' (403)" in mlflow_says()
    who = {"username": KIM[0], "resource_type": "experiment"}
    grant = {**who, "resource_id": made["experiment_id"]}
    mlflow.post("3.0/mlflow/users/permissions/grant", **grant, permission="DENY")
    assert "read the experiment 'assay' (403)" in mlflow_says()
    mlflow.post("3.0/mlflow/users/permissions/revoke", **grant)
    mlflow.post("3.0/mlflow/users/permissions/grant", **grant, permission="EDIT")
    assert mlflow_says().endswith("; it passes artifacts on")
    assert mlflow.everything() == before
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] not in mlflow_says()


@pytest.mark.ci
def test_a_real_prefect_with_a_login_is_told_from_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with prefect_with_login(tmp_path) as url:
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        with pytest.raises(OperationError, match="wants a login"):
            examine_prefect(SECONDS_AT_MOST)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "kim:wrong")
        with pytest.raises(OperationError, match="does not know this login"):
            examine_prefect(SECONDS_AT_MOST)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", PREFECT_LOGIN)
        assert ", version 3.8." in (examine_prefect(SECONDS_AT_MOST) or "")
        monkeypatch.setenv("PREFECT_API_URL", url)
        with pytest.raises(OperationError, match="one level lower") as told:
            examine_prefect(SECONDS_AT_MOST)
        assert str(told.value).endswith(f"Set PREFECT_API_URL to {url}/api.")
