"""Evidence of sampled answers: it follows from its texts, and from what params.yaml asked for."""

from pathlib import Path

import pytest

from core.value import FileDigest
from pipelines.scoring.evidence_file import Evidence, read_evidence, write_evidence
from pipelines.values.evidence import Scorecard
from pipelines.values.params import override
from pipelines.values.sampling import SampledAs, seeds_from
from registry.release.recompute import recompute
from registry.release.stored_inputs import _sampling_differences
from tests.support import trials
from tests.support.sampled import DRAWN, evidence_of, sampled_trial

ASKED = {"generation.temperature": 0.7, "generation.samples": 5}


def asking(folder: Path, **changes: float) -> Path:
    """A folder whose parameters ask for samples."""
    path = folder / "params.yaml"
    path.write_text(trials.PARAMS.read_text(encoding="utf-8"), encoding="utf-8")
    named = {f"generation.{name}": setting for name, setting in changes.items()}
    override(path, {**ASKED, **named})
    return folder


@pytest.fixture
def card(scored_folder: Path) -> Scorecard:
    made = Scorecard.read(scored_folder / "scorecard.json")
    return made.model_copy(update={"sampled_as": DRAWN})


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return evidence_of(sampled_trial(), "exact_match")


def test_what_was_drawn_is_what_params_asked_for(
    card: Scorecard, evidence: Evidence, tmp_path: Path
) -> None:
    assert list(_sampling_differences(asking(tmp_path), card, evidence)) == []


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"temperature": 0.8}, "5 answers a prompt at 0.8, seeds 0, 1, 2, 3, 4"),
        ({"samples": 6}, "6 answers a prompt"),
        ({"seed": 9}, "seeds 9, 10"),
    ],
)
def test_another_temperature_number_or_seed_is_named(
    card: Scorecard,
    evidence: Evidence,
    tmp_path: Path,
    changes: dict[str, float],
    asked: str,
) -> None:
    (told,) = _sampling_differences(asking(tmp_path, **changes), card, evidence)
    assert "the evidence has 5 answers a prompt at 0.7" in told
    assert asked in told


def test_a_sampled_project_is_not_judged_by_greedy_answers(
    scored_folder: Path, tmp_path: Path
) -> None:
    card = Scorecard.read(scored_folder / "scorecard.json")
    greedy = evidence_of(trials.trial(), "exact_match")
    (told,) = _sampling_differences(asking(tmp_path), card, greedy)
    assert "the evidence has greedy answers" in told


def test_a_scorecard_that_says_otherwise_than_its_evidence_is_named(
    card: Scorecard, evidence: Evidence, tmp_path: Path
) -> None:
    more = SampledAs(temperature=0.7, seeds=seeds_from(0, 9))
    other = card.model_copy(update={"sampled_as": more})
    (told,) = _sampling_differences(asking(tmp_path), other, evidence)
    assert told.startswith("samples: the scorecard says 9 answers")


@pytest.mark.ci
def test_a_package_of_sampled_answers_is_judged_again_and_forged_scores_are_named(
    tmp_path: Path,
) -> None:
    trials.write_folder(tmp_path, sampled_trial())
    path = tmp_path / "params.yaml"
    override(path, ASKED)
    again = recompute(tmp_path)
    assert again.differences == ()
    rules = {finding.rule: finding for finding in again.verdict.findings}
    assert "means of 5 answers" in rules["samples"].text
    card = Scorecard.read(tmp_path / "scorecard.json")
    system = card.system("adapter")
    assert system is not None
    chrf = system.metric("chrf").sampled
    assert chrf is not None
    assert chrf.variance > 0
    evidence_path = tmp_path / "evidence.parquet"
    evidence = read_evidence(evidence_path)
    first, *others = evidence.rows["adapter"]
    better = {**first.sample_scores, "exact_match": (1.0,) * 5}
    forged = first.model_copy(update={"sample_scores": better})
    rows = {**evidence.rows, "adapter": (forged, *others)}
    write_evidence(evidence_path, evidence.model_copy(update={"rows": rows}))
    digest = FileDigest.of(evidence_path)
    trials.write_verdict(tmp_path, card.model_copy(update={"evidence": digest}))
    told = recompute(tmp_path).differences
    assert any("sample_scores.exact_match" in each for each in told), told
