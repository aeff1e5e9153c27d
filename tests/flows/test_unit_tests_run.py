"""A whole run whose answers are code, judged by the tests that its rows bring."""

import random
from pathlib import Path

import pytest

from core.errors import SandboxUnavailable
from pipelines.sandbox.self_check import check_sandbox
from tests.support.journey import Checkout, invoke, run_arguments, write_rows

PROGRAMS = {"a": "x=1;y=2", "b": "x=3;y=4", "c": "x=5;y=6", "d": "x=7;y=8"}
METRICS = "score.metrics=[chrf, bleu, perplexity_per_token, bits_per_byte, unit_tests]"
TESTS = ("--set", "data.tests_column=tests", "--set", METRICS)


def _rows(count: int = 160) -> list[dict[str, str]]:
    """Programs by the prompt's last letter, each with tests of its own values."""
    dice = random.Random(0)
    rows = []
    for number in range(count):
        letter = dice.choice(sorted(PROGRAMS))
        noise = "".join(dice.choices("abeimnotvwABET", k=dice.randrange(2, 5)))
        first, second = PROGRAMS[letter].split(";")
        rows.append(
            {
                "prompt": f"{noise} {number} {letter}",
                "completion": PROGRAMS[letter],
                "tests": f"assert {first.replace('=', '==')}\n"
                f"assert {second.replace('=', '==')}\n",
            }
        )
    return rows


@pytest.fixture
def boxes() -> None:
    try:
        check_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_run_is_judged_by_the_tests_of_its_rows(
    boxes: None, checkout: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "programs.jsonl", _rows())
    result = checkout.assay(*run_arguments(data, tiny_base, *TESTS))
    assert result.code == 0, result.out + result.err
    reasons = result.last["reasons"]
    assert any("unit_tests" in reason for reason in reasons), reasons
    folder = checkout.store.runs.fetch_evidence(
        result.last["mlflow_run"], tmp_path / "evidence"
    )
    # The same numbers, from the stored answers and tests alone.
    again = invoke(checkout, "gate", folder)
    assert again.code == 0, again.out


@pytest.mark.ci
def test_tests_without_a_column_are_refused_before_anything_runs(
    checkout: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "programs.jsonl", _rows(60))
    arguments = run_arguments(data, tiny_base, "--set", METRICS)
    refused = invoke(checkout, *arguments)
    assert refused.code == 1
    assert "data.tests_column is null" in refused.err
