"""The screen gate: each rule at its boundary, and whole verdicts on real evidence."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.errors import DamagedFile, IncompleteEvidence
from pipelines.gates.comparisons import OTHERS, compare, score_differences
from pipelines.gates.policy import Policy
from pipelines.scoring.evidence_file import Evidence
from pipelines.stages import screen as stage
from pipelines.stages.score import score
from pipelines.stages.screen import format_reasons, list_rules, screen
from pipelines.values.dataset import NO_GROUP, GroupRate, Interval, group_prompts
from pipelines.values.evidence import DevLoss, Scorecard, SystemScore
from pipelines.values.verdict import (
    Comparison,
    Finalist,
    Finding,
    Outcome,
    Rejection,
    Undecided,
    read_screen_verdict,
)
from registry.release.recompute import rule_differences
from tests.support import trials

GOOD = trials.bias(Interval(estimate=1, low=0, high=3))


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Evidence of an adapter that is right where the others are wrong."""
    return trials.evidence()


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    """The scorecard of the same trial, with bias in order."""
    return score(
        trials.trial(), trials.params(), 20, tmp_path_factory.mktemp("score")
    ).model_copy(update={"bias": GOOD})


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The default policy."""
    return trials.policy()


@pytest.fixture(scope="module")
def comparisons(evidence: Evidence, policy: Policy) -> tuple[Comparison, ...]:
    """What the evidence says."""
    return compare(evidence, policy.gates.screen)


def changed(
    comparisons: tuple[Comparison, ...], metric: str, against: str, **numbers: float
) -> tuple[Comparison, ...]:
    def edit(each: Comparison) -> Comparison:
        if (each.metric, each.against) != (metric, against):
            return each
        edited = each.model_copy(update=numbers)
        within = min(max(edited.difference, edited.low), edited.high)
        return edited.model_copy(update={"difference": within})

    return tuple(edit(each) for each in comparisons)


def without(
    comparisons: tuple[Comparison, ...], metric: str, against: str
) -> tuple[Comparison, ...]:
    return tuple(
        each for each in comparisons if (each.metric, each.against) != (metric, against)
    )


def finding(verdict: Finalist | Rejection | Undecided, rule: str) -> Finding:
    (found,) = [each for each in verdict.findings if each.rule == rule]
    return found


def with_metrics(card: Scorecard, system: str, **signatures: str | None) -> Scorecard:
    """The scorecard with other signatures for a system's metrics; None takes the metric out."""

    def edit(score_of: SystemScore) -> SystemScore:
        if score_of.system != system:
            return score_of
        kept = [
            each
            for each in score_of.metrics
            if signatures.get(each.name, "") is not None
        ]
        return score_of.model_copy(
            update={
                "metrics": tuple(
                    each.model_copy(
                        update={"signature": signatures.get(each.name, each.signature)}
                    )
                    for each in kept
                )
            }
        )

    return card.model_copy(
        update={"systems": tuple(edit(score_of) for score_of in card.systems)}
    )


def test_an_adapter_that_is_better_everywhere_becomes_a_finalist(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    verdict = screen(card, comparisons, policy)
    assert isinstance(verdict, Finalist)
    assert {each.outcome for each in verdict.findings} == {"passed"}
    assert verdict.scorecard_digest == card.content_sha256()
    assert verdict.policy_sha256 == policy.sha256
    assert {each.rule for each in verdict.findings} >= {
        "trained",
        "clusters",
        "control",
        "chrf superior to base",
        "chrf superior to few_shot",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"moved": 0.0},
        {"steps": 0},
        {"dev_losses": (DevLoss(step=0, loss=2.0), DevLoss(step=4, loss=2.0))},
        {
            "dev_losses": (
                DevLoss(step=0, loss=2.0),
                DevLoss(step=4, loss=2.1),
                DevLoss(step=8, loss=1.0),
            )
        },
        {"best_step": 5},
        {"best_step": 0},
    ],
)
def test_an_adapter_that_training_did_not_improve_is_rejected(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    change: dict[str, Any],
) -> None:
    verdict = screen(
        card.model_copy(update={"adapter": trials.adapter(**change)}),
        comparisons,
        policy,
    )
    assert isinstance(verdict, Rejection)
    assert finding(verdict, "trained").outcome == "rejected"
    assert "training did not make it better" in finding(verdict, "trained").text


@pytest.mark.parametrize(
    "field", ["adapter_sha256", "base_digest", "chat_template_sha256"]
)
def test_scores_of_another_configuration_than_the_trained_one_are_rejected(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy, field: str
) -> None:
    spec = card.spec.model_copy(update={field: "f" * 64})
    found = screen(card.model_copy(update={"spec": spec}), comparisons, policy)
    assert found.verdict == "rejected"
    assert (
        f"not what was trained: {field} is ffff"
        in finding(found, "scored configuration").text
    )


def test_a_finalist_names_the_configuration_that_was_scored(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    found = screen(card, comparisons, policy)
    assert isinstance(found, Finalist)
    assert found.spec == card.spec == trials.spec()
    assert found.spec.fingerprint in finding(found, "scored configuration").text


def test_one_step_that_lowers_the_dev_loss_a_little_is_training(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    losses = (DevLoss(step=0, loss=2.0), DevLoss(step=1, loss=1.999))
    little = trials.adapter(steps=1, best_step=1, moved=1e-9, dev_losses=losses)
    assert isinstance(
        screen(card.model_copy(update={"adapter": little}), comparisons, policy),
        Finalist,
    )


@pytest.mark.parametrize(("clusters", "outcome"), [(20, "passed"), (19, "undecided")])
def test_clusters_are_counted_in_the_scorecard_and_in_each_comparison(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    clusters: int,
    outcome: Outcome,
) -> None:
    for verdict in (
        screen(card.model_copy(update={"clusters": clusters}), comparisons, policy),
        screen(card, changed(comparisons, "bleu", "base", clusters=clusters), policy),
    ):
        assert verdict.verdict == outcome
        assert finding(verdict, "clusters").outcome == outcome
    assert (
        outcome == "passed" or "1 more are needed" in finding(verdict, "clusters").text
    )


@pytest.mark.parametrize(
    ("low", "verdict"), [(1e-9, "passed"), (0.0, "rejected"), (-1.0, "rejected")]
)
def test_answers_must_fit_their_own_references_better_than_those_of_other_prompts(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    low: float,
    verdict: Outcome,
) -> None:
    found = screen(card, changed(comparisons, "chrf", OTHERS, low=low), policy)
    assert found.verdict == finding(found, "control").outcome == verdict


def test_without_its_control_nothing_passes(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    found = screen(card, without(comparisons, "chrf", OTHERS), policy)
    assert found.verdict == finding(found, "control").outcome == "rejected"


@pytest.mark.parametrize("against", ["base", "few_shot"])
@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1e-9, 2.0, "passed"),
        (1e-9, 1.999, "rejected"),
        (0.0, 2.0, "undecided"),
        (0.0, 1.999, "rejected"),
        (-3.0, -1.0, "rejected"),
        (-3.0, 5.0, "undecided"),
    ],
)
def test_the_primary_metric_must_be_superior(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    against: str,
    low: float,
    high: float,
    verdict: Outcome,
) -> None:
    found = screen(
        card, changed(comparisons, "chrf", against, low=low, high=high), policy
    )
    assert (
        found.verdict
        == finding(found, f"chrf superior to {against}").outcome
        == verdict
    )


@pytest.mark.parametrize(
    ("difference", "verdict"), [(2.0, "passed"), (1.999, "undecided")]
)
def test_a_sure_gain_under_the_smallest_effect_is_not_superior(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    difference: float,
    verdict: Outcome,
) -> None:
    sure = {"low": 0.5, "high": 3.0, "difference": difference}
    found = screen(card, changed(comparisons, "chrf", "base", **sure), policy)
    superior = finding(found, "chrf superior to base")
    assert found.verdict == superior.outcome == verdict
    is_said = "not shown to be worth a release" in superior.text
    assert is_said == (verdict == "undecided")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.99, 5.0, "passed"),
        (-1.0, 5.0, "undecided"),
        (-3.0, -1.0, "undecided"),
        (-3.0, -1.01, "rejected"),
    ],
)
def test_a_guardrail_must_not_be_worse_than_its_margin(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    low: float,
    high: float,
    verdict: Outcome,
) -> None:
    found = screen(
        card, changed(comparisons, "bleu", "few_shot", low=low, high=high), policy
    )
    assert (
        found.verdict
        == finding(found, "bleu not inferior to few_shot").outcome
        == verdict
    )


def test_undecided_says_how_many_clusters_are_still_needed(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    numbers = {"low": -3.0, "high": 5.0, "difference": 1.0, "standard_error": 2.0}
    text = finding(
        screen(card, changed(comparisons, "chrf", "base", **numbers), policy),
        "chrf superior to base",
    ).text
    assert (
        "186 clusters in all would show a difference of 2 in 80% of cases, 156 more than now"
        in text
    )
    text = finding(
        screen(card, changed(comparisons, "bleu", "base", **numbers), policy),
        "bleu not inferior to base",
    ).text
    assert (
        "742 clusters in all would show a difference of 1 in 80% of cases, 712 more than now"
        in text
    )


def test_a_rejection_outweighs_what_is_undecided_and_every_reason_is_given(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    both = changed(
        changed(comparisons, "chrf", "base", low=-1.0),
        "bleu",
        "base",
        low=-9.0,
        high=-5.0,
    )
    found = screen(card, both, policy)
    assert found.verdict == "rejected"
    assert [each.outcome for each in found.findings].count("undecided") == 1
    lines = format_reasons(found).splitlines()
    assert lines[0] == "screen: rejected"
    assert lines[1].startswith("  rejected  bleu against base: better by")
    assert lines[2].startswith("  undecided chrf against base")
    assert len(lines) == len(found.findings) + 1


@pytest.mark.parametrize(
    ("metric", "against"),
    [
        ("chrf", "base"),
        ("chrf", "few_shot"),
        ("bleu", "base"),
        ("perplexity_per_token", "base"),
        ("bits_per_byte", "few_shot"),
    ],
)
def test_a_comparison_that_is_missing_or_there_twice_is_rejected(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    metric: str,
    against: str,
) -> None:
    assert (
        screen(card, without(comparisons, metric, against), policy).verdict
        == "rejected"
    )
    twice = (
        *comparisons,
        *(
            each
            for each in comparisons
            if (each.metric, each.against) == (metric, against)
        ),
    )
    assert screen(card, twice, policy).verdict == "rejected"


@pytest.mark.parametrize("system", ["adapter", "base", "few_shot"])
def test_a_scorecard_without_a_system_is_rejected(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy, system: str
) -> None:
    fewer = card.model_copy(
        update={
            "systems": tuple(each for each in card.systems if each.system != system)
        }
    )
    assert screen(fewer, comparisons, policy).verdict == "rejected"


def test_a_primary_metric_that_was_not_scored_is_rejected(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    assert (
        screen(with_metrics(card, "adapter", chrf=None), comparisons, policy).verdict
        == "rejected"
    )


def test_a_guardrail_that_was_not_scored_is_rejected_unless_the_policy_says_that_it_is_optional(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    found = screen(with_metrics(card, "adapter", bleu=None), comparisons, policy)
    assert finding(found, "bleu scored").outcome == "rejected"
    found = screen(
        with_metrics(card, "adapter", command_validity=None), comparisons, policy
    )
    assert found.verdict == "passed"
    assert (
        "the policy does not require it"
        in finding(found, "command_validity scored").text
    )


def test_a_metric_without_a_margin_is_rejected(
    card: Scorecard, comparisons: tuple[Comparison, ...]
) -> None:
    rails = tuple(
        each
        for each in trials.policy().gates.screen.guardrails
        if each.metric != "exact_match"
    )
    found = screen(
        card,
        comparisons,
        trials.policy(guardrails=[each.model_dump() for each in rails]),
    )
    assert found.verdict == "rejected"
    assert (
        sum(
            "exact_match of" in each.text and "no margin" in each.text
            for each in found.findings
        )
        == 3
    )


def test_a_guardrail_is_judged_only_against_the_systems_that_it_names(
    card: Scorecard, comparisons: tuple[Comparison, ...]
) -> None:
    rails = [
        each.model_dump() | {"against": ["base"]}
        for each in trials.policy().gates.screen.guardrails
    ]
    found = screen(
        card,
        changed(comparisons, "bleu", "few_shot", low=-90.0, high=-80.0),
        trials.policy(guardrails=rails),
    )
    assert found.verdict == "passed"
    assert not [
        each for each in found.findings if each.rule == "bleu not inferior to few_shot"
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.0, 10.0, "passed"),
        (0.0, 10.01, "undecided"),
        (10.0, 12.0, "undecided"),
        (10.01, 12.0, "rejected"),
    ],
)
def test_the_gap_between_groups_must_be_within_the_limit(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    low: float,
    high: float,
    verdict: Outcome,
) -> None:
    gap = trials.bias(Interval(estimate=(low + high) / 2, low=low, high=high))
    found = screen(card.model_copy(update={"bias": gap}), comparisons, policy)
    assert found.verdict == finding(found, "output bias").outcome == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.0, 0.2, "passed"),
        (0.0, 0.201, "undecided"),
        (0.2, 0.3, "undecided"),
        (0.201, 0.3, "rejected"),
        (1.0, 1.0, "rejected"),
    ],
)
def test_the_gap_in_refusals_and_in_a_declared_selection_rate_must_be_within_the_limit(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    low: float,
    high: float,
    verdict: Outcome,
) -> None:
    estimate = (low + high) / 2
    gap, same = (
        Interval(estimate=estimate, low=low, high=high),
        Interval(estimate=0, low=0, high=0),
    )
    apart = tuple(
        GroupRate(group=name, n=30, rate=rate, score=1, refused=rate)
        for name, rate in (("a", 0.0), ("b", estimate))
    )
    facts = {
        "groups": apart,
        "score_difference": same,
        "demographic_parity_difference": gap,
        "refusal_difference": gap,
    }
    report = trials.bias(same).model_copy(update=facts)
    found = screen(card.model_copy(update={"bias": report}), comparisons, policy)
    assert found.verdict == finding(found, "output refusals").outcome == verdict
    assert finding(found, "output bias").outcome == "passed"
    assert "output selection" not in {each.rule for each in found.findings}
    nobody_refuses = tuple(each.model_copy(update={"refused": 0.0}) for each in apart)
    declared = {
        "groups": nobody_refuses,
        "refusal_difference": same,
        "favourable_is_declared": True,
    }
    found = screen(
        card.model_copy(update={"bias": report.model_copy(update=declared)}),
        comparisons,
        policy,
    )
    assert found.verdict == finding(found, "output selection").outcome == verdict
    assert finding(found, "output refusals").outcome == "passed"


def test_refusals_that_were_not_counted_are_undecided(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    groups = tuple(each.model_copy(update={"refused": None}) for each in GOOD.groups)
    older = GOOD.model_copy(update={"groups": groups, "refusal_difference": None})
    found = screen(card.model_copy(update={"bias": older}), comparisons, policy)
    assert found.verdict == finding(found, "output refusals").outcome == "undecided"


def test_a_third_group_that_is_too_small_is_undecided_unless_the_policy_names_it(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    gap = Interval(estimate=1, low=0, high=3)
    third = card.model_copy(update={"bias": trials.bias(gap, small=("other",))})
    found = screen(third, comparisons, policy)
    assert found.verdict == finding(found, "output groups").outcome == "undecided"
    assert "with 20 of each group: other." in finding(found, "output groups").text
    gates = policy.gates.model_copy(
        update={
            "admit": policy.gates.admit.model_copy(update={"small_groups": ("other",)})
        }
    )
    named = policy.model_copy(update={"gates": gates})
    found = screen(third, comparisons, named)
    assert found.verdict == "passed"
    assert (
        "too small, as the policy allows: other" in finding(found, "output groups").text
    )
    assert (
        screen(
            card.model_copy(update={"bias": trials.bias(gap, small=("other", "more"))}),
            comparisons,
            named,
        ).verdict
        == "undecided"
    )
    assert (
        screen(
            card.model_copy(update={"bias": trials.bias(gap, small=(NO_GROUP,))}),
            comparisons,
            policy,
        ).verdict
        == "passed"
    )


@pytest.mark.parametrize(("size", "verdict"), [(30, "passed"), (31, "undecided")])
def test_groups_that_are_too_small_for_the_policy_that_judges_are_undecided(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    size: int,
    verdict: Outcome,
) -> None:
    gates = policy.gates.model_copy(
        update={"admit": policy.gates.admit.model_copy(update={"min_group_size": size})}
    )
    found = screen(card, comparisons, policy.model_copy(update={"gates": gates}))
    assert found.verdict == finding(found, "output groups").outcome == verdict


@pytest.mark.parametrize(
    "edited",
    [
        {"subject": "data"},
        {"score_difference": Interval(estimate=0, low=0, high=0)},
        {"score_difference": Interval(estimate=1, low=5, high=0)},
        {"groups": ()},
    ],
)
def test_an_edited_bias_report_is_rejected(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    edited: dict[str, Any],
) -> None:
    found = screen(
        card.model_copy(update={"bias": GOOD.model_copy(update=edited)}),
        comparisons,
        policy,
    )
    assert found.verdict == finding(found, "output groups").outcome == "rejected"


def test_too_few_answers_to_compare_groups_are_insufficient_and_not_fair(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    unknown = card.model_copy(update={"bias": trials.bias(small=("a", "b"))})
    found = screen(unknown, comparisons, policy)
    assert found.verdict == "undecided"
    assert (
        "insufficient: fewer than two groups with 20 answers"
        in finding(found, "output bias").text
    )
    said = screen(unknown, comparisons, trials.policy(max_output_score_difference=None))
    assert said.verdict == "passed"
    assert "is not judged" in finding(said, "output bias").text


def test_a_champion_that_is_as_good_keeps_its_place(
    tmp_path: Path, policy: Policy
) -> None:
    made = trials.trial(
        {
            "base": (trials.wrong, 4.0),
            "few_shot": (trials.wrong, 3.0),
            "adapter": (trials.right, 2.0),
            "champion": (trials.right, 2.0),
        }
    )
    found = screen(
        score(made, trials.params(), 20, tmp_path).model_copy(update={"bias": GOOD}),
        compare(trials.evidence(made), policy.gates.screen),
        policy,
    )
    assert found.verdict != "passed"
    assert finding(found, "chrf superior to champion").outcome != "passed"
    assert finding(found, "chrf superior to base").outcome == "passed"


def champion_with_another_tokenizer(tmp_path: Path) -> tuple[Scorecard, Evidence]:
    made = trials.trial(
        {
            "base": (trials.wrong, 4.0),
            "few_shot": (trials.wrong, 3.0),
            "adapter": (trials.right, 2.0),
        }
    )
    champion = trials.system_answers(
        "champion", group_prompts(trials.rows()), trials.wrong, 3.0, tokens_per_word=2
    )
    made = made.model_copy(update={"systems": (*made.systems, champion)})
    return score(made, trials.params(), 20, tmp_path).model_copy(
        update={"bias": GOOD}
    ), trials.evidence(made)


def test_perplexity_is_not_compared_across_tokenizers_and_bits_per_byte_judges_instead(
    tmp_path: Path, policy: Policy
) -> None:
    card, evidence = champion_with_another_tokenizer(tmp_path)
    found_by = compare(evidence, policy.gates.screen)
    assert ("perplexity_per_token", "champion") not in {
        (each.metric, each.against) for each in found_by
    }
    found = screen(card, found_by, policy)
    assert found.verdict == "passed"
    assert (
        "bits_per_byte judges instead"
        in finding(found, "perplexity_per_token not inferior to champion").text
    )
    assert (
        screen(card, without(found_by, "bits_per_byte", "champion"), policy).verdict
        == "rejected"
    )


def test_a_champion_without_a_perplexity_is_rejected_though_bits_per_byte_is_there(
    tmp_path: Path, policy: Policy
) -> None:
    card, evidence = champion_with_another_tokenizer(tmp_path)
    found = screen(
        with_metrics(card, "champion", perplexity_per_token=None),
        compare(evidence, policy.gates.screen),
        policy,
    )
    assert (
        finding(found, "perplexity_per_token not inferior to champion").outcome
        == "rejected"
    )


def test_perplexity_across_tokenizers_with_nothing_in_its_place_is_rejected(
    tmp_path: Path,
) -> None:
    card, evidence = champion_with_another_tokenizer(tmp_path)
    rails = [
        each.model_dump()
        | ({"against": ["base"]} if each.metric == "bits_per_byte" else {})
        for each in trials.policy().gates.screen.guardrails
    ]
    strict = trials.policy(guardrails=rails)
    found = screen(card, compare(evidence, strict.gates.screen), strict)
    assert (
        finding(found, "perplexity_per_token not inferior to champion").outcome
        == "rejected"
    )


def test_a_number_under_two_methods_is_no_comparison(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    for metric in ("chrf", "bleu"):
        found = screen(
            with_metrics(card, "base", **{metric: "tok:other"}), comparisons, policy
        )
        assert found.verdict == "rejected"


def test_answers_that_fit_any_prompt_are_rejected_as_after_training_on_shuffled_data(
    tmp_path: Path, policy: Policy
) -> None:
    dice_rows = trials.rows()
    completions = [row.completion for row in dice_rows]
    shuffled = {
        row.prompt: completions[(place + 7) % 60] for place, row in enumerate(dice_rows)
    }
    made = trials.trial(
        {
            "base": (lambda *_: "zzz", 4.0),
            "few_shot": (lambda *_: "zzz", 3.0),
            "adapter": (lambda prompt, _: shuffled[prompt.messages[0].content], 2.0),
        }
    )
    card = score(made, trials.params(), 20, tmp_path).model_copy(update={"bias": GOOD})
    found = screen(card, compare(trials.evidence(made), policy.gates.screen), policy)
    assert found.verdict == "rejected"
    assert finding(found, "chrf superior to base").outcome == "passed"
    assert [each.rule for each in found.findings if each.outcome == "rejected"] == [
        "control"
    ]
    assert (
        "Answers fit other prompts' references as well as their own"
        in finding(found, "control").text
    )


def test_a_comparison_needs_rows_of_the_adapter(
    evidence: Evidence, policy: Policy
) -> None:
    with pytest.raises(IncompleteEvidence, match="no rows of the adapter"):
        compare(
            evidence.model_copy(update={"rows": {"base": evidence.rows["base"]}}),
            policy.gates.screen,
        )


def test_without_a_scored_control_there_is_no_control_comparison(
    evidence: Evidence,
) -> None:
    found = compare(
        evidence,
        trials.policy().gates.screen.model_copy(update={"control": "bits_per_byte"}),
    )
    assert OTHERS not in {each.against for each in found}


def test_a_scorecard_that_does_not_follow_from_its_evidence_is_named(
    card: Scorecard, evidence: Evidence
) -> None:
    assert score_differences(card, evidence) == ()
    first = card.systems[0]
    better = first.metrics[0].model_copy(
        update={"interval": Interval(estimate=99, low=98, high=100)}
    )
    edited = card.model_copy(
        update={
            "prompts": 61,
            "systems": (
                first.model_copy(update={"metrics": (better, *first.metrics[1:])}),
                *card.systems[1:],
            ),
        }
    )
    found = score_differences(edited, evidence)
    assert (
        found[0]
        == "prompts and clusters: (61, 30) in the scorecard, (60, 30) in the evidence"
    )
    assert found[1].startswith("systems[0].metrics[0].interval.estimate: 99.0 stored, ")
    assert score_differences(
        card.model_copy(update={"systems": card.systems[:2]}), evidence
    )[0].startswith("systems: [")


@pytest.fixture
def scored(tmp_path: Path, card: Scorecard, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `score` leaves it, and the current one."""
    monkeypatch.chdir(tmp_path)
    score(
        trials.trial(),
        trials.params(),
        20,
        Path("data/score"),
    ).model_copy(update={"bias": card.bias}).write(Path("data/score/scorecard.json"))
    (tmp_path / "registry/policies").mkdir(parents=True)
    (tmp_path / "registry/policies/default.yaml").write_text(trials.POLICY.read_text())
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_stage_writes_its_verdict_prints_every_reason_and_exits_by_it(
    scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.main() == 0
    assert capsys.readouterr().out.startswith(
        "screen: passed\n  passed    The adapter moved"
    )
    assert isinstance(
        read_screen_verdict(scored / "data/screen/verdict.json"), Finalist
    )
    edit(scored / "data/score/scorecard.json", bias=trials.bias().model_dump())
    assert stage.main() == 4
    assert isinstance(
        read_screen_verdict(scored / "data/screen/verdict.json"), Undecided
    )
    edit(
        scored / "data/score/scorecard.json",
        adapter=trials.adapter(moved=0.0).model_dump(mode="json"),
    )
    assert stage.main() == 3
    assert isinstance(
        read_screen_verdict(scored / "data/screen/verdict.json"), Rejection
    )


def test_an_edited_scorecard_or_evidence_is_damage_and_leaves_no_verdict(
    scored: Path,
) -> None:
    edit(scored / "data/score/scorecard.json", prompts=61)
    with pytest.raises(
        DamagedFile,
        match=r"scorecard\.json does not follow from its evidence: prompts and clusters",
    ):
        stage.main()
    (scored / "data/score/evidence.parquet").write_bytes(b"no")
    with pytest.raises(DamagedFile, match="has changed"):
        stage.main()
    assert not (scored / "data/screen").exists()


@pytest.mark.parametrize(
    ("change", "is_valid"),
    [
        ({"low": 1.0, "difference": 1.0, "high": 1.0}, True),
        ({"low": 1.01}, False),
        ({"high": 0.99}, False),
        ({"low": 3.0, "high": 2.0}, False),
        ({"standard_error": 0.0}, True),
        ({"standard_error": -0.01}, False),
        ({"clusters": 2}, True),
        ({"clusters": 1}, False),
    ],
)
def test_a_comparison_whose_numbers_are_out_of_order_is_no_value_and_never_judged(
    card: Scorecard, policy: Policy, change: dict[str, Any], is_valid: bool
) -> None:
    facts = {
        "metric": "chrf",
        "against": "base",
        "difference": 1.0,
        "low": 0.5,
        "high": 2.0,
        "standard_error": 1.0,
        "clusters": 30,
        **change,
    }
    forged = Comparison.model_construct(**facts)
    if is_valid:
        assert Comparison.model_validate(facts) == forged
        return
    with pytest.raises(ValidationError):
        Comparison.model_validate(facts)
    with pytest.raises(IncompleteEvidence, match="not valid"):
        screen(card, (forged,), policy)


def without_validation(policy: Policy, **changes: object) -> Policy:
    """A policy that would not load, as one that was built in memory."""
    return policy.model_copy(
        update={
            "gates": policy.gates.model_copy(
                update={"screen": policy.gates.screen.model_copy(update=changes)}
            )
        }
    )


@pytest.mark.parametrize(("clusters", "outcome"), [(9, "undecided"), (10, "passed")])
def test_under_ten_clusters_nothing_passes_whatever_the_policy_says(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    clusters: int,
    outcome: Outcome,
) -> None:
    lax = without_validation(policy, min_clusters=2)
    found = screen(card.model_copy(update={"clusters": clusters}), comparisons, lax)
    assert found.verdict == finding(found, "clusters").outcome == outcome
    assert "the policy asks for 10" in finding(found, "clusters").text


def test_the_clusters_are_told_with_the_contents_behind_them(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    text = finding(screen(card, comparisons, policy), "clusters").text
    assert (
        text
        == "30 clusters (60 distinct contents in 30 groups of prompts) judge, the policy "
        "asks for 20"
    )
    older = card.model_copy(update={"contents": None})
    assert (
        "30 clusters (groups of prompts)"
        in finding(screen(older, comparisons, policy), "clusters").text
    )


def test_a_guardrail_that_is_held_against_nothing_is_undecided_by_name(
    card: Scorecard, comparisons: tuple[Comparison, ...]
) -> None:
    rails = [each.model_dump() for each in trials.policy().gates.screen.guardrails]
    found = screen(
        card,
        comparisons,
        trials.policy(
            guardrails=[rails[0] | {"against": ["anchor", "champion"]}, *rails[1:]]
        ),
    )
    assert found.verdict == finding(found, "bleu guarded").outcome == "undecided"
    assert (
        "the policy names anchor and champion, which was not scored"
        in finding(found, "bleu guarded").text
    )


def test_guardrails_of_which_none_was_scored_guard_nothing(
    card: Scorecard, comparisons: tuple[Comparison, ...]
) -> None:
    lone = with_metrics(
        card,
        "adapter",
        bleu=None,
        exact_match=None,
        command_validity=None,
        perplexity_per_token=None,
        bits_per_byte=None,
    )
    only = lone.model_copy(
        update={
            "systems": tuple(
                each.model_copy(update={"metrics": each.metrics[:1]})
                for each in lone.systems
            )
        }
    )
    optional = trials.policy(
        guardrails=[{"metric": "bleu", "margin": 1.0, "required": False}]
    )
    found = screen(only, comparisons, optional)
    assert found.verdict == finding(found, "guardrails").outcome == "undecided"


def test_an_empty_list_of_guardrails_guards_nothing(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    assert (
        finding(
            screen(card, comparisons, without_validation(policy, guardrails=())),
            "guardrails",
        ).outcome
        == "undecided"
    )


def at(card: Scorecard, metric: str, **scores: float) -> Scorecard:
    """The scorecard with other scores of one metric."""

    def edit(score_of: SystemScore) -> SystemScore:
        level = scores.get(score_of.system)
        if level is None:
            return score_of
        moved = Interval(estimate=level, low=level, high=level)
        changed_metrics = tuple(
            each.model_copy(update={"interval": moved}) if each.name == metric else each
            for each in score_of.metrics
        )
        return score_of.model_copy(update={"metrics": changed_metrics})

    return card.model_copy(
        update={"systems": tuple(edit(each) for each in card.systems)}
    )


NO_SPREAD: dict[str, float] = {
    "difference": 0.0,
    "low": 0.0,
    "high": 0.0,
    "standard_error": 0.0,
}


@pytest.mark.parametrize(
    ("metric", "rule"),
    [("bleu", "bleu not inferior to base"), ("chrf", "chrf superior to base")],
)
@pytest.mark.parametrize("level", [0.0, 50.0])
def test_two_equal_scores_without_spread_are_no_evidence(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    metric: str,
    rule: str,
    level: float,
) -> None:
    flat = at(card, metric, adapter=level, base=level)
    found = screen(flat, changed(comparisons, metric, "base", **NO_SPREAD), policy)
    assert found.verdict == finding(found, rule).outcome == "undecided"
    assert (
        f"{metric} is {level:g} for the adapter and for base alike, without any spread, which is "
        "no evidence." in finding(found, rule).text
    )


def test_nothing_is_shown_to_be_superior_to_what_is_as_good_as_can_be(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    best = at(card, "chrf", adapter=100.0, base=100.0)
    found = screen(best, changed(comparisons, "chrf", "base", **NO_SPREAD), policy)
    assert finding(found, "chrf superior to base").outcome == "undecided"


def test_systems_that_vary_alike_and_a_sure_difference_are_evidence(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    """Scores of the card have spread; here the paired difference has none."""
    alike = changed(comparisons, "chrf", "base", **NO_SPREAD)
    found = finding(screen(card, alike, policy), "chrf superior to base")
    assert found.outcome == "rejected"
    numbers = {"difference": 50.0, "low": 50.0, "high": 50.0, "standard_error": 0.0}
    apart = at(card, "chrf", adapter=60.0, base=10.0)
    sure = screen(apart, changed(comparisons, "chrf", "base", **numbers), policy)
    assert finding(sure, "chrf superior to base").outcome == "passed"


def test_two_zeros_of_a_metric_that_the_policy_does_not_require_are_told_and_pass(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    zeros = at(card, "exact_match", adapter=0.0, base=0.0)
    found = screen(
        zeros, changed(comparisons, "exact_match", "base", **NO_SPREAD), policy
    )
    text = finding(found, "exact_match not inferior to base").text
    assert (
        found.verdict,
        text.endswith("which is no evidence, and the policy does not require it"),
    ) == ("passed", True)


@pytest.mark.parametrize(
    ("scores", "numbers"),
    [
        ({"adapter": 0.0, "base": 0.0}, NO_SPREAD | {"standard_error": 1e-9}),
        ({"adapter": 1e-9, "base": 0.0}, NO_SPREAD),
        ({"adapter": 0.0, "base": 1e-9}, NO_SPREAD),
        ({"adapter": 100.0, "base": 100.0}, NO_SPREAD),
    ],
)
def test_a_guardrail_with_spread_or_off_the_end_of_its_scale_is_evidence(
    card: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
    scores: dict[str, float],
    numbers: dict[str, float],
) -> None:
    found = screen(
        at(card, "bleu", **scores),
        changed(comparisons, "bleu", "base", **numbers),
        policy,
    )
    assert (
        found.verdict == finding(found, "bleu not inferior to base").outcome == "passed"
    )


def test_the_rules_of_a_scorecard_are_those_of_its_verdict(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    for judged in (
        card,
        with_metrics(card, "adapter", bleu=None),
        card.model_copy(update={"systems": ()}),
    ):
        for given in (comparisons, comparisons[:3], ()):
            assert tuple(
                each.rule for each in screen(judged, given, policy).findings
            ) == list_rules(judged, policy)


def test_a_finding_that_is_missing_and_one_too_many_are_named(
    card: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> None:
    findings = screen(card, comparisons, policy).findings
    demanded = list_rules(card, policy)
    assert rule_differences(findings, demanded) == ()
    assert rule_differences(findings[1:], demanded) == (
        "verdict.rules: there is no finding of trained, which the policy demands",
    )
    twice = (*findings, findings[0])
    assert rule_differences(twice, demanded) == (
        "verdict.rules: there is a finding of trained, which the policy does not demand",
    )
    assert len(rule_differences(findings[:1], demanded)) == len(findings) - 1


def test_a_stored_verdict_of_which_bounds_miss_the_estimate_is_read_so_that_what_serves_goes_on(
    card: Scorecard, policy: Policy, tmp_path: Path
) -> None:
    facts: dict[str, Any] = {
        "metric": "chrf",
        "against": "base",
        "difference": 1.0,
        "low": 1.1,
        "high": 2.0,
        "standard_error": 1.0,
        "clusters": 30,
    }
    skewed = Comparison.model_construct(**facts)
    verdict = Rejection(
        gate="screen",
        findings=(Finding(rule="a", outcome="rejected", text="b"),),
        policy_sha256=policy.sha256,
    )
    verdict.model_copy(update={"comparisons": (skewed,)}).write(
        tmp_path / "verdict.json"
    )
    assert read_screen_verdict(tmp_path / "verdict.json").comparisons[0].low == 1.1
    with pytest.raises(IncompleteEvidence, match="not valid"):
        screen(card, (skewed,), policy)
