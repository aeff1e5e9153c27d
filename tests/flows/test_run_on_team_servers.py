"""A whole run that is recorded in the team's MLflow, and seen in the team's Prefect."""

from pathlib import Path

import httpx
import pytest

from tests.support.journey import Checkout, learnable_rows, run_arguments, write_rows
from tests.support.team_servers import (
    ADMIN,
    PREFECT_LOGIN,
    mlflow_with_accounts,
    prefect_with_login,
)
from tests.support.waiting import SECONDS_AT_MOST

KIM = ("kim", "kim-pa55word-1")

pytestmark = pytest.mark.slow


def test_an_account_without_a_grant_runs_and_another_is_told_at_once(
    checkout: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("mlflow", "prefect")]
    for folder in folders:
        folder.mkdir()
    data = write_rows(tmp_path / "letters.jsonl", learnable_rows())
    arguments = run_arguments(data, tiny_base)
    with (
        mlflow_with_accounts(folders[0]) as mlflow,
        prefect_with_login(folders[1]) as prefect,
    ):
        for name in ("kim", "eve"):
            mlflow.post("2.0/mlflow/users/create", username=name, password=KIM[1])
        settings = {
            "MLFLOW_TRACKING_URI": mlflow.url,
            "MLFLOW_TRACKING_USERNAME": KIM[0],
            "MLFLOW_TRACKING_PASSWORD": KIM[1],
            "PREFECT_API_URL": f"{prefect}/api",
            "PREFECT_API_AUTH_STRING": PREFECT_LOGIN,
        }
        made = checkout.assay(*arguments, **settings)
        assert made.code == 0, made.out + made.err
        assert made.last["version"] == "1"
        listed = httpx.get(
            f"{mlflow.url}/api/2.0/mlflow/registered-models/search",
            auth=ADMIN,
            timeout=SECONDS_AT_MOST,
        ).json()
        assert [each["name"] for each in listed["registered_models"]] == [
            "letters-tiny"
        ]
        user, password = PREFECT_LOGIN.split(":")
        flows = httpx.post(
            f"{prefect}/api/flow_runs/filter",
            json={},
            auth=(user, password),
            timeout=SECONDS_AT_MOST,
        ).json()
        assert [each["state"]["type"] for each in flows] == ["COMPLETED"]
        # A promotion finds the version there; only the endpoint is missing.
        order = ("promote", "1", "--model", "letters-tiny", "--reason", "better")
        judgement = checkout.assay(*order, **settings)
        said = judgement.out + judgement.err
        assert "No endpoint of" in said
        # Another account is told before anything starts.
        refused = checkout.assay(
            *arguments, **{**settings, "MLFLOW_TRACKING_USERNAME": "eve"}
        )
    assert refused.code == 1
    (line,) = refused.err.strip().splitlines()
    assert "does not let this account write to the experiment 'assay' (403)" in line
    assert KIM[1] not in said + made.out + made.err + line
