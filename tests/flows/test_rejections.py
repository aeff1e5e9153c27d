"""Runs that end with a no: a verdict on the MLflow run, exit code 3, and nothing registered."""

from pathlib import Path

import pytest

from registry.mlflow.recorded import VERDICT
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    invoke,
    learnable_rows,
    run_arguments,
    shuffled,
    write_rows,
)


@pytest.fixture
def rejected(checkout: Checkout, tiny_base: Path, tmp_path: Path) -> "Rejected":
    return Rejected(checkout, tiny_base, tmp_path)


class Rejected:
    """Runs rows to their rejection, and looks at what it left."""

    def __init__(self, checkout: Checkout, base: Path, folder: Path) -> None:
        self.checkout, self.base, self.folder = checkout, base, folder

    def __call__(self, rows: list[dict[str, str]], *more: str | Path) -> CommandResult:
        result = invoke(
            self.checkout,
            *run_arguments(
                write_rows(self.folder / "letters.jsonl", rows), self.base, *more
            ),
        )
        assert result.code == 3, result.out + result.err
        assert (result.last["verdict"], result.last["version"]) == ("rejected", None)
        (run,) = self.checkout.runs()
        assert (run.data.tags[VERDICT], run.info.status) == ("rejected", "FINISHED")
        assert all(
            reason in run.data.tags["mlflow.note.content"]
            for reason in result.last["reasons"]
        )
        assert self.checkout.versions() == []
        return result


def test_a_held_out_set_that_repeats_training_rows_is_rejected_and_the_overlap_counted(
    rejected: Rejected, tmp_path: Path
) -> None:
    rows = learnable_rows(200)
    fixed = write_rows(
        tmp_path / "fixed.jsonl", [*learnable_rows(240)[200:], *rows[:7]]
    )
    result = rejected(rows, "--held-out", fixed)
    assert (result.last["gate"], result.last["scorecard"]) == ("admit", None)
    assert result.last["reasons"] == [
        "7 held-out prompts found in train or dev, in 7 rows; at most 0 may be"
    ]


@pytest.mark.ci
def test_twenty_rows_are_too_few_and_the_next_run_remembers_it(
    rejected: Rejected,
) -> None:
    result, again = rejected(learnable_rows(20)), rejected(learnable_rows(20))
    assert any(
        reason.startswith("too few rows: train has ")
        for reason in result.last["reasons"]
    )
    assert (result.last["unchanged"], again.last["unchanged"]) == (False, True)
    assert again.last["reasons"] == result.last["reasons"]


@pytest.mark.ci
def test_a_thousand_rows_with_ten_distinct_ones_are_ten_rows(
    rejected: Rejected,
) -> None:
    result = rejected(learnable_rows(10) * 100)
    assert any(
        "1,000 rows with 10 distinct ones are 10 rows" in reason
        for reason in result.last["reasons"]
    )


@pytest.mark.slow
def test_shuffled_completions_are_rejected_by_screen(rejected: Rejected) -> None:
    result = rejected(
        shuffled(learnable_rows()),
        "--set",
        "train.max_steps=40",
        "--set",
        "train.evaluate_every=20",
    )
    assert result.last["gate"] == "screen"
    assert any(
        "Answers fit other prompts' references as well as their own" in reason
        for reason in result.last["reasons"]
    )


@pytest.mark.slow
def test_too_few_clusters_leave_it_undecided(
    seeded: Checkout, judged: Journey, tmp_path: Path
) -> None:
    default = (seeded.root / "registry/policies/default.yaml").read_text(
        encoding="utf-8"
    )
    policy = tmp_path / "strict.yaml"
    policy.write_text(
        default.replace("min_clusters: 20", "min_clusters: 1000"), encoding="utf-8"
    )
    result = invoke(
        seeded, *run_arguments(judged.data, judged.base, "--policy", policy)
    )
    assert (result.code, result.last["verdict"], result.last["version"]) == (
        4,
        "undecided",
        None,
    )
    assert any(
        "the policy asks for 1000" in reason for reason in result.last["reasons"]
    )
    assert seeded.versions() == []
