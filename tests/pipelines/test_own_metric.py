"""A metric in a file of the project scores as a built-in one does."""

import hashlib
from contextlib import chdir
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.errors import DamagedFile, ParameterError
from pipelines.gates.comparisons import compare, score_differences
from pipelines.gates.policy import load_policy
from pipelines.metrics import ALL_METRICS, METRICS, described_metric
from pipelines.metrics.own_file import read_metric_file
from pipelines.scoring.evidence_file import read_evidence, write_evidence
from pipelines.stages.screen import screen
from pipelines.values.evidence import MetricScore, Scorecard, System
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.own_metric import (
    BUILT_IN,
    own_metric_files,
    own_metric_path,
)
from pipelines.values.verdict import Finalist
from tests.support import own_metrics, trials
from tests.support.own_metrics import MEMBERS, NAME


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    own_metrics.write_metric(root)
    return root


@pytest.fixture(scope="module")
def into(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of a trial in which the adapter is right."""
    folder = tmp_path_factory.mktemp("scored")
    own_metrics.scored(project, folder).write(folder / "scorecard.json")
    return folder


def metric_of(card: Scorecard, system: System) -> MetricScore:
    found = card.system(system)
    assert found is not None
    return found.metric(NAME)


def test_an_own_metric_is_scored_with_its_interval_unit_and_digest(
    project: Path, into: Path
) -> None:
    card = Scorecard.read(into / "scorecard.json")
    adapter, base = metric_of(card, "adapter"), metric_of(card, "base")
    assert adapter.interval.high < base.interval.low
    assert (adapter.unit, adapter.higher_is_better) == ("share of words", False)
    content = (project / f"metrics/{NAME}.py").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert adapter.signature == f"file:metrics/{NAME}.py|sha256:{sha256}"
    system = card.system("adapter")
    assert system is not None
    assert [metric.name for metric in system.metrics] == ["chrf", NAME]


def test_a_scorecard_follows_from_its_evidence_without_the_file(
    into: Path, tmp_path: Path
) -> None:
    card = Scorecard.read(into / "scorecard.json")
    # A folder without any metrics.
    with chdir(tmp_path):
        evidence = read_evidence(into / "evidence.parquet")
        assert score_differences(card, evidence) == ()
    (record,) = evidence.own_metrics
    turned = record.model_copy(update={"higher_is_better": True})
    forged = evidence.model_copy(update={"own_metrics": (turned,)})
    assert score_differences(card, forged) != ()


def test_an_own_metric_decides_as_the_primary_one(into: Path, tmp_path: Path) -> None:
    card = Scorecard.read(into / "scorecard.json")
    evidence = read_evidence(into / "evidence.parquet")
    policy = own_metrics.policy(tmp_path)
    verdict = screen(card, compare(evidence, policy.gates.screen), policy)
    assert isinstance(verdict, Finalist)
    assert f"{NAME} superior to base" in {finding.rule for finding in verdict.findings}


def test_an_adapter_that_is_worse_by_an_own_metric_is_rejected(
    project: Path, tmp_path: Path
) -> None:
    worse = trials.trial(
        systems={
            "base": (trials.right, 4.0),
            "few_shot": (trials.right, 3.0),
            "adapter": (trials.wrong, 2.0),
        }
    )
    card = own_metrics.scored(project, tmp_path, worse)
    evidence = read_evidence(tmp_path / "evidence.parquet")
    policy = own_metrics.policy(tmp_path)
    verdict = screen(card, compare(evidence, policy.gates.screen), policy)
    found = {finding.rule: finding.outcome for finding in verdict.findings}
    assert found[f"{NAME} superior to base"] == "rejected"


def test_an_own_metric_may_be_the_control_where_it_compares_answers(
    into: Path, project: Path, tmp_path: Path
) -> None:
    policy = own_metrics.policy(tmp_path, control=NAME)
    card = Scorecard.read(into / "scorecard.json")
    evidence = read_evidence(into / "evidence.parquet")
    verdict = screen(card, compare(evidence, policy.gates.screen), policy)
    assert isinstance(verdict, Finalist)
    members = MEMBERS.replace("compares_answers = True", "compares_answers = False")
    own_metrics.write_metric(tmp_path, own_metrics.source(members))
    card = own_metrics.scored(tmp_path, tmp_path)
    evidence = read_evidence(tmp_path / "evidence.parquet")
    verdict = screen(card, compare(evidence, policy.gates.screen), policy)
    found = {finding.rule: finding.outcome for finding in verdict.findings}
    assert found["control"] == "rejected"


def test_an_own_metric_that_was_not_scored_is_no_pass(
    into: Path, tmp_path: Path
) -> None:
    card = Scorecard.read(into / "scorecard.json")
    systems = []
    for system in card.systems:
        others = tuple(each for each in system.metrics if each.name != NAME)
        systems.append(system.model_copy(update={"metrics": others}))
    without = card.model_copy(update={"systems": tuple(systems)})
    policy = own_metrics.policy(tmp_path)
    evidence = read_evidence(into / "evidence.parquet")
    compared = compare(evidence, policy.gates.screen)
    left = [each for each in compared if each.metric != NAME]
    verdict = screen(without, tuple(left), policy)
    found = {finding.rule: finding.outcome for finding in verdict.findings}
    assert found[f"{NAME} superior to base"] != "passed"
    assert not isinstance(verdict, Finalist)


def test_a_scale_that_the_policy_does_not_share_is_rejected(
    into: Path, tmp_path: Path
) -> None:
    card = Scorecard.read(into / "scorecard.json")
    policy = own_metrics.policy(tmp_path, own_metrics={NAME: 2.0})
    evidence = read_evidence(into / "evidence.parquet")
    verdict = screen(card, compare(evidence, policy.gates.screen), policy)
    texts = [each.text for each in verdict.findings if each.outcome == "rejected"]
    (text,) = texts
    fact = f"{NAME} has a scale of 1 in metrics/{NAME}.py, and the policy goes by 2. "
    assert text == f"{fact}Write the same in both"


def test_where_both_sides_are_at_the_worst_an_own_metric_is_no_evidence(
    project: Path, tmp_path: Path
) -> None:
    def nothing(prompt: object, dice: object) -> str:
        return ""

    mute = trials.trial(
        systems={
            "base": (nothing, 4.0),
            "few_shot": (nothing, 3.0),
            "adapter": (nothing, 2.0),
        }
    )
    card = own_metrics.scored(project, tmp_path, mute)
    evidence = read_evidence(tmp_path / "evidence.parquet")
    policy = own_metrics.policy(tmp_path)
    verdict = screen(card, compare(evidence, policy.gates.screen), policy)
    found = {finding.rule: finding for finding in verdict.findings}
    judged = found[f"{NAME} superior to base"]
    assert judged.outcome == "undecided"
    assert f"{NAME} is 1 for the adapter and for base alike" in judged.text


def test_the_method_and_where_it_does_not_apply_are_what_the_file_says(
    tmp_path: Path,
) -> None:
    more = """
    def signature(self, rows):
        return "words:split"

    def inapplicable(self, references):
        return f"{len(references)} prompts are too few. Bring more"

    def corpus(self, sums):
        return sums[..., 0] / sums[..., 1]
"""
    own_metrics.write_metric(tmp_path, own_metrics.source() + more)
    adapter = metric_of(own_metrics.scored(tmp_path, tmp_path), "adapter")
    assert adapter.signature.endswith("|words:split")
    assert adapter.inapplicable == "60 prompts are too few. Bring more"
    # Before anything is scored, as a dry run asks.
    told = described_metric(NAME, MetricSettings(), tmp_path, [("a",)])
    assert told.inapplicable([("a",)]) == "1 prompts are too few. Bring more"


WORDS_F1 = """
class WordError:
    name = "word_error"
    unit = "0 to 1"
    higher_is_better = True
    scale = 1.0
    worst = 0.0
    compares_answers = True
    statistics = ("both", "said", "wanted")
    formula = "2 * both / max(said + wanted, 1)"

    def row_statistics(self, row):
        said, wanted = set(row.prediction.split()), set(row.references[0].split())
        return len(said & wanted), len(said), len(wanted)
"""


@pytest.mark.ci
def test_a_formula_over_sums_is_scored_and_judged_without_its_file(
    tmp_path: Path,
) -> None:
    own_metrics.write_metric(tmp_path, WORDS_F1)
    card = own_metrics.scored(tmp_path, tmp_path)
    adapter, base = metric_of(card, "adapter"), metric_of(card, "base")
    assert adapter.interval.low > base.interval.high
    evidence = read_evidence(tmp_path / "evidence.parquet")
    with chdir(tmp_path / "metrics"):
        assert score_differences(card, evidence) == ()
        policy = own_metrics.policy(tmp_path)
        verdict = screen(card, compare(evidence, policy.gates.screen), policy)
    assert isinstance(verdict, Finalist)
    # Over all rows together, which is not the mean of the rows' own.
    said, wanted, both = 0, 0, 0
    for each in evidence.rows["base"]:
        words = set(each.row.prediction.split())
        expected = set(each.row.references[0].split())
        said, wanted = said + len(words), wanted + len(expected)
        both += len(words & expected)
    assert base.interval.estimate == pytest.approx(2 * both / (said + wanted))
    # Another formula is another score: evidence that names one is found out.
    (record,) = evidence.own_metrics
    edited = record.model_copy(update={"formula": "both / max(said, 1)"})
    forged = evidence.model_copy(update={"own_metrics": (edited,)})
    assert score_differences(card, forged) != ()


@pytest.mark.parametrize("forged", ["twice", "built in", "no digest"])
def test_a_record_that_fits_no_own_metric_is_damage(
    into: Path, tmp_path: Path, forged: str
) -> None:
    table = pq.read_table(into / "evidence.parquet")
    record = table.schema.metadata[b"assay.own_metrics"]
    edits = {
        "twice": b"[" + record[1:-1] + b"," + record[1:-1] + b"]",
        "built in": record.replace(NAME.encode(), b"chrf"),
        "no digest": record.replace(b'"sha256":"', b'"sha256":"x'),
    }
    metadata = {**table.schema.metadata, b"assay.own_metrics": edits[forged]}
    path = tmp_path / "evidence.parquet"
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        read_evidence(path)


def test_statistics_that_are_no_two_numbers_are_damage(
    into: Path, tmp_path: Path
) -> None:
    evidence = read_evidence(into / "evidence.parquet")
    rows = [
        row.model_copy(update={"statistics": {**row.statistics, NAME: (0.0,)}})
        for row in evidence.rows["base"]
    ]
    forged = {**evidence.rows, "base": tuple(rows)}
    path = tmp_path / "evidence.parquet"
    write_evidence(path, evidence.model_copy(update={"rows": forged}))
    with pytest.raises(DamagedFile, match="not a whole evidence file"):
        read_evidence(path)


# Names.


def test_the_names_of_the_built_in_metrics_are_those_of_metrics() -> None:
    assert tuple(metric.name for metric in ALL_METRICS) == BUILT_IN


def test_the_files_of_a_run_are_those_that_its_parameters_name() -> None:
    params = trials.params(metrics=("chrf", "slot_error", "bleu", "tone", "tone"))
    assert own_metric_files(params) == [
        Path("metrics/slot_error.py"),
        Path("metrics/tone.py"),
    ]


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "/etc/passwd", "Slot", "1a", "", "a.b", "a b", "a\n", "é", "_a"],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="is no name of a metric"):
        own_metric_path(name)
    with pytest.raises(ParameterError, match="There is no metric"):
        described_metric(name, MetricSettings(), tmp_path)


def test_a_file_cannot_replace_a_built_in_metric(tmp_path: Path) -> None:
    own_metrics.write_metric(tmp_path, name="chrf")
    with pytest.raises(ParameterError, match="chrf is a metric of Assay"):
        read_metric_file("chrf", tmp_path)
    assert described_metric("chrf", MetricSettings(), tmp_path) is METRICS[0]


def test_an_unknown_metric_is_told_where_an_own_one_would_be(tmp_path: Path) -> None:
    with pytest.raises(
        ParameterError,
        match=r"There are: .*unit_tests. Your own would be metrics/zz.py",
    ):
        described_metric("zz", MetricSettings(), tmp_path)
    with pytest.raises(
        ParameterError, match=r"Did you mean chrf\? Your own would be metrics/chrff.py"
    ):
        described_metric("chrff", MetricSettings(), tmp_path)


# The policy.


@pytest.mark.parametrize(
    ("screen_limits", "sentence"),
    [
        (
            {"own_metrics": {}},
            f"There is no metric {NAME}.*stands in screen.own_metrics",
        ),
        (
            {"primary": "../x/ö"},
            "There is no metric ../x/ö. There are: .*unit_tests. Fix it",
        ),
        ({"primary": "word_eror"}, f"no metric word_eror. Did you mean {NAME}"),
        ({"own_metrics": {NAME: 0}}, "own_metrics"),
        ({"own_metrics": {NAME: float("nan")}}, "own_metrics"),
        ({"own_metrics": {NAME: True}}, "yes or a no"),
        ({"own_metrics": {NAME: 1.0, "bleu": 1.0}}, "bleu, which is a metric of Assay"),
        ({"own_metrics": {NAME: 1.0, "../x": 1.0}}, "own_metrics"),
        ({"smallest_effect": 0.2}, "smallest_effect is 0.2, and the ceiling is 0.1"),
        (
            {
                "primary": "chrf",
                "smallest_effect": 2.0,
                "guardrails": [{"metric": NAME, "margin": 0.21}],
            },
            f"margin of {NAME} is 0.21, and the ceiling is 0.2",
        ),
    ],
)
def test_a_policy_that_asks_an_own_metric_for_too_little_does_not_load(
    tmp_path: Path, screen_limits: dict[str, object], sentence: str
) -> None:
    path = tmp_path / "policy.yaml"
    text = own_metrics.policy_text(**screen_limits)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError, match=sentence):
        load_policy(path)
