"""What a run asks beside its prompts: real weights answer, and boxes run their code."""

import shutil
from pathlib import Path

import pytest

from core.download import PinnedPackage
from core.errors import SandboxUnavailable
from pipelines import layout
from pipelines.code_tasks.asked import ask_humaneval
from pipelines.code_tasks.report import report_humaneval
from pipelines.engines.scored_model import open_scored_model
from pipelines.models.comparator_bases import own_base
from pipelines.models.language_model import load_language_model
from pipelines.models.probed import Trio, ask_probes
from pipelines.models.probes import read_questions
from pipelines.safety.report import report_safety
from pipelines.sandbox import box
from pipelines.sandbox.self_check import check_sandbox
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.humaneval import HumanEvalParams
from pipelines.values.params import Params, SafetyParams
from tests.support import trials
from tests.support.code_tasks import make_wheel, widen_context
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_adapter, tiny_manifest


@pytest.fixture
def trio(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trio:
    """Adapter, base and champion as they lie in a run's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    folder = shutil.copytree(tiny_base, tmp_path / "tiny")
    widen_context(folder, 2048)
    base = tiny_manifest(folder, tmp_path / "home")
    base.write(layout.BASE_MODEL_MANIFEST)
    layout.CHAT_TEMPLATE.write_text(CHAT_TEMPLATE, encoding="utf-8")
    adapter = make_tiny_adapter(folder, base, tmp_path / "adapter")
    champion_folder = layout.CHAMPION / "champion"
    champion = make_tiny_adapter(folder, base, champion_folder, seed=2)
    served = Champion(version="1", adapter=champion)
    ChampionInput(champion=served).write(layout.CHAMPION_INPUT)
    language = load_language_model(
        base, folder, CHAT_TEMPLATE, "float32", tmp_path / "adapter"
    )
    own = own_base(tmp_path / "home")
    return Trio.of(
        own, adapter, language, trials.params().generation, open_scored_model
    )


@pytest.fixture
def package(trio: Trio, tmp_path: Path) -> PinnedPackage:
    return make_wheel(tmp_path / "home/downloads", 3)


def params(**humaneval: object) -> Params:
    asked = {"samples": 1, "max_new_tokens": 4, **humaneval}
    settings = HumanEvalParams.model_validate(asked)
    return trials.params().model_copy(update={"humaneval": settings})


def test_every_system_answers_each_task_and_boxes_run_it(
    trio: Trio, package: PinnedPackage
) -> None:
    try:
        check_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    answers = ask_humaneval(trio, params(), package)
    assert answers.systems == trio.digests
    assert list(answers.systems) == ["adapter", "base", "champion"]
    assert (answers.unavailable, answers.is_complete) == (None, True)
    report = report_humaneval(answers)
    assert report.tasks == 3
    # Noise writes no program that passes.
    assert {share.interval.estimate for share in report.shares} == {0}
    assert all(result.reason for result in answers.results)


def test_without_boxes_nobody_is_asked_and_the_reason_is_kept(
    trio: Trio, package: PinnedPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    box.find_bubblewrap.cache_clear()
    check_sandbox.cache_clear()
    answers = ask_humaneval(trio, params(tasks=2), package)
    box.find_bubblewrap.cache_clear()
    assert (len(answers.tasks), answers.is_complete) == (2, False)
    assert answers.results == ()
    assert answers.unavailable is not None
    assert "There is no bubblewrap (bwrap) here" in answers.unavailable


def test_each_system_answers_with_weights_of_its_own(trio: Trio) -> None:
    settings = SafetyParams(refusals=True, max_new_tokens=8)
    asked = trials.params().model_copy(update={"safety": settings})
    answers = ask_probes(trio, read_questions(asked, [], [], Path()))
    texts = {
        system: [each.text for each in answers.refusals if each.system == system]
        for system in trio.digests
    }
    assert [len(own) for own in texts.values()] == [80, 80, 80]
    assert texts["adapter"] != texts["base"] != texts["champion"] != texts["adapter"]
    shares = report_safety(answers, None).shares
    assert [(share.quantity, share.against) for share in shares] == [
        ("refused", "base"),
        ("refused", "champion"),
        ("answered", "base"),
        ("answered", "champion"),
    ]


def test_without_a_champion_two_are_asked(trio: Trio) -> None:
    ChampionInput(champion=None).write(layout.CHAMPION_INPUT)
    two = Trio.of(trio.own, trio.adapter, trio.language, trio.params, open_scored_model)
    assert [system for system, _ in two.languages()] == ["adapter", "base"]
    assert two.digests == {"adapter": trio.adapter.sha256, "base": None}
