"""`assay humaneval` scores a base and an adapter on tasks that are run in boxes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from core.errors import SandboxUnavailable
from core.files import read_jsonl
from pipelines.sandbox.self_check import check_sandbox
from tests.support.code_tasks import make_wheel, widen_context
from tests.support.commands import assay_in
from tests.support.tiny import make_tiny_adapter, tiny_manifest

Score = Callable[..., Result]


@pytest.fixture(scope="module")
def base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code") / "tiny"
    shutil.copytree(tiny_base, folder)
    widen_context(folder, 2048)
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapter")
    manifest = tiny_manifest(base, root / "home")
    make_tiny_adapter(base, manifest, root / "adapter")
    return root / "adapter"


@pytest.fixture
def score(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    home = tmp_path / "home"
    made = make_wheel(home / "downloads", 3)
    monkeypatch.setattr("operations.humaneval.HUMANEVAL", made)

    def run(*options: str) -> Result:
        common = ("--base", str(base), "--max-new-tokens", "4")
        return assay_in(home, "humaneval", *common, *options)

    return run


@pytest.fixture
def boxes() -> None:
    try:
        check_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def test_base_and_adapter_are_scored_and_compared(
    boxes: None, score: Score, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = score("--adapter", str(adapter), "--margin", "0.1", "--out", str(out))
    assert result.exit_code == 4, result.output
    assert result.stdout.splitlines() == [
        "boxes: 3 of 3 references pass, 0 of 3 empty functions",
        "base: pass@1 0.000 [0.000, 0.000] on 3 tasks",
        "adapter: pass@1 0.000 [0.000, 0.000] on 3 tasks",
        "adapter against base, pass@1: better by 0.000, bounds 0.000 and 0.000",
        "undecided: 3 tasks are too few to compare: at least 10 are needed",
    ]
    report = json.loads((out / "humaneval.json").read_text())
    assert report["scores"][1]["adapter_sha256"]
    assert "asked:chat-1|samples:1|temperature:0.0" in report["scores"][0]["signature"]
    rows = read_jsonl(out / "humaneval_answers.jsonl")
    assert [row["system"] for row in rows] == ["base"] * 3 + ["adapter"] * 3


@pytest.mark.slow
def test_before_a_model_is_scored_all_164_references_pass_and_no_empty_function(
    boxes: None, base: Path, tmp_path: Path
) -> None:
    options = ("--base", str(base), "--max-new-tokens", "4", "--json")
    result = assay_in(tmp_path / "home", "humaneval", *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    said = "164 of 164 references pass, 0 of 164 empty functions"
    assert (report["controls"], report["is_complete"]) == (said, True)
    (score,) = report["scores"]
    assert (score["system"], score["tasks"]) == ("base", 164)


@pytest.mark.ci
def test_samples_are_drawn_and_a_seed_repeats_them(
    boxes: None, score: Score, tmp_path: Path
) -> None:
    answers: list[list[str]] = []
    for seed in ("1", "1", "2"):
        out = tmp_path / f"out{len(answers)}"
        options = ("--samples", "3", "--k", "1", "--k", "3", "--temperature", "5")
        result = score(*options, "--seed", seed, "--out", str(out), "--json")
        assert result.exit_code == 0, result.output
        rows = list(read_jsonl(out / "humaneval_answers.jsonl"))
        answers.append([row["answer"] for row in rows])
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]
    # Nine samples of noise, and not one answer three times.
    assert len(set(answers[0])) > 3
    report = json.loads(result.stdout)
    assert [each["k"] for each in report["scores"][0]["pass_at"]] == [1, 3]


def test_a_part_of_the_tasks_is_not_called_humaneval(boxes: None, score: Score) -> None:
    result = score("--limit", "2", "--completion-mode")
    assert result.exit_code == 0, result.output
    assert "not the score of HumanEval" in result.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--k", "2"), "pass@2 needs as many samples"),
        (("--samples", "2"), "2 greedy answers to a task are one answer"),
        (("--margin", "0.1"), "Give --adapter as well"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    score: Score, options: tuple[str, ...], said: str
) -> None:
    result = score(*options)
    assert result.exit_code == 1
    assert said in result.stderr


def test_nothing_is_run_without_bubblewrap(
    score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing() -> str:
        raise SandboxUnavailable("There is no bubblewrap here.")

    monkeypatch.setattr("pipelines.sandbox.box.find_bubblewrap", find_nothing)
    check_sandbox.cache_clear()
    result = score()
    assert result.exit_code == 1
    assert "There is no bubblewrap here" in result.stderr
    assert result.stdout == ""


def test_a_folder_that_is_no_adapter_is_refused(
    boxes: None, score: Score, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("[]")
    result = score("--adapter", str(tmp_path))
    assert result.exit_code == 1
    assert "adapter" in result.stderr
