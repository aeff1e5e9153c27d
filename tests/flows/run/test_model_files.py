"""`models/NAME.yaml`: the name of a model is enough, and what is half configured is named."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import (
    AssayError,
    OperationError,
    ParameterError,
    UnreadableData,
)
from flows.run.model_files import (
    complete,
    model_names,
    only_model,
    policy_of,
    read_model_file,
)
from flows.run.request import TrainRequest
from flows.schedule.model_deployments import expand
from tests.support.journey import ROOT

DEPLOYMENTS = (ROOT / "infra/prefect.yaml").read_text(encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "base").mkdir()
    return tmp_path


def configure(root: Path, name: str, text: str) -> None:
    (root / f"models/{name}.yaml").write_text(text)


def test_a_request_takes_from_the_file_what_it_leaves_open(root: Path) -> None:
    configure(
        root,
        "food",
        "data: rows.jsonl\nbase_model: base\nlicence: CC0-1.0\n"
        "settings: {lora.r: 32, train.seed: 1}\n",
    )
    request = complete(
        TrainRequest(model="food", settings={"lora.r": 8}, licence="MIT"), root
    )
    assert (request.data, request.base_model) == (root / "rows.jsonl", root / "base")
    assert request.settings == {"lora.r": 8, "train.seed": 1}
    assert request.licence == "MIT"


def test_a_model_without_a_file_is_as_it_was_asked_for(root: Path) -> None:
    request = TrainRequest(model="other")
    assert complete(request, root) == request
    assert complete(request, root / "nowhere") == request


def test_a_policy_of_the_models_name_is_its_own(root: Path) -> None:
    configure(root, "food", "data: null\n")
    (root / "registry/policies").mkdir(parents=True)
    (root / "registry/policies/food.yaml").write_text("{}\n")
    request = complete(TrainRequest(model="food"), root)
    assert request.policy == root / "registry/policies/food.yaml"


def test_a_release_is_judged_by_the_policy_that_the_run_was_judged_by(
    root: Path,
) -> None:
    policies = root / "registry/policies"
    policies.mkdir(parents=True)
    assert policy_of(root, "food") == policies / "default.yaml"
    (policies / "food.yaml").write_text("{}\n")
    assert policy_of(root, "food") == policies / "food.yaml"
    (policies / "strict.yaml").write_text("{}\n")
    configure(root, "food", "data: null\npolicy: registry/policies/strict.yaml\n")
    run = complete(TrainRequest(model="food"), root)
    assert policy_of(root, "food") == run.policy == policies / "strict.yaml"
    (policies / "strict.yaml").unlink()
    with pytest.raises(UnreadableData, match="policy names"):
        policy_of(root, "food")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "Input should be"),
        ("data: gone.jsonl\n", "data names gone.jsonl, which is not there"),
        ("data: rows.jsonl\nbase_model: gone\n", "base_model names gone"),
        ("data: rows.jsonl\nheld_out: gone\n", "held_out names gone"),
        ("data: rows.jsonl\npolicy: gone\n", "policy names gone"),
        ("data: rows.jsonl\nchat_template: gone\n", "chat_template names gone"),
        ("data: rows.jsonl\nsetting: {}\n", "setting"),
        ("licence: MIT\n", "data"),
        ("data: [1\n", "cannot be read as YAML"),
        ("data: rows.jsonl\nschedule: 5\n", "schedule"),
        ('data: rows.jsonl\nschedule: "every night"\n', "schedule"),
    ],
)
def test_what_is_half_configured_is_named_with_its_file(
    root: Path, text: str, fact: str
) -> None:
    configure(root, "food", text)
    with pytest.raises(AssayError) as error:
        complete(TrainRequest(model="food"), root)
    assert isinstance(error.value, ParameterError | UnreadableData)
    assert "models/food.yaml" in str(error.value)
    assert fact in str(error.value)


def test_the_only_model_needs_no_name_and_of_several_one_is_named(root: Path) -> None:
    assert only_model(root) is None
    configure(root, "food", "data: null\n")
    assert only_model(root) == "food"
    configure(root, "drink", "data: null\n")
    assert model_names(root) == ("drink", "food")
    with pytest.raises(ParameterError, match="has 2 models: drink, food"):
        only_model(root)


def test_what_editors_leave_and_a_folder_are_no_models(root: Path) -> None:
    configure(root, "food", "data: null\n")
    for name in (".#food", "._food", ""):
        configure(root, name, "data: null\n")
    (root / "models/base.yaml").mkdir()
    assert model_names(root) == ("food",)
    assert read_model_file(root, ".#food") is None


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_model_that_is_no_file_is_named_and_not_waited_for(
    root: Path, kind: str
) -> None:
    path = root / "models/food.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/nowhere/food.yaml")
    with pytest.raises(ParameterError, match=r"models/food\.yaml is no file"):
        complete(TrainRequest(model="food"), root)


def test_a_name_leads_to_no_file_elsewhere(root: Path) -> None:
    (root / "outside.yaml").write_text("data: null\n")
    assert read_model_file(root, "../outside") is None


def deployments(root: Path) -> dict[str, dict[str, Any]]:
    listed = yaml.safe_load(expand(DEPLOYMENTS, root))["deployments"]
    return {each["name"]: each for each in listed}


def test_without_models_the_deployments_are_those_of_the_file(root: Path) -> None:
    assert expand(DEPLOYMENTS, root) == DEPLOYMENTS


def test_each_model_has_its_deployments_and_its_own_schedule(root: Path) -> None:
    configure(root, "food", 'data: rows.jsonl\nschedule: "30 3 * * 1"\n')
    configure(root, "drink", "data: rows.jsonl\n")
    found = deployments(root)
    assert set(found) == {
        "nightly-food",
        "on-data-arrival-food",
        "on-data-arrival-drink",
        "on-demand-food",
        "on-demand-drink",
        "weekly-rescore-food",
        "weekly-rescore-drink",
        "crashed-runs",
    }
    assert found["nightly-food"]["schedules"] == [
        {"cron": "30 3 * * 1", "timezone": "UTC", "slug": "nightly"}
    ]
    [trigger] = found["on-data-arrival-drink"]["triggers"]
    assert trigger["match"] == {"prefect.resource.id": "assay.data.drink"}
    parameters = found["on-demand-drink"]["parameters"]
    assert parameters == {"request": {"model": "drink"}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "deployments",
        "deployments: 3",
        "deployments: [nightly]",
        "deployments: [null]",
        "deployments: [{parameters: {request: {model: x}}}]",
        "deployments: [{name: a, parameters: [1]}]",
        "deployments: [{name: a, parameters: {request: {model: x}}, triggers: [on]}]",
        "a: [",
    ],
)
def test_a_file_that_lists_no_deployments_is_named(root: Path, text: str) -> None:
    configure(root, "food", "data: rows.jsonl\n")
    with pytest.raises(OperationError, match=r"infra/prefect\.yaml lists no deploy"):
        expand(text, root)


def test_a_model_that_is_half_configured_ends_the_deployment_by_name(
    root: Path,
) -> None:
    configure(root, "food", "schedule: []\n")
    with pytest.raises(ParameterError, match=r"models/food\.yaml"):
        expand(DEPLOYMENTS, root)


def test_what_the_file_says_of_its_rows_holds_for_no_other_rows(root: Path) -> None:
    configure(
        root, "food", "data: rows.jsonl\nheld_out: rows.jsonl\nlicence: CC0-1.0\n"
    )
    other = root / "other.jsonl"
    request = complete(TrainRequest(model="food", data=other), root)
    assert (request.data, request.held_out) == (other, None)
    assert request.licence == TrainRequest().licence


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("dta: rows.jsonl\n", "'dta' means nothing there. Did you mean data"),
        ("data: null\n5: x\n", "5 means nothing there"),
        (
            "data: null\nsettings: {data.source: cheat}\n",
            "settings has data.source, which the line data says",
        ),
        (
            "data: null\nsettings: {base_model.path: x}\n",
            "settings has base_model.path, which the line base_model says",
        ),
    ],
)
def test_a_line_that_means_nothing_or_says_it_twice_is_named(
    root: Path, text: str, fact: str
) -> None:
    configure(root, "food", text)
    with pytest.raises(ParameterError, match=re.escape(fact)):
        read_model_file(root, "food")
