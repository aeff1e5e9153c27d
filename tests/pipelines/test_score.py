"""Scoring: nothing missing, nothing invented, and every score twice."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.errors import (
    DamagedFile,
    IncompleteEvidence,
    IncompleteGeneration,
    ParameterError,
)
from core.files import digest_of_json
from pipelines.gates.comparisons import score_differences
from pipelines.metrics import metric_named
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.scoring import evidence_file
from pipelines.scoring.controls import control_prompts
from pipelines.scoring.evidence_file import evidence_of, read_evidence, write_evidence
from pipelines.scoring.observations import by_feature, by_name, named_answers
from pipelines.stages import score as stage
from pipelines.stages.score import check_against_evaluate, score
from pipelines.values.dataset import NO_GROUP, group_prompts
from pipelines.values.evidence import Scorecard
from pipelines.values.metric_settings import BleuSettings, MetricSettings
from pipelines.values.params import load_params
from pipelines.values.trial import SystemAnswers, Trial, read_trial
from tests.support import trials


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the stages before `score` leave it, and the current one."""
    trials.write_trial(
        tmp_path, trials.trial(), trials.rows(), trials.rows(30, 10, seed=1)
    )
    (tmp_path / "params.yaml").write_text(trials.PARAMS.read_text())
    (tmp_path / "registry/policies").mkdir(parents=True)
    (tmp_path / "registry/policies/default.yaml").write_text(trials.POLICY.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_system(of: Trial, changed: SystemAnswers) -> Trial:
    others = tuple(
        answers for answers in of.systems if answers.system != changed.system
    )
    return of.model_copy(update={"systems": (*others, changed)})


def test_the_stage_writes_a_scorecard_of_every_metric_and_system(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.main() == 0
    assert capsys.readouterr().out.startswith("chrf: base ")
    card = Scorecard.read(workspace / "data/score/scorecard.json")
    assert [system.system for system in card.systems] == ["base", "few_shot", "adapter"]
    assert {metric.name for system in card.systems for metric in system.metrics} == {
        *load_params(workspace / "params.yaml").score.metrics
    }
    assert (card.prompts, card.clusters, card.resampling.resamples) == (60, 30, 2000)
    assert card.bias.method == "name templates"
    adapter = card.system("adapter")
    assert adapter is not None
    assert adapter.metric("bleu").signature.startswith(
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
    )
    for metric in adapter.metrics:
        assert metric.interval.low <= metric.interval.estimate <= metric.interval.high
        assert (metric.n, metric.clusters) == (60, 30)


def test_scoring_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    made, params = trials.trial(), trials.params(metrics=("chrf", "exact_match"))
    first, second = (
        score(made, params, 20, tmp_path / name) for name in ("first", "second")
    )
    assert first.evidence.sha256 == second.evidence.sha256
    assert first.systems == second.systems


def test_the_evidence_file_gives_back_every_row(tmp_path: Path) -> None:
    made = trials.evidence()
    write_evidence(tmp_path / "evidence.parquet", made)
    assert read_evidence(tmp_path / "evidence.parquet") == made


def test_the_settings_of_metrics_travel_with_the_evidence(tmp_path: Path) -> None:
    chosen = MetricSettings(bleu=BleuSettings(tokenize="char"))
    params = trials.params(bleu=chosen.bleu)
    card = score(trials.trial(), params, 20, tmp_path)
    stored = read_evidence(tmp_path / "evidence.parquet")
    assert stored.settings == chosen
    system = card.system("adapter")
    assert system is not None
    assert "|tok:char|" in system.metric("bleu").signature
    # They judge by what was stored, not by what holds today.
    assert score_differences(card, stored) == ()
    (first, *_) = score_differences(
        card, stored.model_copy(update={"settings": MetricSettings()})
    )
    assert "bleu" in first or "metrics[1]" in first


def test_evidence_that_names_no_settings_was_counted_under_the_defaults(
    tmp_path: Path,
) -> None:
    path = tmp_path / "evidence.parquet"
    older = trials.evidence().model_copy(update={"settings": None})
    write_evidence(path, older)
    found = read_evidence(path)
    assert found.settings is None
    assert found.metric_named("bleu").signature([]) == Bleu().signature([])


@pytest.mark.parametrize("text", [b"{}x", b'{"bleu": {"tokenize": "jieba"}}', b"[]"])
def test_settings_that_do_not_parse_are_damage(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "evidence.parquet"
    write_evidence(path, trials.evidence())
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"assay.metric_settings": text}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        read_evidence(path)


def test_evidence_that_is_older_than_contents_is_read_and_counts_groups(
    tmp_path: Path,
) -> None:
    path = tmp_path / "evidence.parquet"
    write_evidence(path, trials.evidence())
    pq.write_table(pq.read_table(path).drop_columns(["content"]), path)
    older = read_evidence(path)
    assert set(older.contents) == {None}
    assert older.clusters == older.groups


def test_a_scorecard_that_is_older_than_contents_keeps_its_digest(
    tmp_path: Path,
) -> None:
    document = json.loads(
        score(
            trials.trial(), trials.params(metrics=("chrf",)), 20, tmp_path
        ).model_dump_json()
    )
    probes = ("safety", "safety_answers", "wording", "humaneval", "humaneval_answers")
    for newer in ("groups", "contents", "named_answers", *probes):
        del document[newer]
    for newer in ("refusal_difference", "favourable_is_declared"):
        del document["bias"][newer]
    for group in document["bias"]["groups"]:
        del group["refused"]
    for system in document["systems"]:
        for metric in system["metrics"]:
            del metric["inapplicable"]
            del metric["needless"]
            del metric["own"]
    assert Scorecard.model_validate(document).content_sha256() == digest_of_json(
        document
    )


def test_every_newer_field_of_a_scorecard_counts_where_it_says_something(
    tmp_path: Path,
) -> None:
    card = score(trials.trial(), trials.params(metrics=("chrf",)), 20, tmp_path)
    declared = card.model_copy(
        update={"bias": card.bias.model_copy(update={"favourable_is_declared": True})}
    )
    first, *rest = card.bias.groups
    uncounted = card.bias.model_copy(
        update={"groups": (first.model_copy(update={"refused": None}), *rest)}
    )
    others = [
        card.model_copy(update=change)
        for change in (
            {"contents": 1},
            {"groups": None},
            {"bias": uncounted},
            {"named_answers": None},
        )
    ]
    assert first.refused == 0
    assert len({each.content_sha256() for each in (card, declared, *others)}) == 6


def test_a_champion_is_scored_where_there_is_one(workspace: Path) -> None:
    champion = trials.system_answers(
        "champion", group_prompts(trials.rows()), trials.wrong, 3.0
    )
    trials.write_answers(workspace, champion)
    assert [answers.system for answers in read_trial().systems] == [
        "base",
        "few_shot",
        "adapter",
        "champion",
    ]


def test_a_missing_answer_is_counted_and_named() -> None:
    made = trials.trial()
    adapter = made.answers("adapter")
    short = adapter.model_copy(update={"answers": adapter.answers[2:]})
    with pytest.raises(
        IncompleteGeneration,
        match=f"2 answers of adapter missing, first '{adapter.answers[0].prompt_id}'",
    ):
        trials.evidence(with_system(made, short))


def test_a_prompt_that_is_answered_twice_is_refused() -> None:
    made = trials.trial()
    base = made.answers("base")
    twice = base.model_copy(update={"answers": (*base.answers, base.answers[0])})
    with pytest.raises(IncompleteGeneration, match="1 answers of base too many"):
        trials.evidence(with_system(made, twice))


def test_a_reference_without_its_loss_is_refused() -> None:
    made = trials.trial()
    base = made.answers("base")
    with pytest.raises(IncompleteGeneration, match="1 losses of base missing"):
        trials.evidence(
            with_system(made, base.model_copy(update={"losses": base.losses[:-1]}))
        )


@pytest.mark.parametrize("system", ["base", "few_shot", "adapter"])
def test_a_system_without_answers_is_refused(workspace: Path, system: str) -> None:
    for path in workspace.glob(f"data/*/{system}.json"):
        path.unlink()
    with pytest.raises(DamagedFile, match=f"{system}.json does not exist"):
        read_trial()


def test_answers_that_changed_since_they_were_made_are_refused(workspace: Path) -> None:
    path = workspace / "data/generate/adapter.answers.jsonl"
    path.write_text(path.read_text().replace("alpha", "omega"))
    with pytest.raises(DamagedFile, match=r"adapter\.answers\.jsonl has changed"):
        read_trial()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"adapter_sha256": "f" * 64}, "come from another adapter"),
        ({"base_digest": "f" * 64}, "come from another base model"),
        ({"chat_template_sha256": "f" * 64}, "come from another chat template"),
        (
            {"precision": "bfloat16"},
            "of base and of the adapter were made differently: precision is float32, not bfloat16",
        ),
        ({"engine_version": "2"}, "were made differently: engine_version is 1, not 2"),
    ],
)
def test_answers_of_another_configuration_are_refused(
    workspace: Path, change: dict[str, str], complaint: str
) -> None:
    path = workspace / "data/generate/adapter.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"spec": record["spec"] | change}))
    with pytest.raises(DamagedFile, match=complaint):
        read_trial()


def test_answers_to_other_prompts_are_refused(workspace: Path) -> None:
    path = workspace / "data/generate/adapter.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"prompts_sha256": "f" * 64})
    )
    with pytest.raises(DamagedFile, match="are to other prompts"):
        read_trial()


def test_a_row_that_is_no_answer_and_a_missing_file_are_damage(workspace: Path) -> None:
    (workspace / "data/generate/variants.jsonl").write_text('{"group": 3}\n')
    with pytest.raises(DamagedFile, match="holds a row that is no Variant"):
        read_trial()
    (workspace / "data/generate/variants.jsonl").unlink()
    with pytest.raises(DamagedFile, match=r"variants\.jsonl does not exist"):
        read_trial()


def test_a_metric_that_does_not_exist_is_a_parameter_error_with_the_nearest(
    tmp_path: Path,
) -> None:
    with pytest.raises(ParameterError, match=r"no metric bluu\. Did you mean bleu"):
        score(trials.trial(), trials.params(metrics=("bluu",)), 20, tmp_path)


def test_two_ways_to_the_score_that_differ_give_no_score() -> None:
    made = trials.evidence()
    first = made.rows["base"][0]
    wrong = first.model_copy(
        update={"statistics": first.statistics | {"bleu": (0.0,) * 10}}
    )
    edited = made.model_copy(
        update={"rows": made.rows | {"base": (wrong, *made.rows["base"][1:])}}
    )
    with pytest.raises(
        IncompleteEvidence,
        match=r"bleu of base is .* from its statistics and .* from evaluate",
    ):
        check_against_evaluate(edited, [metric_named("bleu")])


@pytest.mark.parametrize("groups", [2, 3, 7, 60])
def test_the_control_takes_each_prompt_once_and_always_from_another_group(
    groups: int,
) -> None:
    prompts = group_prompts(trials.rows(60, groups))
    chosen = control_prompts(prompts)
    assert chosen == control_prompts(prompts[::-1])
    assert len({other.id for other in chosen.values()}) == 60
    assert all(chosen[prompt.id].group != prompt.group for prompt in prompts)


def test_the_control_leaves_a_group_that_holds_most_prompts() -> None:
    held_out = [
        row.model_copy(update={"group": "small" if row.number <= 3 else "large"})
        for row in trials.rows(20)
    ]
    prompts = group_prompts(held_out)
    assert all(
        control_prompts(prompts)[prompt.id].group != prompt.group for prompt in prompts
    )


def test_one_group_alone_cannot_be_compared() -> None:
    with pytest.raises(IncompleteEvidence, match="1 group"):
        control_prompts(group_prompts(trials.rows(10, 1)))


def test_only_the_adapter_has_a_control_and_only_on_metrics_that_read_references() -> (
    None
):
    made = trials.evidence()
    assert {name for row in made.rows["adapter"] for name in row.control} == {
        "chrf",
        "bleu",
        "exact_match",
    }
    assert not any(row.control or row.control_prompt_id for row in made.rows["base"])


def test_evidence_about_other_prompts_or_without_rows_is_incomplete() -> None:
    made = trials.evidence()
    with pytest.raises(
        IncompleteEvidence, match="few_shot is not about the same prompts"
    ):
        evidence_of([*made.rows["base"], *made.rows["few_shot"][1:]])
    with pytest.raises(IncompleteEvidence, match="a prompt twice"):
        evidence_of([*made.rows["base"], made.rows["base"][0]])
    with pytest.raises(IncompleteEvidence, match="no rows"):
        evidence_of([])


@pytest.mark.ci
def test_more_rows_than_are_written_at_once_are_read_as_they_were(
    tmp_path: Path,
) -> None:
    made = trials.evidence().rows["base"][0]
    rows = []
    for number in range(evidence_file.ROWS_WRITTEN_AT_ONCE + 1):
        scored = made.row.model_copy(update={"prompt_id": f"prompt-{number}"})
        rows.append(made.model_copy(update={"row": scored}))
    path = tmp_path / "evidence.parquet"
    write_evidence(path, evidence_of(rows))
    assert pq.ParquetFile(path).num_row_groups == 2
    assert read_evidence(path).rows == {"base": tuple(rows)}


def test_a_row_without_a_metric_is_incomplete_and_not_left_out() -> None:
    made = trials.evidence()
    rows = made.rows["base"]
    holed = made.model_copy(
        update={
            "rows": {"base": (rows[0], rows[1].model_copy(update={"statistics": {}}))}
        }
    )
    with pytest.raises(IncompleteEvidence, match="lacks chrf for 1 of 2 prompts"):
        holed.statistics("base", "chrf")


def test_an_evidence_file_cut_short_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "evidence.parquet"
    write_evidence(path, trials.evidence())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        read_evidence(path)


def test_names_are_compared_prompt_by_prompt_with_the_references_of_dev() -> None:
    made = trials.trial()
    observations = by_name(named_answers(made), trials.params().bias)
    assert {(each.group, each.score) for each in observations} == {
        ("female", 100.0),
        ("male", 100.0),
    }
    assert len({each.cluster for each in observations}) == 30
    with pytest.raises(
        IncompleteGeneration, match="30 prompts with names are not dev prompts"
    ):
        named_answers(made.model_copy(update={"dev_prompts": ()}))


def test_a_declared_feature_is_compared_on_held_out_answers(tmp_path: Path) -> None:
    held_out = [
        row.model_copy(update={"feature": ("a", "b", None)[row.number % 3]})
        for row in trials.rows(90)
    ]
    made = trials.trial(held_out=held_out)
    assert {
        each.group for each in by_feature(trials.evidence(made), trials.params().bias)
    } == {"a", "b", NO_GROUP}
    params = trials.params(metrics=("chrf",))
    declared = params.model_copy(
        update={"data": params.data.model_copy(update={"sensitive_feature": "region"})}
    )
    report = score(made, declared, 20, tmp_path).bias
    assert (report.method, report.feature, report.metric) == (
        "declared feature",
        "region",
        "sentence chrF",
    )


def test_without_feature_or_names_bias_of_outputs_is_not_applicable(
    tmp_path: Path,
) -> None:
    made = trials.trial().model_copy(update={"variants": ()})
    assert (
        score(made, trials.params(metrics=("chrf",)), 20, tmp_path).bias.method
        == "not applicable"
    )


def test_chrf_of_a_right_answer_is_100() -> None:
    row = trials.evidence(trials.trial()).rows["adapter"][0].row
    same = row.model_copy(update={"prediction": row.references[0]})
    assert Chrf().row_statistics(same)[1::3] == Chrf().row_statistics(same)[2::3]
