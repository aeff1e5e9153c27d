"""Tasks of lm-evaluation-harness are asked of a version, and its scores are kept with its run."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core.errors import DamagedFile, ParameterError
from operations.harness.ask import HarnessTasks, find_harness
from operations.harness.report import HarnessReport
from operations.harness.results import HarnessScore, read_scores
from operations.harness.score_version import score_version
from tests.support.harness import make_harness
from tests.support.journey import ANSWERS, Checkout, copy_checkout

TASK = """
task: letters
dataset_path: json
dataset_kwargs:
  data_files: {test: rows.jsonl}
test_split: test
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
metadata: {version: 1.0}
"""
FAR_TASK = TASK.replace("task: letters", "task: far").replace(
    "dataset_path: json", "dataset_path: nobody/far-away"
)
LINES = "one\u2028two\x85three"
"""Ends of lines in a document's text, which the program writes as they are."""
COUNT = 12
MODEL = "letters-tiny"
Numbers = tuple[list[float], float | None]


def write_results(
    folder: Path, numbers: Sequence[float], score: float | None = None, **more: Any
) -> Path:
    """Files as lm_eval 0.4.13 writes them, of one task with accuracies."""
    mean = sum(numbers) / len(numbers) if score is None else score
    results = {
        "results": {
            "letters": {
                "alias": "letters",
                "acc,none": mean,
                "acc_stderr,none": 0.1,
                "sample_len": len(numbers),
            }
        },
        "n-samples": {"letters": {"original": len(numbers), "effective": len(numbers)}},
        "higher_is_better": {"letters": {"acc": more.get("higher", True)}},
        "versions": {"letters": 1.0},
        "n-shot": {"letters": 0},
        "task_hashes": {"letters": more.get("asked", "the same")},
    }
    own = folder / "model"
    own.mkdir(parents=True)
    (own / "results_2026.json").write_text(json.dumps(results), encoding="utf-8")
    samples = [
        {"doc_id": place, "doc": LINES, "filter": "none", "acc": number}
        for place, number in enumerate(numbers)
    ]
    lines = [json.dumps(sample, ensure_ascii=False) for sample in samples]
    text = "".join(f"{line}\n" for line in lines)
    (own / "samples_letters_2026.jsonl").write_text(text, encoding="utf-8")
    # Another task of the same run, whose name begins alike.
    (own / "samples_letters_too_2026.jsonl").write_text("", encoding="utf-8")
    return folder


def compare(base: Path, adapter: Path) -> HarnessScore:
    """The only score of both."""
    (asked,), (score,) = read_scores(base, adapter)
    assert (asked.name, asked.version, asked.shots) == ("letters", "1.0", 0)
    assert score.measure.title == "letters/acc"
    return score


def test_base_and_adapter_are_compared_document_by_document(tmp_path: Path) -> None:
    base = write_results(tmp_path / "base", [0, 1, 0, 0])
    adapter = write_results(tmp_path / "adapter", [1, 1, 0, 1])
    score = compare(base, adapter)
    assert (score.base, score.adapter) == (0.25, 0.75)
    found = score.difference
    assert found is not None
    # Of 1, 0, 0, 1: t of three degrees of freedom times a standard error of 0.2887.
    assert found.estimate == 0.5
    assert (found.low, found.high) == pytest.approx((-0.4187, 1.4187), abs=1e-4)


@pytest.mark.parametrize("line", ["{", "[]", '{"filter": "none"}', '{"doc_id": 1}'])
def test_a_line_that_is_no_document_is_named(line: str, tmp_path: Path) -> None:
    base = write_results(tmp_path / "base", [0, 1])
    adapter = write_results(tmp_path / "adapter", [1, 1])
    samples = adapter / "model/samples_letters_2026.jsonl"
    samples.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(DamagedFile, match="a line that is no document's"):
        read_scores(base, adapter)


@pytest.mark.parametrize(("limit", "folder"), [(None, "lm_eval"), (2, "lm_eval_try")])
def test_scores_of_a_try_never_stand_in_the_place_of_a_whole_task(
    limit: int | None, folder: str, tmp_path: Path
) -> None:
    base = write_results(tmp_path / "base", [0, 1])
    adapter = write_results(tmp_path / "adapter", [1, 1])
    asked, scores = read_scores(base, adapter)
    report = HarnessReport(
        model=MODEL,
        version="1",
        package_sha256="0" * 64,
        base_digest="0" * 64,
        lm_eval="0.4.13",
        tasks=HarnessTasks(names=("letters",), limit=limit),
        folder_sha256=None,
        asked=asked,
        scores=scores,
    )
    assert report.metrics[f"{folder}/letters/acc.adapter"] == 1
    assert {name.partition("/")[0] for name in report.metrics} == {folder}


def test_where_less_is_better_a_lower_score_is_the_better_one(tmp_path: Path) -> None:
    base = write_results(tmp_path / "base", [3, 2], higher=False)
    adapter = write_results(tmp_path / "adapter", [1, 1], higher=False)
    found = compare(base, adapter).difference
    assert found is not None
    assert found.estimate == 1.5


@pytest.mark.parametrize(
    ("of_base", "of_adapter", "reason"),
    [
        (([1, 2], 9.0), ([1, 1], 8.0), "no mean over documents"),
        (([1, 0], None), ([1, 0], None), "no spread between documents"),
        (([0], None), ([1], None), "one document"),
        (([1, 2], math.inf), ([1, 1], 8.0), "no finite score of both"),
    ],
)
def test_where_documents_give_no_bounds_the_reason_stands_there(
    of_base: Numbers, of_adapter: Numbers, reason: str, tmp_path: Path
) -> None:
    base = write_results(tmp_path / "base", *of_base)
    adapter = write_results(tmp_path / "adapter", *of_adapter)
    score = compare(base, adapter)
    assert (score.difference, score.unbounded) == (None, reason)


def test_other_documents_and_files_that_are_missing_are_named(tmp_path: Path) -> None:
    base = write_results(tmp_path / "base", [1, 0])
    adapter = write_results(tmp_path / "adapter", [1, 0], asked="others")
    with pytest.raises(DamagedFile, match="not asked the same documents"):
        read_scores(base, adapter)
    with pytest.raises(DamagedFile, match=r"holds 0 files results_\*.json"):
        read_scores(base, tmp_path / "nothing")


def test_without_the_program_one_sentence_says_where_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HARNESS_PYTHON", str(tmp_path / "python"))
    with pytest.raises(ParameterError, match="with ASSAY_HARNESS_PYTHON"):
        find_harness(os.environ)


def test_a_folder_that_is_not_there_is_named_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    tasks = HarnessTasks(names=("letters",), folder=tmp_path / "nowhere")
    with pytest.raises(ParameterError, match=r"There is no folder .*nowhere"):
        score_version("models:/m/1", tasks)


def test_a_task_sees_no_login_and_the_hub_only_where_the_person_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of a Python: it says a version, and which variables it sees.
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho $MLFLOW_TRACKING_PASSWORD$HF_HUB_OFFLINE$HUB\n")
    program.chmod(0o755)
    monkeypatch.setenv("ASSAY_HARNESS_PYTHON", str(program))
    monkeypatch.setenv("HF_HUB_OFFLINE", "set by Assay")
    person = {"HUB": "as I like", "MLFLOW_TRACKING_PASSWORD": "secret"}
    assert find_harness(person).version == "as I like"


def write_tasks(folder: Path) -> Path:
    """A task of one's own, whose file names its data from where it stands.

    Its answers are those that the judged version was trained on, to questions that it never saw.
    """
    folder.mkdir()
    answers = list(ANSWERS.values())
    documents = [
        {"question": f"{n} colour?", "answer": answers[n % len(answers)]}
        for n in range(COUNT)
    ]
    text = "".join(json.dumps(document) + "\n" for document in documents)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    (folder / "letters.yaml").write_text(TASK, encoding="utf-8")
    (folder / "far.yaml").write_text(FAR_TASK, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_harness(tmp_path_factory.mktemp("harness"))


@pytest.mark.slow
def test_a_judged_version_is_asked_by_the_program_and_its_scores_stand_in_mlflow(
    recorded: Checkout, harness: Path, tmp_path: Path
) -> None:
    site = copy_checkout(recorded, tmp_path / "site")
    folder = write_tasks(tmp_path / "tasks")
    asked = ("lm-eval", f"models:/{MODEL}/1", "--folder", folder, "--batch-size", "4")
    own = {"ASSAY_HARNESS_PYTHON": str(harness), "HOME": str(tmp_path)}
    result = site.assay(*asked, "--tasks", "letters", "--json", **own)
    assert result.code == 0, result.out + result.err
    (task,) = result.last["asked"]
    assert (task["name"], task["documents"]) == ("letters", COUNT)
    (score,) = result.last["scores"]
    assert score["measure"]["metric"] == "perplexity"
    # Asked with its weights, and not as its base.
    assert 0 < score["adapter"] < score["base"]
    (version,) = site.versions()
    metrics = site.store.runs.metrics(version.run_id)
    assert metrics["lm_eval/letters/perplexity.adapter"] == score["adapter"]
    assert metrics["lm_eval/letters/perplexity.base"] == score["base"]
    # Where its data are on the hub, and there is none, one sentence says so.
    failed = site.assay(*asked, "--tasks", "far", **own, HF_HUB_OFFLINE="1")
    assert failed.code == 1
    (sentence,) = failed.err.strip().splitlines()
    assert "lm-evaluation-harness could not ask far: " in sentence
    assert "nobody/far-away" in sentence
