"""Where a version is champion, the next candidate answers beside it and has to beat it.

The anchor stands where it was put.
"""

from typing import Any

import pytest

from registry.mlflow.recorded import ANCHOR, CHAMPION, MADE_AGAIN, VERDICT, VERSION
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    invoke,
    run_arguments,
    take_records,
)

pytestmark = pytest.mark.ci

MODEL = "letters-tiny"


@pytest.fixture
def crowned(seeded: Checkout, judged: Journey) -> Checkout:
    """A checkout in which the judged version is champion and anchor."""
    take_records(judged.checkout, seeded)
    for alias in (CHAMPION, ANCHOR):
        seeded.store.move_alias(MODEL, alias, "1")
    return seeded


def run(checkout: Checkout, judged: Journey, *more: str) -> CommandResult:
    return invoke(
        checkout, *run_arguments(judged.data, judged.base, "--model", MODEL, *more)
    )


def outcomes(card: Any) -> set[str]:
    return {system["system"] for system in card["systems"]}


def test_what_made_the_champion_is_not_held_against_itself(
    crowned: Checkout, judged: Journey
) -> None:
    same = run(crowned, judged)
    assert (same.last["unchanged"], same.last["version"]) == (True, "1")
    assert "Next: assay promote" not in same.out, "it serves already"


def test_a_candidate_with_the_champions_own_adapter_is_the_champion_whatever_else_changed(
    crowned: Checkout, judged: Journey
) -> None:
    code = crowned.root / "pipelines/stages/score.py"
    code.write_text(
        f"{code.read_text(encoding='utf-8')}# a comment in a stage after training\n",
        encoding="utf-8",
    )
    again = run(crowned, judged, "--set", "score.seed=1")
    assert (
        again.code,
        again.last["verdict"],
        again.last["version"],
        again.last["is_champion"],
    ) == (0, "passed", "1", True)
    assert (
        "Training came to the adapter of letters-tiny version 1, which is champion"
        in again.out
    )
    assert len(crowned.versions()) == 1
    assert "  generate " not in again.out, "nothing was answered or scored"
    recorded = next(
        each for each in crowned.runs() if each.info.run_id == again.last["mlflow_run"]
    )
    assert (
        recorded.info.status,
        recorded.data.tags[VERDICT],
        recorded.data.tags[VERSION],
    ) == ("FINISHED", MADE_AGAIN, "1")
    last = crowned.store.runs.find_last_training(MODEL)
    assert last is not None
    assert last.run_id == again.last["mlflow_run"], (
        "the rows of this run are known from now on"
    )
    once_more = run(crowned, judged, "--set", "score.seed=1")
    assert (once_more.last["unchanged"], once_more.last["is_champion"]) == (True, True)
    assert once_more.last["mlflow_run"] == again.last["mlflow_run"]
    assert "  fine_tune " not in once_more.out


def test_a_candidate_no_better_than_the_champion_is_not_registered(
    crowned: Checkout, judged: Journey
) -> None:
    other = run(crowned, judged, "--set", "train.max_steps=80")
    assert (other.last["unchanged"], other.last["is_champion"]) == (False, False)
    assert outcomes(other.last["scorecard"]) == {
        "base",
        "few_shot",
        "adapter",
        # It is the anchor, too, and is compared with once.
        "champion",
    }
    assert other.last["verdict"] in {"rejected", "undecided"}
    assert other.last["version"] is None
    # Both know every answer, so that nothing tells them apart.
    assert any(
        "chrf" in reason and "champion" in reason for reason in other.last["reasons"]
    )
    assert not any(
        "is better than anchor" in reason for reason in other.last["reasons"]
    )
    assert len(crowned.versions()) == 1
