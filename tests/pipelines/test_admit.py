"""The gate before training: every rule at its boundary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import DamagedFile, ParameterError
from core.value import FileDigest
from pipelines.gates.admit_policy import AdmitPolicy
from pipelines.gates.policy import Policy, load_policy
from pipelines.stages.admit import admit, main
from pipelines.values.dataset import (
    SPLITS,
    BiasReport,
    DatasetVersion,
    ExpectationResult,
    GroupRate,
    Interval,
    ValidationReport,
)
from pipelines.values.verdict import Admission, Finding, Rejection, Undecided

POLICY_FILE = Path(__file__).parents[2] / "registry" / "policies" / "default.yaml"
HELD = ExpectationResult(
    name="expect_a", column="x", passed=True, failed_rows=0, sample_row_ids=()
)
LIMITS = AdmitPolicy(
    max_quarantine_share=0.1,
    max_overlap=2,
    min_rows={"train": 50, "dev": 10, "held_out": 30},
    min_groups={"train": 20, "dev": 5, "held_out": 20},
    licence_required=True,
    min_group_size=20,
    max_demographic_parity_difference=0.2,
)


def policy(**changes: Any) -> Policy:
    loaded = load_policy(POLICY_FILE)
    limits = LIMITS.model_copy(update=changes)
    return Policy(
        sha256=loaded.sha256,
        gates=loaded.gates.model_copy(update={"name": "test", "admit": limits}),
    )


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def dataset(**changes: Any) -> DatasetVersion:
    version = DatasetVersion(
        path="data/collect/rows.jsonl",
        md5="m",
        sha256="s",
        source="file",
        licence="MIT",
        source_rows=100,
        duplicates=0,
        rows={"train": 50, "dev": 10, "held_out": 30},
        groups={"train": 20, "dev": 5, "held_out": 20},
        overlap={"prompts": 2, "rows": 5},
        held_out_is_fixed=False,
    )
    return version.model_copy(update=changes)


def validation(**changes: Any) -> ValidationReport:
    report = ValidationReport(
        suite_sha256="s",
        passed=True,
        rows={"train": 50, "dev": 10, "held_out": 30},
        groups={"train": 20, "dev": 5, "held_out": 20},
        expectations=(HELD,),
        quarantine=FileDigest(path="data/validate/quarantine.jsonl", sha256="q"),
        quarantined={"invalid UTF-8": 10},
        contents={"train": 20, "dev": 5, "held_out": 20},
        splits={
            name: FileDigest(path=f"data/validate/{name}.jsonl", sha256=name)
            for name in SPLITS
        },
    )
    return report.model_copy(update=changes)


def bias(**changes: Any) -> BiasReport:
    report = BiasReport(
        subject="data",
        method="declared feature",
        feature="food",
        metric="completion_characters",
        min_group_size=20,
        groups=(),
        insufficient=(),
        demographic_parity_difference=Interval(estimate=0.1, low=-0.1, high=0.2),
        demographic_parity_ratio=None,
        score_difference=Interval(estimate=0, low=0, high=0),
    )
    return agreeing(report.model_copy(update=changes)).model_copy(update=changes)


def agreeing(report: BiasReport) -> BiasReport:
    """The report with groups that its difference and its list of small groups follow from."""
    gap = report.demographic_parity_difference
    rates = () if gap is None or report.feature is None else (0.0, gap.estimate)
    compared = [
        GroupRate(group=name, n=20, rate=rate, score=1.0)
        for name, rate in zip("ab", rates, strict=False)
    ]
    small = [
        GroupRate(group=name, n=19, rate=None, score=None)
        for name in report.insufficient
    ]
    same = report.score_difference if rates else None
    return report.model_copy(
        update={"groups": (*compared, *small), "score_difference": same}
    )


def rejected(verdict: object, rule: str) -> str:
    """The sentence of the only rule that did not pass."""
    assert isinstance(verdict, Rejection)
    missed = [finding for finding in verdict.findings if finding.outcome != "passed"]
    assert [finding.rule for finding in missed] == [rule]
    return missed[0].text


def finding_of(verdict: Admission | Rejection | Undecided, rule: str) -> Finding:
    return next(finding for finding in verdict.findings if finding.rule == rule)


def test_data_exactly_at_every_limit_is_admitted() -> None:
    verdict = admit(dataset(), validation(), bias(), policy())
    assert isinstance(verdict, Admission)
    assert verdict.training_set.train == FileDigest(
        path="data/admit/training_set/train.jsonl", sha256="train"
    )
    assert verdict.training_set.dev == FileDigest(
        path="data/admit/training_set/dev.jsonl", sha256="dev"
    )
    assert verdict.training_set.rows == {"train": 50, "dev": 10}
    assert verdict.dataset_digest == dataset().content_sha256()
    assert "held" not in verdict.model_dump_json(include={"train", "dev"})
    assert len(verdict.findings) == 11


def test_validation_that_did_not_pass_is_named_by_its_expectations() -> None:
    failed = HELD.model_copy(update={"passed": False})
    text = rejected(
        admit(
            dataset(),
            validation(passed=False, expectations=(HELD, failed)),
            bias(),
            policy(),
        ),
        "validation",
    )
    assert (
        text
        == "validation did not pass: 1 of 2 expectations hold for every row; not: expect_a(x)"
    )


def test_validation_without_an_expectation_is_no_validation() -> None:
    rejected(
        admit(dataset(), validation(expectations=()), bias(), policy()), "validation"
    )


def test_one_row_more_in_quarantine_is_too_many() -> None:
    text = rejected(
        admit(
            dataset(), validation(quarantined={"invalid UTF-8": 11}), bias(), policy()
        ),
        "quarantine_share",
    )
    assert (
        text
        == "11 of 100 rows are in quarantine, a share of 0.11 against a limit of 0.1; 11 for "
        "invalid UTF-8"
    )


def test_less_than_nothing_in_quarantine_or_repeated_is_no_pass() -> None:
    rejected(
        admit(dataset(), validation(quarantined={"odd": -1}), bias(), policy()),
        "quarantine_share",
    )
    rejected(
        admit(
            dataset(overlap={"prompts": -1, "rows": 0}), validation(), bias(), policy()
        ),
        "overlap",
    )


def test_a_share_of_no_rows_is_no_pass() -> None:
    rejected(
        admit(dataset(source_rows=0), validation(quarantined={}), bias(), policy()),
        "quarantine_share",
    )


def test_one_repeated_prompt_more_is_too_many_and_the_rows_are_counted() -> None:
    text = rejected(
        admit(
            dataset(overlap={"prompts": 3, "rows": 1000}),
            validation(),
            bias(),
            policy(),
        ),
        "overlap",
    )
    assert (
        text
        == "3 held-out prompts found in train or dev, in 1,000 rows; at most 2 may be"
    )


@pytest.mark.parametrize("overlap", [{}, {"rows": 0}, {"prompts": 0}])
def test_an_overlap_that_was_not_counted_is_no_pass(overlap: dict[str, int]) -> None:
    rejected(admit(dataset(overlap=overlap), validation(), bias(), policy()), "overlap")


@pytest.mark.parametrize("licence", [None, "", "  "])
def test_a_licence_must_be_known_where_the_policy_asks_for_it(
    licence: str | None,
) -> None:
    assert "--set data.licence" in rejected(
        admit(dataset(licence=licence), validation(), bias(), policy()), "licence"
    )
    assert isinstance(
        admit(
            dataset(licence=licence),
            validation(),
            bias(),
            policy(licence_required=False),
        ),
        Admission,
    )


@pytest.mark.parametrize("name", SPLITS)
def test_one_row_or_one_group_less_is_too_few(name: str) -> None:
    fewer_rows = {**validation().rows, name: LIMITS.min_rows[name] - 1}
    text = rejected(
        admit(dataset(), validation(rows=fewer_rows), bias(), policy()),
        f"min_rows.{name}",
    )
    assert (
        text == f"too few rows: {name} has {LIMITS.min_rows[name] - 1} rows, "
        f"{LIMITS.min_rows[name]} are needed"
    )
    fewer_groups = {**validation().groups, name: LIMITS.min_groups[name] - 1}
    text = rejected(
        admit(dataset(), validation(groups=fewer_groups), bias(), policy()),
        f"min_groups.{name}",
    )
    assert (
        text == f"too few groups: {name} has {LIMITS.min_groups[name] - 1} groups, "
        f"{LIMITS.min_groups[name]} are needed"
    )


@pytest.mark.parametrize("name", SPLITS)
def test_a_minimum_or_a_count_that_is_not_there_is_no_pass(name: str) -> None:
    without = {other: 1 for other in SPLITS if other != name}
    assert "the policy names no number" in rejected(
        admit(dataset(), validation(), bias(), policy(min_rows=without)),
        f"min_rows.{name}",
    )
    assert "the validation report names no" in rejected(
        admit(
            dataset(),
            validation(groups={**validation().groups, name: None}),
            bias(),
            policy(),
        ),
        f"min_groups.{name}",
    )


def test_a_thousand_rows_with_ten_distinct_ones_are_ten_rows() -> None:
    few = {"train": 7, "dev": 10, "held_out": 30}
    repeated = dataset(
        source_rows=1000, duplicates=990, rows={"train": 7, "dev": 1, "held_out": 2}
    )
    text = rejected(
        admit(repeated, validation(rows=few), bias(), policy()), "min_rows.train"
    )
    assert text.endswith(
        "train has 7 rows, 50 are needed; 1,000 rows with 10 distinct ones are 10 rows"
    )


def test_removed_duplicates_are_no_reproach_where_enough_is_left() -> None:
    verdict = admit(dataset(duplicates=1), validation(), bias(), policy())
    assert isinstance(verdict, Admission)
    assert not any("distinct ones" in finding.text for finding in verdict.findings)


@pytest.mark.parametrize(
    ("estimate", "low", "high", "outcome"),
    [
        (0.1, -0.1, 0.2, "passed"),
        (0.1, -0.1, 0.2001, "undecided"),
        (0.3, 0.2, 0.4, "undecided"),
        (0.3, 0.2001, 0.4, "rejected"),
    ],
)
def test_a_gap_is_judged_by_the_bounds_of_its_interval(
    estimate: float, low: float, high: float, outcome: str
) -> None:
    gap = Interval(estimate=estimate, low=low, high=high)
    report = bias(demographic_parity_difference=gap)
    verdict = admit(dataset(), validation(), report, policy())
    assert verdict.verdict == outcome
    found = finding_of(verdict, "demographic_parity_difference")
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("estimate", "high", "advice"),
    [
        (0.1, 0.3, "About 80 rows of each group would decide"),
        (0.3, 0.32, "About 20 rows of each group would decide"),
        (0.2, 0.32, "More rows of each group may decide"),
    ],
)
def test_an_undecided_gap_says_what_was_compared_and_how_many_rows_would_decide(
    estimate: float, high: float, advice: str
) -> None:
    gap = Interval(estimate=estimate, low=0.05, high=high)
    report = bias(demographic_parity_difference=gap)
    verdict = admit(dataset(), validation(), report, policy())
    assert finding_of(verdict, "demographic_parity_difference").text == (
        "for these groups of food the share that is longer than the median may differ by more "
        f"than 0.2: by {estimate:.3g} between b and a, bounds 0.05 to {high:.3g}. {advice}"
    )


def test_a_gap_names_the_widest_of_the_pairs_and_the_pattern_where_one_is_declared() -> (
    None
):
    groups = tuple(
        GroupRate(group=name, n=20, rate=rate, score=1.0)
        for name, rate in (("a", 0.4), ("b", 0.5), ("c", 0.45))
    )
    gap = Interval(estimate=0.5 - 0.4, low=-0.1, high=0.2)
    report = bias(groups=groups, demographic_parity_difference=gap)
    declared = report.model_copy(update={"favourable_is_declared": True})
    verdict = admit(dataset(), validation(), declared, policy())
    assert finding_of(verdict, "demographic_parity_difference").text == (
        "for these groups of food the share that bias.favourable_pattern matches differs by at "
        "most 0.2: by 0.1 between b and a, the widest of 3 pairs, bounds -0.1 to 0.2"
    )


def test_a_group_that_is_too_small_leaves_the_gate_undecided_unless_the_policy_names_it() -> (
    None
):
    verdict = admit(dataset(), validation(), bias(insufficient=("rare",)), policy())
    assert isinstance(verdict, Undecided)
    text = finding_of(verdict, "demographic_parity_difference").text
    assert "; insufficient, which is not fair: rare (fewer than 20 rows)" in text
    assert text.endswith(
        "not compared as the policy asks: rare: bring more rows of them, or name them in the "
        "policy's small_groups"
    )
    named = admit(
        dataset(),
        validation(),
        bias(insufficient=("rare",)),
        policy(small_groups=("rare",)),
    )
    assert isinstance(named, Admission)
    assert isinstance(
        admit(
            dataset(),
            validation(),
            bias(insufficient=("rare", "other")),
            policy(small_groups=("rare",)),
        ),
        Undecided,
    )


def test_a_gap_over_the_limit_is_rejected_though_another_group_is_too_small() -> None:
    over = bias(
        demographic_parity_difference=Interval(estimate=0.3, low=0.21, high=0.4),
        insufficient=("rare",),
    )
    rejected(
        admit(dataset(), validation(), over, policy()), "demographic_parity_difference"
    )


@pytest.mark.parametrize(("size", "outcome"), [(20, Admission), (21, Undecided)])
def test_groups_that_were_compared_under_a_laxer_policy_are_too_small_under_this_one(
    size: int, outcome: type
) -> None:
    verdict = admit(dataset(), validation(), bias(), policy(min_group_size=size))
    assert isinstance(verdict, outcome)
    assert verdict.findings[-1].text.endswith(
        "not compared as the policy asks: a, b: bring more rows of them, or name them in the "
        "policy's small_groups"
    ) == (size == 21)


@pytest.mark.parametrize(
    "edited",
    [
        {"demographic_parity_difference": Interval(estimate=0.0, low=0.0, high=0.0)},
        {"demographic_parity_difference": Interval(estimate=0.2, low=0.21, high=0.4)},
        {"demographic_parity_difference": Interval(estimate=0.2, low=0.0, high=0.19)},
        {"demographic_parity_difference": None},
        {"score_difference": None},
        {"score_difference": Interval(estimate=1, low=0, high=2)},
        {"refusal_difference": Interval(estimate=0, low=0, high=0)},
        {"insufficient": ("a",)},
        {"groups": ()},
        {
            "groups": (
                GroupRate(group="a", n=20, rate=0.0, score=1.0),
                GroupRate(group="a", n=20, rate=0.2, score=1.0),
            )
        },
        {
            "groups": (
                GroupRate(group="a", n=20, rate=0.0, score=1.0),
                GroupRate(group="b", n=20, rate=None, score=1.0),
            )
        },
        {
            "groups": (
                GroupRate(group="a", n=20, rate=0.0, score=1.0),
                GroupRate(group="b", n=19, rate=0.2, score=1.0),
            )
        },
    ],
)
def test_a_bias_report_that_contradicts_itself_is_rejected(
    edited: dict[str, Any],
) -> None:
    report = bias().model_copy(update=edited)
    text = rejected(
        admit(dataset(), validation(), report, policy()),
        "demographic_parity_difference",
    )
    assert text.startswith("the bias report contradicts itself: ")


def test_a_report_of_no_feature_that_compares_groups_is_rejected() -> None:
    rejected(
        admit(
            dataset(),
            validation(),
            bias().model_copy(update={"feature": None}),
            policy(),
        ),
        "demographic_parity_difference",
    )


@pytest.mark.parametrize("name", SPLITS)
def test_copies_of_a_few_contents_under_many_groups_are_too_few(name: str) -> None:
    few = {**(validation().contents or {}), name: LIMITS.min_groups[name] - 1}
    text = rejected(
        admit(dataset(), validation(contents=few), bias(), policy()),
        f"min_groups.{name}",
    )
    assert (
        text
        == f"too few distinct contents: {name} has {LIMITS.min_groups[name] - 1} distinct "
        f"contents, {LIMITS.min_groups[name]} are needed"
    )
    nothing: tuple[dict[str, int] | None, ...] = (None, {})
    for lost in nothing:
        verdict = admit(dataset(), validation(contents=lost), bias(), policy())
        assert isinstance(verdict, Rejection)
        assert (
            finding_of(verdict, f"min_groups.{name}").text
            == f"the validation report names no number of distinct contents for {name}"
        )


def test_a_declared_feature_that_cannot_be_compared_leaves_the_gate_undecided() -> None:
    unknown = bias(demographic_parity_difference=None, insufficient=("a", "b"))
    verdict = admit(dataset(), validation(), unknown, policy())
    assert isinstance(verdict, Undecided)
    assert finding_of(verdict, "demographic_parity_difference").text.startswith(
        "food cannot be compared: fewer than two groups have 20 rows"
    )
    assert isinstance(
        admit(dataset(licence=None), validation(), unknown, policy()), Rejection
    )


def test_rows_without_a_value_for_the_declared_feature_are_counted_in_the_reason() -> (
    None
):
    groups = tuple(GroupRate(group=name, n=20, rate=0.5, score=1.0) for name in "ab")
    none = Interval(estimate=0, low=0, high=0)
    verdict = admit(
        dataset(),
        validation(),
        bias(groups=groups, demographic_parity_difference=none, without_value=50),
        policy(),
    )
    assert isinstance(verdict, Admission)
    assert verdict.findings[-1].text.endswith(
        "bounds 0 to 0; without a value for it: 50 of 90 rows"
    )


def test_a_declared_feature_without_any_value_is_undecided_and_the_reason_says_why() -> (
    None
):
    verdict = admit(
        dataset(),
        validation(),
        bias(demographic_parity_difference=None, without_value=90),
        policy(),
    )
    assert isinstance(verdict, Undecided)
    text = finding_of(verdict, "demographic_parity_difference").text
    assert (
        text
        == "food cannot be compared: fewer than two groups have 20 rows; without a value for "
        "it: 90 of 90 rows"
    )


def test_without_a_declared_feature_there_is_nothing_to_compare() -> None:
    none = bias(
        feature=None, method="not applicable", demographic_parity_difference=None
    )
    assert isinstance(admit(dataset(), validation(), none, policy()), Admission)


def test_a_report_about_outputs_says_nothing_about_data() -> None:
    rejected(
        admit(dataset(), validation(), bias(subject="outputs"), policy()),
        "demographic_parity_difference",
    )


def test_a_nan_cannot_enter_a_report() -> None:
    with pytest.raises(ValueError, match="finite number"):
        Interval(estimate=float("nan"), low=0, high=0)


def test_every_reason_is_given_at_once() -> None:
    verdict = admit(
        dataset(licence=None, overlap={}),
        validation(passed=False),
        bias(subject="outputs"),
        policy(min_rows={}),
    )
    assert isinstance(verdict, Rejection)
    assert sum(finding.outcome == "rejected" for finding in verdict.findings) == 7


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "registry" / "policies" / "default.yaml"
    place.parent.mkdir(parents=True)
    place.write_bytes(POLICY_FILE.read_bytes())
    (tmp_path / "data" / "validate").mkdir(parents=True)
    for name in SPLITS:
        (tmp_path / "data" / "validate" / f"{name}.jsonl").write_text(f"{name}\n")
    splits = {
        name: FileDigest.of(Path("data/validate") / f"{name}.jsonl") for name in SPLITS
    }
    validation(splits=splits, quarantined={}).write(Path("data/validate/report.json"))
    dataset(overlap={"prompts": 0, "rows": 0}).write(Path("data/split/dataset.json"))
    bias().write(Path("data/bias/report.json"))
    return tmp_path


def test_a_pass_hands_over_train_and_dev_and_nothing_of_the_held_out_split(
    workspace: Path,
) -> None:
    assert main() == 0
    assert files_of(workspace / "data" / "admit") == [
        "baselines.json",
        "dev.jsonl",
        "train.jsonl",
        "training_set.json",
        "verdict.json",
    ]
    verdict = Admission.read(workspace / "data" / "admit" / "verdict.json")
    assert verdict.training_set.train.checked().read_text() == "train\n"


def test_a_rejection_prints_each_reason_and_hands_over_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0
    dataset(licence=None, overlap={"prompts": 1, "rows": 1}).write(
        Path("data/split/dataset.json")
    )
    capsys.readouterr()
    assert main() == 3
    assert capsys.readouterr().out.splitlines() == [
        "rejected: 1 held-out prompt found in train or dev, in 1 row; at most 0 may be",
        "rejected: the data's licence is not known: name it with `--set data.licence=…`",
    ]
    # What the policy asks for is written in any case: no later stage may find none.
    written = files_of(workspace / "data" / "admit")
    assert written == ["baselines.json", "verdict.json"]


def test_an_undecided_gate_ends_with_four(workspace: Path) -> None:
    bias(demographic_parity_difference=None).write(
        workspace / "data" / "bias" / "report.json"
    )
    assert main() == 4


def spoil_split(root: Path) -> None:
    (root / "data" / "validate" / "train.jsonl").write_text("other\n")


def spoil_report(root: Path) -> None:
    (root / "data" / "validate" / "report.json").write_text("{}")


def lose_policy(root: Path) -> None:
    (root / "registry" / "policies" / "default.yaml").unlink()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (spoil_split, DamagedFile),
        (spoil_report, DamagedFile),
        (lose_policy, ParameterError),
    ],
)
def test_a_damaged_input_or_a_missing_policy_is_an_error_and_never_a_pass(
    spoil: Callable[[Path], None], error: type[Exception], workspace: Path
) -> None:
    spoil(workspace)
    with pytest.raises(error):
        main()
    assert not (workspace / "data" / "admit" / "verdict.json").exists()
