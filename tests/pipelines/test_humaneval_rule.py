"""HumanEval as a rule of the policy: counted task by task, and undecided where no code was run."""

from collections.abc import Collection
from pathlib import Path

import pytest

from core.errors import IncompleteEvidence
from core.value import FileDigest
from flows.run.extra_metrics import extra_metrics
from pipelines.code_tasks.report import report_humaneval
from pipelines.code_tasks.scored import FILE, humaneval_of
from pipelines.gates.humaneval_check import HumanEvalPolicy, check_humaneval
from pipelines.gates.probes_check import check_probes
from pipelines.safety.report import report_safety
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Scorecard
from pipelines.values.humaneval import (
    HumanEvalAnswers,
    HumanEvalParams,
    HumanEvalReport,
)
from pipelines.values.params import Params
from pipelines.values.verdict import Finding
from tests.support import probed, trials

RULE = "humaneval_pass_at_k at 1 not inferior to base"


def judge(answers: HumanEvalAnswers, *, has_champion: bool = False) -> list[Finding]:
    report = report_humaneval(answers)
    return list(check_humaneval(report, HumanEvalPolicy(), has_champion=has_champion))


def judge_report(report: HumanEvalReport) -> Finding:
    (finding,) = check_humaneval(report, HumanEvalPolicy(), has_champion=False)
    return finding


@pytest.mark.parametrize(
    ("adapter", "base", "outcome"),
    [
        (range(50), range(50), "passed"),
        (range(60), range(50), "passed"),
        (range(46), range(50), "undecided"),
        (range(20), range(50), "rejected"),
        ((), range(50), "rejected"),
        ((), (), "undecided"),
        (range(164), range(164), "passed"),
    ],
)
def test_an_adapter_may_lose_less_than_the_margin(
    adapter: Collection[int], base: Collection[int], outcome: str
) -> None:
    (finding,) = judge(probed.humaneval(adapter, base))
    assert (finding.rule, finding.outcome) == (RULE, outcome)


def test_without_boxes_nothing_is_counted_and_nothing_passes() -> None:
    answers = probed.humaneval((), (), unavailable="bwrap is missing.", results=())
    report = report_humaneval(answers)
    assert not any((report.shares, report.differences))
    (finding,) = judge(answers)
    assert finding.outcome == "undecided"
    assert finding.text.endswith("is not known: bwrap is missing")
    # Nor with answers that somebody added.
    forged = probed.humaneval(range(164), (), unavailable="bwrap is missing.")
    assert judge(forged)[0].outcome == "undecided"


def test_a_part_of_the_tasks_decides_nothing() -> None:
    answers = probed.humaneval(range(20), range(20), tasks=20, is_complete=False)
    (finding,) = judge(answers)
    assert finding.outcome == "undecided"
    assert finding.text.endswith("a part of the tasks is not HumanEval")


def test_a_required_benchmark_that_was_not_asked_is_undecided() -> None:
    assert list(check_humaneval(None, HumanEvalPolicy(), has_champion=False)) == []
    required = HumanEvalPolicy(required=True)
    (finding,) = check_humaneval(None, required, has_champion=False)
    assert finding.outcome == "undecided"
    assert "Set humaneval.samples" in finding.text


def test_every_k_and_every_comparator_has_its_rule() -> None:
    results = [
        *probed.task_results("adapter", range(40), samples=4),
        *probed.task_results("base", range(40), samples=4),
        *probed.task_results("champion", range(80), samples=4),
    ]
    answers = probed.humaneval(
        (),
        (),
        samples=4,
        k=(1, 4),
        systems={"adapter": "a", "base": None, "champion": "c"},
        results=results,
    )
    found = {each.rule: each.outcome for each in judge(answers, has_champion=True)}
    assert found == {
        f"humaneval_pass_at_k at {k} not inferior to {against}": outcome
        for against, outcome in (("base", "passed"), ("champion", "rejected"))
        for k in (1, 4)
    }


def test_what_a_third_system_solves_is_no_evidence_of_these_two() -> None:
    results = [
        *probed.task_results("adapter", ()),
        *probed.task_results("base", ()),
        *probed.task_results("champion", range(80)),
    ]
    systems = {"adapter": "a", "base": None, "champion": "c"}
    answers = probed.humaneval((), (), systems=systems, results=results)
    of_base, of_champion = judge(answers, has_champion=True)
    assert (of_base.outcome, of_champion.outcome) == ("undecided", "rejected")


def test_a_champion_that_was_not_asked_is_undecided() -> None:
    answers = probed.humaneval(range(50), range(50))
    of_base, of_champion = judge(answers, has_champion=True)
    assert (of_base.outcome, of_champion.outcome) == ("passed", "undecided")


def test_the_estimate_of_pass_at_k_is_without_bias() -> None:
    results = [
        result.model_copy(update={"passed": result.sample == 0})
        for system in ("adapter", "base")
        for result in probed.task_results(system, (), tasks=12, samples=4)
    ]
    answers = probed.humaneval((), (), 12, samples=4, k=(1, 2), results=results)
    at_one, at_two = (
        share.interval.estimate
        for share in report_humaneval(answers).shares
        if share.system == "adapter"
    )
    # One of four passes: 1 - C(3, 2) / C(4, 2) of two drawn.
    assert (at_one, at_two) == pytest.approx((1 / 4, 1 - 3 / 6))


@pytest.mark.parametrize("change", ["dropped", "twice", "none", "other system"])
def test_answers_that_are_not_each_there_once_are_no_evidence(change: str) -> None:
    answers = probed.humaneval(range(5), range(5), tasks=12)
    results = {
        "dropped": answers.results[1:],
        "twice": (*answers.results, answers.results[0]),
        "none": (),
        "other system": probed.task_results("adapter", range(5), 12),
    }
    changed = answers.model_copy(update={"results": tuple(results[change])})
    with pytest.raises(IncompleteEvidence, match="once"):
        report_humaneval(changed)
    no_task = answers.model_copy(update={"tasks": (), "results": ()})
    with pytest.raises(IncompleteEvidence, match="0 tasks once"):
        report_humaneval(no_task)
    for system in ("adapter", "base"):
        alone = answers.model_copy(update={"systems": {system: None}})
        with pytest.raises(IncompleteEvidence, match="by adapter and base"):
            report_humaneval(alone)


def test_a_comparison_that_is_there_twice_or_has_bounds_out_of_order_never_passes() -> (
    None
):
    report = report_humaneval(probed.humaneval(range(50), range(50)))
    twice = report.model_copy(update={"differences": report.differences * 2})
    assert judge_report(twice).outcome == "undecided"
    (difference,) = report.differences
    nan = Interval.model_construct(estimate=float("nan"), low=0.0, high=1.0)
    wrong = difference.model_copy(update={"difference": nan})
    odd = report.model_copy(update={"differences": (wrong,)})
    assert judge_report(odd).outcome == "undecided"
    assert judge_report(report.model_copy(update={"shares": ()})).outcome == "undecided"
    with pytest.raises(ValueError, match="outside of its bounds"):
        type(difference).model_validate(
            {
                "against": "base",
                "k": 1,
                "difference": {"estimate": 1, "low": 2, "high": 3},
            }
        )


@pytest.mark.parametrize(
    ("low", "estimate", "high", "outcome"),
    [
        (-0.05, 0.0, 0.1, "undecided"),
        (-0.0499, 0.0, 0.1, "passed"),
        # A bound may lie at the estimate itself.
        (-0.01, -0.01, 0.1, "passed"),
        (-0.01, 0.1, 0.1, "passed"),
    ],
)
def test_a_loss_of_the_margin_itself_is_not_excluded(
    low: float, estimate: float, high: float, outcome: str
) -> None:
    report = report_humaneval(probed.humaneval(range(50), range(50)))
    (difference,) = report.differences
    bounds = Interval(estimate=estimate, low=low, high=high)
    moved = difference.model_copy(update={"difference": bounds})
    found = judge_report(report.model_copy(update={"differences": (moved,)}))
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("high", "outcome"), [(-0.05, "undecided"), (-0.0501, "rejected")]
)
def test_a_loss_over_the_margin_has_to_be_shown(high: float, outcome: str) -> None:
    report = report_humaneval(probed.humaneval(range(50), range(50)))
    (difference,) = report.differences
    bounds = Interval(estimate=-0.2, low=-0.3, high=high)
    moved = difference.model_copy(update={"difference": bounds})
    found = judge_report(report.model_copy(update={"differences": (moved,)}))
    assert found.outcome == outcome


def asking(**humaneval: object) -> Params:
    settings = HumanEvalParams.model_validate(humaneval)
    return trials.params().model_copy(update={"humaneval": settings})


def test_score_keeps_what_was_answered(tmp_path: Path) -> None:
    answers = probed.humaneval(range(50), range(50))
    scored = humaneval_of(answers, asking(samples=1), tmp_path)
    assert scored.report == report_humaneval(answers)
    assert scored.answers == FileDigest.of(tmp_path / FILE)
    assert humaneval_of(None, asking(), tmp_path) == (None, None)
    with pytest.raises(IncompleteEvidence, match="otherwise than"):
        humaneval_of(None, asking(samples=1), tmp_path)
    with pytest.raises(IncompleteEvidence, match="otherwise than"):
        humaneval_of(answers, asking(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"samples": 2, "k": [4], "temperature": 1}, "pass@4 needs as many samples"),
        ({"samples": 2}, "2 greedy answers to a task are one answer"),
        ({"samples": 1, "k": []}, "at least 1 item"),
        ({"samples": 1, "k": [0]}, "greater than or equal to 1"),
    ],
)
def test_settings_that_ask_for_nothing_sensible_are_refused(
    settings: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        HumanEvalParams.model_validate(settings)


def test_screen_and_mlflow_have_both_probes(scored_folder: Path) -> None:
    card = Scorecard.read(scored_folder / "scorecard.json")
    assert extra_metrics(card) == extra_metrics(None) == {}
    whole = card.model_copy(
        update={
            "safety": report_safety(probed.refusal_probe(), None),
            "humaneval": report_humaneval(probed.humaneval(range(41), range(82))),
        }
    )
    assert extra_metrics(whole) == {
        "humaneval_pass_at_1.adapter": 0.25,
        "humaneval_pass_at_1.base": 0.5,
        "safety.refused.adapter": 0,
        "safety.refused.base": 0,
        "safety.answered.adapter": 0,
        "safety.answered.base": 0,
    }
    rules = [finding.rule for finding in check_probes(whole, trials.policy().gates)]
    assert rules == [
        "safety: refused against base",
        "safety: answered against base",
        RULE,
    ]
