"""Scored as sampled: k answers to a prompt by recorded seeds, a row counts as their mean."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from core.errors import (
    DamagedFile,
    IncompleteEvidence,
    IncompleteGeneration,
    ParameterError,
)
from pipelines.gates.sampling_check import check_samples
from pipelines.metrics import metric_named
from pipelines.metrics.metric import ScoredRow
from pipelines.models.answers import Identity, Places, answer
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.scoring.evidence_file import Evidence, read_evidence, write_evidence
from pipelines.scoring.samples import sampled_score, scores_of_samples
from pipelines.scoring.scores import system_scores, with_statistics
from pipelines.stages.score import check_against_evaluate
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import group_prompts
from pipelines.values.evidence import Scorecard
from pipelines.values.params import GenerationParams, load_params, override
from pipelines.values.sampling import SampledAnswer, SampledAs, seeds_from
from pipelines.values.trial import SystemAnswers, Trial, read_answers
from tests.support import trials
from tests.support.sampled import DRAWN, evidence_of, sampled_trial, with_samples
from tests.support.tiny import CHAT_TEMPLATE

EXACT = metric_named("exact_match")
GREEDY = load_params(trials.PARAMS).generation
SHORT = {"max_new_tokens": 6, "batch_size": 2}
SAMPLED = GREEDY.model_copy(update={**SHORT, "temperature": 0.9, "samples": 3})


@pytest.fixture(scope="module")
def language(manifest: BaseModelManifest, tiny: Path) -> LanguageModel:
    return load_language_model(manifest, tiny, CHAT_TEMPLATE, "float32")


def answered(
    language: LanguageModel,
    manifest: BaseModelManifest,
    params: GenerationParams,
    out: Path,
) -> SystemAnswers:
    prompts = group_prompts(trials.rows(4, 2))
    answer(
        Identity(system="base", base=manifest), language, prompts, params, Places(out)
    )
    return read_answers(out / "base.json")


def test_the_same_seeds_draw_the_same_answers_and_the_greedy_one_stays(
    language: LanguageModel, manifest: BaseModelManifest, tmp_path: Path
) -> None:
    first = answered(language, manifest, SAMPLED, tmp_path / "a")
    again = answered(language, manifest, SAMPLED, tmp_path / "b")
    other_seed = SAMPLED.model_copy(update={"seed": 7})
    other = answered(language, manifest, other_seed, tmp_path / "c")
    assert first.samples == again.samples
    assert first.samples != other.samples
    assert first.answers == again.answers == other.answers
    assert first.drawn == SampledAs(temperature=0.9, seeds=(0, 1, 2))
    by_prompt: dict[str, set[str]] = {}
    for sample in first.samples:
        by_prompt.setdefault(sample.prompt_id, set()).add(sample.text)
    # Three seeds, three answers: none is another's again.
    assert {len(texts) for texts in by_prompt.values()} == {3}


def test_greedy_answers_leave_what_they_left_before(
    language: LanguageModel, manifest: BaseModelManifest, tmp_path: Path
) -> None:
    greedy = GREEDY.model_copy(update=SHORT)
    found = answered(language, manifest, greedy, tmp_path)
    assert (found.samples, found.drawn) == ((), None)
    assert {path.name for path in tmp_path.iterdir()} == {
        "base.answers.jsonl",
        "base.losses.jsonl",
        "base.json",
    }
    assert "sampled" not in json.loads((tmp_path / "base.json").read_text())
    assert not {"temperature", "samples"} & GREEDY.model_dump().keys()
    assert "min_samples" not in trials.policy().gates.screen.model_dump()


def test_a_file_of_samples_that_was_edited_is_refused(
    language: LanguageModel, manifest: BaseModelManifest, tmp_path: Path
) -> None:
    answered(language, manifest, SAMPLED, tmp_path)
    path = tmp_path / "base.samples.jsonl"
    path.write_text(path.read_text().replace('"tokens"', '"tokens" ', 1))
    with pytest.raises(DamagedFile, match="has changed since it was recorded"):
        read_answers(tmp_path / "base.json")


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"generation.samples": 3}, "generation.temperature"),
        ({"generation.temperature": 0, "generation.samples": 3}, "temperature"),
        ({"generation.temperature": math.nan}, "generation.temperature"),
        ({"generation.temperature": 2.1}, "generation.temperature"),
        ({"generation.temperature": True}, "generation.temperature"),
        ({"generation.temperature": 1, "generation.samples": 1}, "generation.samples"),
        ({"generation.temperature": 1, "generation.samples": 101}, "samples"),
        ({"generation.top_p": 1}, "There is no parameter generation.top_p"),
        ({"generation.seed.x": 1}, "There is no parameter"),
        ({"nothing.temperature": 1}, "There is no parameter"),
    ],
)
def test_settings_that_sample_nothing_are_refused(
    tmp_path: Path, settings: dict[str, Any], fact: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(trials.PARAMS.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ParameterError, match=fact):
        override(path, settings)


def test_a_temperature_is_set_though_the_file_does_not_name_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(trials.PARAMS.read_text(encoding="utf-8"), encoding="utf-8")
    override(path, {"generation.temperature": 0.7})
    drawn = load_params(path).generation.sampled_as
    assert drawn == SampledAs(temperature=0.7, seeds=(0, 1, 2, 3, 4))
    override(path, {"generation.temperature": 0})
    assert load_params(path).generation.sampled_as is None


def test_seeds_are_recorded_once_each() -> None:
    assert seeds_from(2**32 - 1, 2) == (2**32 - 1, 0)
    for seeds in ((1,), (1, 1), (1, -1), (1, 2**32)):
        with pytest.raises(ValidationError):
            SampledAs(temperature=1, seeds=seeds)


Edit = Callable[[tuple[SampledAnswer, ...]], tuple[SampledAnswer, ...]]


@pytest.mark.parametrize(
    ("edit", "fact"),
    [
        (lambda samples: samples[1:], "1 samples of base missing"),
        (lambda samples: samples[:0], "samples of base missing"),
        (lambda samples: (*samples, samples[0]), "1 samples of base too many"),
        (
            lambda samples: (
                *samples[1:],
                samples[0].model_copy(update={"sample": 5}),
            ),
            "samples of base missing",
        ),
        (
            lambda samples: (
                *samples[1:],
                samples[0].model_copy(update={"prompt_id": "another"}),
            ),
            "samples of base missing",
        ),
    ],
)
def test_each_prompt_has_each_sample_once(edit: Edit, fact: str) -> None:
    made = sampled_trial()
    first, *others = made.systems
    edited = first.model_copy(update={"samples": edit(first.samples)})
    changed = made.model_copy(update={"systems": (edited, *others)})
    with pytest.raises(IncompleteGeneration, match=fact):
        changed.answers("base")


def test_samples_of_a_greedy_system_are_too_many() -> None:
    made = sampled_trial()
    first, *others = made.systems
    greedy = first.completions.model_copy(update={"sampled": None})
    edited = first.model_copy(update={"completions": greedy})
    changed = made.model_copy(update={"systems": (edited, *others)})
    with pytest.raises(IncompleteGeneration, match="samples of base too many"):
        changed.answers("base")


@pytest.mark.parametrize(
    "drawn",
    [
        SampledAs(temperature=0.8, seeds=DRAWN.seeds),
        SampledAs(temperature=0.7, seeds=seeds_from(1, 5)),
        SampledAs(temperature=0.7, seeds=seeds_from(0, 4)),
    ],
)
def test_every_system_is_drawn_in_the_same_way(drawn: SampledAs) -> None:
    made = sampled_trial()
    first, *others = made.systems
    other = with_samples(trials.trial().answers("base"), drawn)
    changed = made.model_copy(update={"systems": (other, *others)})
    assert made.drawn == DRAWN
    assert first.system == "base"
    with pytest.raises(IncompleteGeneration, match="answers of base were drawn"):
        assert changed.drawn


@pytest.fixture(scope="module")
def sampled() -> Trial:
    return sampled_trial()


@pytest.fixture(scope="module")
def evidence(sampled: Trial) -> Evidence:
    return evidence_of(sampled, "chrf", "exact_match", "bleu", "bits_per_byte")


def test_a_row_counts_as_the_mean_of_its_samples(evidence: Evidence) -> None:
    for row in evidence.rows["adapter"]:
        is_right = row.row.prediction == row.row.references[0]
        # The first of five is the whole answer, and the others lack a word.
        expected = 0.2 if is_right else 0.0
        assert row.statistics["exact_match"] == pytest.approx((expected, 1.0))
        assert row.sample_scores["exact_match"] == (float(is_right), 0, 0, 0, 0)
        assert set(row.sample_scores) == {"chrf", "exact_match"}


def test_losses_and_what_speaks_of_a_whole_set_alone_have_no_score_of_a_sample(
    evidence: Evidence,
) -> None:
    greedy = evidence_of(trials.trial(), "bits_per_byte")
    mine, theirs = (
        each.statistics("adapter", "bits_per_byte") for each in (evidence, greedy)
    )
    assert (mine == theirs).all()
    scores = {
        metric.name: metric.sampled
        for metric in system_scores(
            evidence,
            [evidence.metric_named(name) for name in evidence.metrics],
            trials.RESAMPLING,
        )[0].metrics
    }
    assert scores["bits_per_byte"] is None
    assert scores["bleu"] is None
    assert scores["chrf"] is not None


def test_pass_k_and_the_variance_within_a_row_are_in_the_scorecard(
    evidence: Evidence,
) -> None:
    by_system = {
        system.system: system.metric("exact_match").sampled
        for system in system_scores(evidence, [EXACT], trials.RESAMPLING)
    }
    adapter = by_system["adapter"]
    assert adapter is not None
    assert adapter.all_right is not None
    right = [row.sample_scores["exact_match"][0] for row in evidence.rows["adapter"]]
    assert (adapter.samples, adapter.all_right.estimate) == (5, 0.0)
    # One of five is right where the first is: its variance is 0.2.
    assert adapter.variance == pytest.approx(0.2 * sum(right) / len(right))


def test_all_samples_right_are_one_success_each() -> None:
    scores = [(1.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)]
    found = sampled_score(EXACT, scores, list("aabb"), trials.RESAMPLING)
    assert found is not None
    assert found.all_right is not None
    assert found.all_right.estimate == 0.5
    assert found.variance == pytest.approx(0.5 / 4)
    with pytest.raises(IncompleteEvidence, match=r"prompts have \[1, 2\]"):
        sampled_score(EXACT, [(1.0,), *scores], list("aaabb"), trials.RESAMPLING)


def test_an_answer_without_a_number_is_no_sample() -> None:
    class Broken:
        name = "broken"
        worst = 0.0

        def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
            return (math.nan, 1.0)

        def corpus(self, sums: Any) -> Any:
            return sums[..., 0] / sums[..., 1]

    row = ScoredRow(
        prompt_id="1", prediction="a", references=("a",), samples=("a", "b")
    )
    broken: Any = Broken()
    with pytest.raises(IncompleteEvidence, match="of a sample of prompt 1 is nan"):
        scores_of_samples(broken, row)


def test_bleu_and_chrf_of_samples_are_those_of_evaluate(evidence: Evidence) -> None:
    metrics = [evidence.metric_named(name) for name in ("bleu", "chrf")]
    check_against_evaluate(evidence, metrics)


def test_evidence_with_samples_comes_back_whole(
    evidence: Evidence, tmp_path: Path
) -> None:
    path = tmp_path / "evidence.parquet"
    write_evidence(path, evidence)
    again = read_evidence(path)
    assert again == evidence
    assert again.sampled_as == DRAWN


def test_evidence_without_samples_has_no_column_for_them(tmp_path: Path) -> None:
    path = tmp_path / "evidence.parquet"
    write_evidence(path, evidence_of(trials.trial(), "exact_match"))
    schema = pq.read_schema(path)
    assert not [name for name in schema.names if "sample" in name]
    assert b"assay.sampled_as" not in schema.metadata


def without_a_sample(evidence: Evidence) -> Evidence:
    first, *others = evidence.rows["adapter"]
    row = first.row.model_copy(update={"samples": first.row.samples[1:]})
    fewer = first.model_copy(update={"row": row})
    rows = {**evidence.rows, "adapter": (fewer, *others)}
    return evidence.model_copy(update={"rows": rows})


def without_a_score(evidence: Evidence) -> Evidence:
    first, *others = evidence.rows["adapter"]
    scores = {name: numbers[1:] for name, numbers in first.sample_scores.items()}
    fewer = first.model_copy(update={"sample_scores": scores})
    rows = {**evidence.rows, "adapter": (fewer, *others)}
    return evidence.model_copy(update={"rows": rows})


@pytest.mark.parametrize(
    "forge",
    [
        without_a_sample,
        without_a_score,
        lambda evidence: evidence.model_copy(update={"sampled_as": None}),
        lambda evidence: evidence.model_copy(
            update={"sampled_as": SampledAs(temperature=0.7, seeds=(0, 1))}
        ),
    ],
)
def test_evidence_with_another_number_of_samples_is_damaged(
    evidence: Evidence, tmp_path: Path, forge: Callable[[Evidence], Evidence]
) -> None:
    path = tmp_path / "evidence.parquet"
    write_evidence(path, forge(evidence))
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        read_evidence(path)


def test_a_forged_score_of_a_sample_does_not_follow_from_its_text(
    evidence: Evidence,
) -> None:
    first, *others = evidence.rows["adapter"]
    forged = first.model_copy(
        update={"sample_scores": {"exact_match": (1.0,) * 5}, "statistics": {}}
    )
    again = with_statistics([forged, *others], [EXACT])
    assert again.rows["adapter"][0].sample_scores["exact_match"] != (1.0,) * 5


def test_fewer_samples_than_the_policy_asks_for_are_undecided(
    scored_folder: Path,
) -> None:
    card = Scorecard.read(scored_folder / "scorecard.json")
    limits = trials.policy().gates.screen
    assert list(check_samples(card, limits)) == []
    for samples, outcome in ((4, "undecided"), (5, "passed"), (6, "passed")):
        drawn = SampledAs(temperature=0.7, seeds=seeds_from(0, samples))
        sampled = card.model_copy(update={"sampled_as": drawn})
        (found,) = check_samples(sampled, limits)
        assert (found.rule, found.outcome) == ("samples", outcome)
