"""Which code a stage runs: written down before a run, and held against what is installed."""

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from core.errors import WorkspaceError
from pipelines import layout
from pipelines.__main__ import STAGES, main
from pipelines.stage_code import (
    INSTALLED,
    StageCode,
    changes_between,
    check_stage_code,
    read_stage_code,
    write_stage_codes,
)
from tests.support import own_metrics
from tests.support.journey import ROOT


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another installation of the same code."""
    for package in ("core", "pipelines"):
        shutil.copytree(INSTALLED / package, tmp_path / "site" / package)
    monkeypatch.setattr("pipelines.stage_code.INSTALLED", tmp_path / "site")
    return tmp_path / "site"


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_the_same_code_elsewhere_is_the_same(installed: Path) -> None:
    elsewhere = [read_stage_code(stage, ROOT) for stage in STAGES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.stage_code.INSTALLED", INSTALLED)
        assert elsewhere == [read_stage_code(stage, ROOT) for stage in STAGES]


def test_a_changed_metric_is_the_code_of_those_stages_that_use_metrics(
    installed: Path,
) -> None:
    before = {stage: read_stage_code(stage, ROOT) for stage in STAGES}
    append(installed / "pipelines/metrics/chrf.py", "# another\n")
    changed = {
        stage: changes_between(before[stage], read_stage_code(stage, ROOT))
        for stage in STAGES
        if read_stage_code(stage, ROOT) != before[stage]
    }
    assert changed["score"] == ["pipelines/metrics/chrf.py"]
    assert not {"fine_tune", "generate", "collect"} & set(changed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: {"python": "3.10"}, "Python 3.10 → "),
        (lambda _: {"libraries": {}}, "numpy unused → "),
        (
            lambda code: {"libraries": {**code.libraries, "numpy": "1.0"}},
            "numpy 1.0 → ",
        ),
        (lambda code: {"files": {**code.files, "gone.py": "0"}}, "gone.py"),
        (
            lambda code: {"files": {**code.files, "core/value.py": "0"}},
            "core/value.py",
        ),
    ],
)
def test_each_difference_is_named(
    change: Callable[[StageCode], dict[str, object]], said: str
) -> None:
    now = read_stage_code("score", ROOT)
    before = now.model_copy(update=change(now))
    assert any(each.startswith(said) for each in changes_between(before, now))


def test_a_build_tag_makes_no_other_code() -> None:
    torch = read_stage_code("fine_tune", ROOT).libraries["torch"]
    assert torch
    assert "+" not in torch


def test_an_engine_that_computes_nothing_is_no_code_of_a_stage() -> None:
    """Whoever installs OpenVINO repeats nothing that transformers computed."""
    assert "openvino" not in read_stage_code("generate", ROOT).libraries
    asked = read_stage_code("generate", ROOT, engine="openvino").libraries
    assert asked["openvino"] == version("openvino")
    by_vllm = read_stage_code("generate", ROOT, engine="vllm").libraries
    assert "openvino" not in by_vllm
    assert "vllm" in by_vllm
    for stage in ("split", "fine_tune", "score"):
        same = read_stage_code(stage, ROOT, engine="openvino")
        assert same == read_stage_code(stage, ROOT)


def test_a_stage_whose_code_changed_under_the_run_is_refused(
    installed: Path, tmp_path: Path
) -> None:
    shutil.copyfile(ROOT / layout.PARAMS, tmp_path / layout.PARAMS)
    write_stage_codes(tmp_path)
    check_stage_code("score", tmp_path)
    append(installed / "pipelines/stages/score.py", "# edited during the run\n")
    check_stage_code("collect", tmp_path)
    with pytest.raises(
        WorkspaceError,
        match=r"The code of stage score changed after this run began \(pipelines/stages/sc",
    ):
        check_stage_code("score", tmp_path)


def test_a_stage_whose_code_changed_while_it_worked_makes_no_result(
    installed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def upgraded_meanwhile() -> int:
        append(installed / "pipelines/stages/split.py", "# of a newer Assay\n")
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.stages.split.main", upgraded_meanwhile)
    shutil.copyfile(ROOT / layout.PARAMS, layout.PARAMS)
    write_stage_codes(Path())
    assert main(["split"]) == 1
    assert "The code of stage split changed" in capsys.readouterr().err


def test_a_stage_in_a_folder_without_its_code_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / layout.PARAMS, layout.PARAMS)
    assert main(["split"]) == 1
    assert "Run `assay stage code`, or `dvc repro`." in capsys.readouterr().err
    assert main(["code"]) == 0
    assert sorted(path.stem for path in layout.CODE.iterdir()) == sorted(STAGES)


def test_a_module_that_is_missing_from_the_installation_is_named(
    installed: Path,
) -> None:
    (installed / "pipelines/metrics/chrf.py").unlink()
    with pytest.raises(
        WorkspaceError, match=r"chrf\.py cannot be read .* Bring it back"
    ):
        read_stage_code("score", ROOT)


def test_the_file_of_an_own_metric_is_the_code_of_scoring_alone(tmp_path: Path) -> None:
    text = (ROOT / layout.PARAMS).read_text(encoding="utf-8")
    params = tmp_path / layout.PARAMS
    params.write_text(text.replace("[chrf,", f"[{own_metrics.NAME}, chrf,"))
    path = own_metrics.write_metric(tmp_path)
    write_stage_codes(tmp_path)
    append(path, "# another way of counting\n")
    for stage in STAGES:
        if stage != "score":
            check_stage_code(stage, tmp_path)
    with pytest.raises(WorkspaceError, match=rf"\(metrics/{own_metrics.NAME}\.py\)"):
        check_stage_code("score", tmp_path)
    path.unlink()
    with pytest.raises(WorkspaceError, match=r"cannot be read"):
        write_stage_codes(tmp_path)


def test_a_file_of_the_safety_probes_belongs_to_the_stage_that_asks(
    tmp_path: Path,
) -> None:
    text = (ROOT / layout.PARAMS).read_text(encoding="utf-8")
    named = text.replace("stereotype_pairs: null", "stereotype_pairs: pairs.csv")
    (tmp_path / layout.PARAMS).write_text(named)
    path = tmp_path / "safety/pairs.csv"
    path.parent.mkdir()
    path.write_text("more,less\na,b\n")
    write_stage_codes(tmp_path)
    append(path, "c,d\n")
    check_stage_code("score", tmp_path)
    with pytest.raises(WorkspaceError, match=r"\(safety/pairs\.csv\)"):
        check_stage_code("generate", tmp_path)
