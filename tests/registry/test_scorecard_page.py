"""The page of a scorecard: whole, by itself, and nothing of anybody's answers is markup in it."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import DamagedFile
from pipelines.scoring.evidence_file import EvidenceRow, read_evidence, write_evidence
from pipelines.scoring.evidence_table import EvidenceTable
from pipelines.values.dataset import Prompt
from pipelines.values.evidence import Scorecard
from pipelines.values.reserve import Confirmation
from pipelines.values.safety import SafetyReport
from pipelines.values.sampling import SampledAs
from pipelines.values.verdict import Rejection, Undecided
from registry.mlflow.card import describe_limits
from registry.mlflow.recorded import RecordedRun
from registry.mlflow.score_metrics import score_metrics
from registry.mlflow.store import Store
from registry.report.scorecard import render_scorecard
from tests.support import trials
from tests.support.html_page import HOSTILE, HTML, Page

Change = Callable[[EvidenceRow], EvidenceRow]


@pytest.fixture
def folder(scored_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored_folder, tmp_path / "evidence"))


def page_of(folder: Path, subject: str = "Run 1 of letters") -> Page:
    text = render_scorecard(folder, subject)
    assert "http" not in text.replace("http-equiv", "")
    return Page(text)


def keep(folder: Path, count: int) -> None:
    """Leave so many prompts of each system in the evidence."""
    path = folder / "evidence.parquet"
    evidence = read_evidence(path)
    rows = {system: same[:count] for system, same in evidence.rows.items()}
    write_evidence(path, evidence.model_copy(update={"rows": rows}))
    trials.name_evidence(folder)


def test_a_candidate_that_passed_is_shown_with_all_that_its_verdict_rests_on(
    folder: Path,
) -> None:
    words = page_of(folder).words
    card = Scorecard.read(folder / "scorecard.json")
    assert "Run 1 of letters passed screen: " in words
    assert "chrf, positive is better: " in words
    for heading in (
        *("Rules", "Scores", "Differences", "Parts of the prompts", "Methods"),
        *("Worst regressions", "Groups", "What is not covered"),
    ):
        assert heading in words, heading
    adapter = card.system("adapter")
    assert adapter is not None
    for metric in adapter.metrics:
        assert metric.signature in words, metric.name
    for digest in (card.evidence.sha256, card.adapter.sha256, card.content_sha256()):
        assert digest in words
    assert "2000, 0" in words or "400, 0" in words, "resamples and seed"
    assert "A comparison with what serves: there was no champion." in words


def test_each_system_is_shown_with_the_engine_that_gave_its_answers(
    folder: Path,
) -> None:
    path = folder / "evidence.parquet"
    evidence = read_evidence(path)
    made_by = dict(evidence.made_by)
    made_by["few_shot"] = made_by["few_shot"].in_engine("openvino", "2026.4.1")
    write_evidence(path, evidence.model_copy(update={"made_by": made_by}))
    trials.name_evidence(folder)
    words = page_of(folder).words
    assert words.count("by openvino 2026.4.1 in float32") == 1
    assert "by transformers" in words


def test_the_same_evidence_gives_the_same_page(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert render_scorecard(folder, "Run 1") == render_scorecard(copy, "Run 1")


@pytest.mark.parametrize("kind", [Rejection, Undecided])
def test_what_did_not_pass_has_the_same_page(
    folder: Path, kind: type[Rejection] | type[Undecided]
) -> None:
    path = folder / "verdict.json"
    passed = trials.write_verdict(folder, Scorecard.read(folder / "scorecard.json"))
    outcome = "rejected" if kind is Rejection else "undecided"
    first = passed.findings[0].model_copy(update={"outcome": outcome})
    other = kind(
        gate="screen",
        findings=(first, *passed.findings[1:]),
        comparisons=passed.comparisons,
        policy_sha256=passed.policy_sha256,
        statistics=passed.statistics,
    )
    other.write(path)
    page = page_of(folder)
    assert f"Run 1 of letters is {outcome} by screen: 1 of " in page.words
    assert "(trained)" in page.words
    assert page.tags.count("svg") >= 10


def test_whatever_an_answer_holds_is_text(folder: Path) -> None:
    trials.rewrite_evidence(folder, trials.HostileTexts(HOSTILE))
    page = page_of(folder, f"Run {HOSTILE}")
    assert HTML in page.words
    assert "<script" not in page.text
    assert "<img" not in page.text


def change_scorecard(folder: Path, **changes: object) -> None:
    path = folder / "scorecard.json"
    Scorecard.read(path).model_copy(update=changes).write(path)


def test_what_was_probed_and_drawn_is_not_called_uncovered(folder: Path) -> None:
    plain = page_of(folder).words
    assert "Safety: no probe was asked for." in plain
    assert "Toxicity: no answer was searched for words that insult." in plain
    assert "every answer here is greedy" in plain
    card = Scorecard.read(folder / "scorecard.json")
    change_scorecard(
        folder,
        safety=SafetyReport(asked=("refusals",)),
        wording=card.bias,
        sampled_as=SampledAs(temperature=0.7, seeds=(0, 1, 2)),
    )
    probed = page_of(folder).words
    assert "no probe was asked for" not in probed
    assert "no answer was searched" not in probed
    assert "means of 3 answers at temperature 0.7" in probed
    assert "Personal data: nothing here looks for them" in probed
    # The card of the version says the same.
    decoding, unmeasured = describe_limits(Scorecard.read(folder / "scorecard.json"))
    assert "the 3 answers at temperature 0.7 that produced them" in decoding
    assert "safety beyond the probes above" in unmeasured
    decoding, unmeasured = describe_limits(card)
    assert "the greedy decoding that produced them" in decoding
    assert "toxicity and safety were not measured" in unmeasured


def test_one_prompt_has_a_page_without_bounds_of_its_parts(folder: Path) -> None:
    keep(folder, 1)
    words = page_of(folder).words
    assert "too few to tell: under 10 clusters" in words
    assert (
        "The power of the gate is not known: too few clusters, or no spread." in words
    )


def test_a_part_without_a_number_says_so_and_shows_no_nan(folder: Path) -> None:
    def without_tokens(row: EvidenceRow) -> EvidenceRow:
        zeros = tuple(0.0 for _ in row.statistics["chrf"])
        return row.model_copy(
            update={"statistics": {**row.statistics, "chrf": zeros}, "feature": "a"}
        )

    trials.rewrite_evidence(folder, without_tokens)
    words = page_of(folder).words
    assert "feature a" in words
    assert "nan" not in words.lower().split()


def test_a_declared_feature_with_ten_clusters_has_bounds(folder: Path) -> None:
    def with_feature(row: EvidenceRow) -> EvidenceRow:
        number = int(row.group.removeprefix("group-"))
        return row.model_copy(update={"feature": "few" if number < 9 else "many"})

    trials.rewrite_evidence(folder, with_feature)
    words = page_of(folder).words
    few = words.index("feature few")
    assert "too few to tell" in words[few : few + 80]
    many = words.index("feature many")
    assert "too few to tell" not in words[many : many + 60]


def test_evidence_of_another_scorecard_gets_no_page(folder: Path) -> None:
    path = folder / "evidence.parquet"
    evidence = read_evidence(path)
    rows = {system: same[:-1] for system, same in evidence.rows.items()}
    write_evidence(path, evidence.model_copy(update={"rows": rows}))
    with pytest.raises(DamagedFile, match="has changed since it was recorded"):
        render_scorecard(folder, "Run 1")


def test_systems_with_other_prompts_are_no_evidence(folder: Path) -> None:
    path = folder / "evidence.parquet"
    evidence = read_evidence(path)
    rows = dict(evidence.rows)
    rows["base"] = rows["base"][:-1]
    write_evidence(path, evidence.model_copy(update={"rows": rows}))
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        assert EvidenceTable(path).prompt_ids
    path.write_bytes(b"PAR1 is no whole file")
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        assert EvidenceTable(path).systems


@pytest.mark.parametrize("column", ["group", "prediction", "references"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_column_that_holds_nothing_is_no_evidence(
    folder: Path, column: str, *, is_there: bool
) -> None:
    path = folder / "evidence.parquet"
    table = pq.read_table(path)
    place = table.column_names.index(column)
    table = table.drop_columns(column)
    if is_there:
        nothing = pa.nulls(len(table), pa.string())
        table = table.add_column(place, column, nothing)
    pq.write_table(table, path)
    evidence = EvidenceTable(path)
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        evidence.answers("adapter", evidence.prompt_ids)
    if column == "references" and not is_there:
        with pytest.raises(DamagedFile, match="not a whole evidence file"):
            evidence.reference_digests("adapter")


def test_the_table_holds_what_the_whole_file_holds(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    table = EvidenceTable(folder / "evidence.parquet")
    assert table.metrics == evidence.metrics
    assert table.clusters == evidence.clusters
    for system, rows in evidence.rows.items():
        for metric in evidence.metrics:
            own = table.statistics(system, metric)
            assert own.tolist() == evidence.statistics(system, metric).tolist()
        last = rows[-1].row
        answers = table.answers(system, [last.prompt_id])
        assert answers[last.prompt_id].prediction == last.prediction
        assert len(answers) == 1


def test_a_reserve_that_could_not_confirm_says_why(folder: Path) -> None:
    policy = (folder / "policy.yaml").read_text(encoding="utf-8")
    assert "reserve: sealed" in policy
    assert "the folder does not say what confirmed" in page_of(folder).words
    missing = Confirmation(missing="No block is left")
    missing.write(folder / "confirmation/confirmation.json")
    assert "No block is left." in page_of(folder).words
    without = policy.replace("reserve: sealed", "reserve: none")
    (folder / "policy.yaml").write_text(without, encoding="utf-8")
    assert "72 of 100 years release one falsely." in page_of(folder).words


def worse_on_some(prompt: Prompt, dice: random.Random) -> str:
    answer = trials.wrong if int(prompt.id, 16) % 3 else trials.right
    return answer(prompt, dice)


def test_the_worst_answers_are_read_alone_and_stand_side_by_side(
    tmp_path: Path,
) -> None:
    held_out = trials.rows(24, 12)
    folder = tmp_path / "evidence"
    trials.write_folder(
        folder,
        trials.trial(
            {
                "base": (trials.wrong, 4.0),
                "few_shot": (trials.right, 3.0),
                "adapter": (worse_on_some, 2.0),
            },
            held_out,
        ),
        held_out,
    )
    page = page_of(folder)
    assert "prompts got worse than few_shot by chrf" in page.words
    assert page.words.count("the candidate's answer") == 10
    assert page.words.count("few_shot's answer") == 10
    assert "task 0 " in page.words


def test_scores_and_differences_are_metrics_of_the_run(
    store: Store, run: RecordedRun, folder: Path
) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    verdict = trials.write_verdict(folder, card)
    store.runs.log_metrics(run.run_id, 0, score_metrics(card, verdict.comparisons))
    logged = store.runs.metrics(run.run_id)
    chrf = card.systems[0].metric("chrf").interval
    name = f"score.{card.systems[0].system}.chrf"
    assert logged[name] == pytest.approx(chrf.estimate)
    assert logged[f"{name}.low"] == pytest.approx(chrf.low)
    (against_base,) = [
        each
        for each in verdict.comparisons
        if (each.metric, each.against) == ("chrf", "base")
    ]
    assert logged["better.chrf.base"] == pytest.approx(against_base.difference)
    assert "better.chrf.control" in logged
    assert logged["held_out.prompts"] == card.prompts


def test_a_metric_that_does_not_apply_is_no_number(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    systems = [
        system.model_copy(
            update={
                "metrics": tuple(
                    metric.model_copy(update={"inapplicable": "no command"})
                    for metric in system.metrics
                )
            }
        )
        for system in card.systems
    ]
    empty = card.model_copy(update={"systems": tuple(systems)})
    assert set(score_metrics(empty, ())) == {"held_out.prompts", "held_out.clusters"}
