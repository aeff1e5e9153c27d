"""Where a version is champion, the next candidate answers beside it and has to beat it; the anchor stands where it was put."""

import shutil
from typing import Any

import pytest
from mlflow import MlflowClient

from registry.recorded import ANCHOR, CHAMPION
from tests.journey import Checkout, Journey, run_arguments

pytestmark = pytest.mark.ci

MODEL = "letters-tiny"


def outcomes(card: Any) -> set[str]:
    return {system["system"] for system in card["systems"]}


def test_a_candidate_no_better_than_the_champion_is_not_registered(seeded: Checkout, judged: Journey) -> None:
    shutil.copyfile(judged.checkout.home / "mlflow.db", seeded.home / "mlflow.db")
    for alias in (CHAMPION, ANCHOR):
        MlflowClient(seeded.uri, seeded.uri).set_registered_model_alias(MODEL, alias, "1")
    same = seeded.assay(*run_arguments(judged.data, judged.base))
    assert (same.last["unchanged"], same.last["version"]) == (True, "1"), "what made the champion is not held against itself"
    again = seeded.assay(*run_arguments(judged.data, judged.base, "--set", "score.seed=1"))
    assert again.last["unchanged"] is False
    assert outcomes(again.last["scorecard"]) == {"base", "few_shot", "adapter", "champion", "anchor"}
    # The very same adapter as the champion: no difference can be shown.
    assert again.last["verdict"] in {"rejected", "undecided"}
    assert again.last["version"] is None
    assert any(reason.startswith("chrf against champion: better by 0,") for reason in again.last["reasons"])
    assert not any("chrf against anchor" in reason for reason in again.last["reasons"])
    assert len(seeded.versions()) == 1
