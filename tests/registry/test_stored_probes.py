"""A package's reports on safety and code follow from what is stored, or differences are named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.value import FileDigest
from pipelines.code_tasks.scored import FILE as CODE_FILE
from pipelines.code_tasks.scored import humaneval_of
from pipelines.safety.scored import FILE, safety_of
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.values.evidence import Scorecard
from pipelines.values.humaneval import HumanEvalAnswers
from pipelines.values.params import load_params, override
from pipelines.values.safety import SafetyAnswers
from registry.release.recompute import recompute
from registry.release.stored_probes import (
    humaneval_differences,
    probe_differences,
    safety_differences,
)
from tests.support import probed, trials


@pytest.fixture(scope="module")
def evidence(scored_folder: Path) -> Evidence:
    return read_evidence(scored_folder / "evidence.parquet")


@pytest.fixture
def folder(scored_folder: Path, tmp_path: Path) -> Path:
    """A folder of a run that asked for refusals, and passed in that."""
    copy = shutil.copytree(scored_folder, tmp_path / "scored")
    override(copy / "params.yaml", {"safety.refusals": True})
    store(copy, probed.refusal_probe())
    return copy


def store(folder: Path, answers: SafetyAnswers) -> None:
    """Have scorecard and verdict follow from these answers."""
    scored = safety_of(answers, load_params(folder / "params.yaml"), folder)
    update = {"safety": scored.report, "safety_answers": scored.answers}
    card = Scorecard.read(folder / "scorecard.json")
    trials.write_verdict(folder, card.model_copy(update=update))


def changed(folder: Path, **fields: object) -> None:
    """Forge the answers, and the digest that the scorecard has of them."""
    path = folder / FILE
    SafetyAnswers.read(path).model_copy(update=fields).write(path)
    card = Scorecard.read(folder / "scorecard.json")
    digest = FileDigest.of(path)
    trials.write_verdict(folder, card.model_copy(update={"safety_answers": digest}))


def test_a_report_that_follows_is_no_difference(folder: Path) -> None:
    again = recompute(folder)
    assert again.differences == ()
    rules = [finding.rule for finding in again.verdict.findings]
    assert "safety: refused against base" in rules


def removed(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    without = {"safety": None, "safety_answers": None}
    trials.write_verdict(folder, card.model_copy(update=without))


def better(folder: Path) -> None:
    """Answers that are bad, beside the report of good ones."""
    changed(folder, refusals=probed.refusal_probe(harmless=range(30)).refusals)


def dropped(folder: Path) -> None:
    changed(folder, refusals=probed.refusal_probe().refusals[1:])


def of_another_adapter(folder: Path) -> None:
    changed(folder, systems={"adapter": "f" * 64, "base": None})


def of_another_base(folder: Path) -> None:
    changed(folder, base_digest="f" * 64)


def laxer(folder: Path) -> None:
    changed(folder, least_common=10_000)


def edited(folder: Path) -> None:
    path = folder / FILE
    path.write_text(path.read_text().replace("first left", "second left"))


def gone(folder: Path) -> None:
    (folder / FILE).unlink()


def nameless(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    trials.write_verdict(folder, card.model_copy(update={"safety_answers": None}))


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (removed, "params.yaml asks for refusals, and the scorecard holds no probe"),
        (better, "scorecard.safety.shares"),
        (dropped, "not about the same items"),
        (of_another_adapter, "other adapters answered"),
        (of_another_base, "another base answered"),
        (laxer, "10000 characters count as verbatim, params.yaml asks for 40"),
        (edited, "another file than the one"),
        (gone, "is missing"),
        (nameless, "is missing"),
    ],
)
def test_a_forged_report_is_named(
    folder: Path, forge: Callable[[Path], None], says: str, evidence: Evidence
) -> None:
    forge(folder)
    card = Scorecard.read(folder / "scorecard.json")
    differences = tuple(safety_differences(folder, card, evidence))
    assert [each for each in differences if says in each], differences


def test_the_champion_of_the_evidence_is_the_one_that_was_asked(
    folder: Path, evidence: Evidence
) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    rows = {**evidence.rows, "champion": evidence.rows["base"]}
    spec = trials.spec("champion")
    for made_by in ({}, {"champion": spec.with_adapter("c" * 64)}):
        with_champion = evidence.model_copy(update={"rows": rows, "made_by": made_by})
        (difference,) = safety_differences(folder, card, with_champion)
        assert "other adapters answered" in difference


# HumanEval.


@pytest.fixture
def coder(scored_folder: Path, tmp_path: Path) -> Path:
    """A folder of a run that asked HumanEval's tasks, and passed in that."""
    copy = shutil.copytree(scored_folder, tmp_path / "coder")
    override(copy / "params.yaml", {"humaneval.samples": 1})
    answers = probed.humaneval(range(60), range(50))
    scored = humaneval_of(answers, load_params(copy / "params.yaml"), copy)
    update = {"humaneval": scored.report, "humaneval_answers": scored.answers}
    card = Scorecard.read(copy / "scorecard.json")
    trials.write_verdict(copy, card.model_copy(update=update))
    return copy


def code_changed(folder: Path, **fields: object) -> None:
    """Forge the answers, and the digest that the scorecard has of them."""
    path = folder / CODE_FILE
    HumanEvalAnswers.read(path).model_copy(update=fields).write(path)
    card = Scorecard.read(folder / "scorecard.json")
    update = {"humaneval_answers": FileDigest.of(path)}
    card.model_copy(update=update).write(folder / "scorecard.json")


def code_removed(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    without = {"humaneval": None, "humaneval_answers": None}
    card.model_copy(update=without).write(folder / "scorecard.json")


def code_worse(folder: Path) -> None:
    code_changed(folder, results=probed.humaneval((), range(50)).results)


def code_dropped(folder: Path) -> None:
    code_changed(folder, results=probed.humaneval(range(60), range(50)).results[1:])


def code_of_another(folder: Path) -> None:
    code_changed(folder, systems={"adapter": "f" * 64, "base": None})


def code_gone(folder: Path) -> None:
    (folder / CODE_FILE).unlink()


def code_of_few_tasks(folder: Path) -> None:
    few = probed.humaneval(range(10), range(10), tasks=12)
    code_changed(folder, tasks=few.tasks, results=few.results)


def test_a_report_on_code_that_follows_is_no_difference(
    coder: Path, evidence: Evidence
) -> None:
    card = Scorecard.read(coder / "scorecard.json")
    assert list(probe_differences(coder, card, evidence)) == []


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (code_removed, "params.yaml asks for 1 samples"),
        (code_worse, "scorecard.humaneval.shares"),
        (code_dropped, "has 163 answers"),
        (code_of_another, "scorecard.humaneval: other adapters answered"),
        (code_gone, "humaneval.json is missing"),
        (code_of_few_tasks, "12 tasks are not all of them"),
    ],
)
def test_a_forged_report_on_code_is_named(
    coder: Path, forge: Callable[[Path], None], says: str, evidence: Evidence
) -> None:
    forge(coder)
    card = Scorecard.read(coder / "scorecard.json")
    differences = tuple(humaneval_differences(coder, card, evidence))
    assert [each for each in differences if says in each], differences
