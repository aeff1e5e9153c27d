"""An approval over HTTP, at the MLflow server that `assay up` starts."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.errors import OperationError
from registry.ledger.keys import load_key
from registry.ledger.ledger import open_ledger
from registry.mlflow.accounts import read_passwords
from registry.mlflow.approving import APPROVALS
from registry.mlflow.logins import Login, verify_login
from registry.mlflow.recorded import PACKAGE
from tests.support.guarded_server import guarded_server
from tests.support.ledgers import MODEL, package, registered
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci
TAG = {"name": MODEL, "version": "1", "key": "approve"}


def ask(
    url: str, home: Path, user: str, path: str, method: str = "POST", **body: Any
) -> httpx.Response:
    return httpx.request(
        method,
        f"{url}/{path}",
        auth=(user, read_passwords(home)[user]),
        json=body,
        timeout=SECONDS_AT_MOST,
        trust_env=False,
    )


def test_a_managers_tag_is_a_signed_approval_and_nobody_elses_is(
    empty_mlflow: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(empty_mlflow, home / "mlflow.db")
    ledger = open_ledger(home)
    ledger.append(registered(), ledger.state())
    with guarded_server(home, tmp_path) as url:
        model = {"name": MODEL}
        rest = "api/2.0/mlflow/model-versions"
        created = ask(
            url, home, "assay", "api/2.0/mlflow/registered-models/create", **model
        )
        assert created.status_code == 200, created.text
        tags = [{"key": PACKAGE, "value": package("1")}]
        version = ask(
            url,
            home,
            "assay",
            f"{rest}/create",
            **model,
            source="s3://somewhere/1",
            tags=tags,
        )
        assert version.status_code == 200, version.text
        for place in ("api/2.0", "ajax-api/2.0"):
            path = f"{place}/mlflow/model-versions/set-tag"
            for user in ("scientist", "admin", "assay"):
                refused = ask(url, home, user, path, **TAG, value="good")
                assert refused.status_code == 403, refused.text
            empty = ask(url, home, "manager", path, **TAG, value=" ")
            assert empty.status_code == 403
            assert "goes on record" in empty.json()["message"]
        assert ledger.state().approvals == ()
        given = ask(url, home, "manager", f"{rest}/set-tag", **TAG, value="good")
        assert given.status_code == 200, given.text
        (approval,) = ledger.state().approvals
        assert (approval.by, approval.account) == ("manager", "mlflow:manager")
        admission = load_key(home, "admission").public.key_id
        assert ledger.entries()[-1].key_id == admission
        shown = ask(url, home, "manager", f"{rest}/get?name={MODEL}&version=1", "GET")
        found = {
            tag["key"]: tag["value"] for tag in shown.json()["model_version"]["tags"]
        }
        assert "approve" not in found
        assert f"entry {approval.generation}" in found[APPROVALS]
        # MLflow itself lets nobody with its permission EDIT delete a tag.
        gone = {**TAG, "key": "disapprove", "value": "answer 12 is wrong"}
        back = ask(url, home, "manager", f"{rest}/set-tag", **gone)
        assert back.status_code == 200, back.text
        assert ledger.state().approvals == ()
        whose_login_it_is_is_said_by_mlflow(url, home)


def whose_login_it_is_is_said_by_mlflow(url: str, home: Path) -> None:
    """What `assay login` asks, of the real server."""
    for user, password in read_passwords(home).items():
        verify_login(Login(server=url, user=user, password=password))
        with pytest.raises(OperationError, match="with that password"):
            verify_login(Login(server=url, user=user, password=password[:-1]))
    passwords = read_passwords(home)
    for name in ("eve", "Manager", "manager "):
        login = Login(server=url, user=name, password=passwords["manager"])
        with pytest.raises(OperationError):
            verify_login(login)
