"""Prefect holds what `infra/prefect.yaml` declares; declaring it again changes nothing."""

from typing import Any

import pytest
import yaml

from tests.support.deployments import Automatic, ask, deploy
from tests.support.journey import ROOT

pytestmark = pytest.mark.ci

DECLARED = yaml.safe_load((ROOT / "infra/prefect.yaml").read_text(encoding="utf-8"))[
    "deployments"
]


def held(running: Automatic, what: str) -> list[dict[str, Any]]:
    return list(
        ask("POST", f"{running.api}/{what}/filter", json={}).raise_for_status().json()
    )


def test_every_declared_deployment_is_there_with_its_schedule_and_its_limit(
    running: Automatic,
) -> None:
    there = {each["name"]: each for each in held(running, "deployments")}
    assert there.keys() == {each["name"] for each in DECLARED}
    for each in DECLARED:
        found = there[each["name"]]
        assert found["description"] == each["description"]
        assert found["enforce_parameter_schema"] is True
        assert [schedule["slug"] for schedule in found["schedules"]] == [
            schedule["slug"] for schedule in each.get("schedules", [])
        ]
        assert (found["global_concurrency_limit"] or {}).get("limit") == each.get(
            "concurrency_limit", {}
        ).get("limit")


def test_every_parameter_of_the_form_has_a_description_and_a_default(
    running: Automatic,
) -> None:
    schema = running.deployment("retrain/on-demand")["parameter_openapi_schema"]
    fields = schema["definitions"]["TrainRequest"]["properties"]
    assert {
        "model",
        "data",
        "base_model",
        "held_out",
        "policy",
        "licence",
        "completion_mode",
        "settings",
    } <= fields.keys()
    for name, field in {**fields, **schema["properties"]}.items():
        assert field.get("description"), name
        assert "default" in field or name == "settings", name


def test_deploying_again_changes_nothing_and_leaves_paused_what_a_person_paused(
    running: Automatic,
) -> None:
    before = {
        each["name"]: each["updated"]
        for each in held(running, "automations")
        if each["name"].startswith("Assay: ")
    }
    names = [
        sorted(each["name"] for each in held(running, what))
        for what in ("deployments", "automations", "work_pools")
    ]
    ids = {each["id"] for each in held(running, "deployments")}
    running.change("rescore/weekly-rescore", paused=True)
    deploy(running)
    assert running.deployment("rescore/weekly-rescore")["paused"] is True
    running.change("rescore/weekly-rescore", paused=False)
    assert {
        each["name"]: each["updated"]
        for each in held(running, "automations")
        if each["name"].startswith("Assay: ")
    } == before
    assert [
        sorted(each["name"] for each in held(running, what))
        for what in ("deployments", "automations", "work_pools")
    ] == names
    assert {each["id"] for each in held(running, "deployments")} == ids
    assert len(before) == 2


def test_a_model_that_the_project_has_no_longer_is_trained_no_longer(
    running: Automatic,
) -> None:
    names = {each["name"] for each in held(running, "deployments")}
    models = running.checkout.root / "models"
    models.mkdir()
    for model in ("food", "drink"):
        text = 'data: null\nschedule: "0 3 * * *"\n'
        (models / f"{model}.yaml").write_text(text)
    deploy(running)
    with_models = {each["name"] for each in held(running, "deployments")}
    assert {"nightly-food", "nightly-drink", "crashed-runs"} <= with_models
    assert "nightly" not in with_models
    # A person's own, in another folder, and another project's, on the same server.
    other = running.deployment("retrain/nightly-drink")
    settings = {**other["job_variables"], "working_dir": "/another/project"}
    running.change("retrain/nightly-drink", job_variables=settings)
    (models / "food.yaml").rename(models / "meals.yaml")
    (models / "drink.yaml").unlink()
    deploy(running)
    now = {each["name"] for each in held(running, "deployments")}
    assert "nightly-food" not in now
    assert {"nightly-meals", "nightly-drink"} <= now
    # As it was, for the tests that share this server.
    (models / "meals.yaml").unlink()
    running.change("retrain/nightly-drink", job_variables=other["job_variables"])
    deploy(running)
    assert {each["name"] for each in held(running, "deployments")} == names
