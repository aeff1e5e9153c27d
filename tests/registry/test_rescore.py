"""A release that is scored again: what counts as worse, and when traffic goes back for it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import IllegalEntry
from pipelines.values.verdict import Comparison, Finalist, Finding, Rejection
from registry.ledger.entries import (
    CanaryStep,
    ReleaseCompleted,
    ReleaseSwitched,
    Rescored,
    RolledBack,
)
from registry.ledger.ledger import open_ledger
from registry.release.rescore import (
    Rescores,
    RescoreVerdict,
    describe,
    find_losses,
    is_this_pair,
    judge_again,
    way_back,
)
from tests.support import trials
from tests.support.canaries import plan
from tests.support.ledgers import MODEL, WHY, Chain, begun, judged, package, rolled_back

BAKE = 600


def comparison(metric: str, high: float, against: str = "anchor") -> Comparison:
    return Comparison(
        metric=metric,
        against=against,
        difference=high - 1,
        low=high - 2,
        high=high,
        standard_error=0.5,
        clusters=40,
    )


def finding(rule: str, outcome: str = "rejected") -> Finding:
    return Finding.model_validate({"rule": rule, "outcome": outcome, "text": rule})


def rejection(
    *comparisons: Comparison, rules: tuple[str, ...] = ("chrf superior to base",)
) -> Rejection:
    return Rejection(
        gate="screen",
        findings=tuple(finding(rule) for rule in rules),
        comparisons=comparisons,
        policy_sha256=WHY,
    )


@pytest.mark.parametrize(
    ("metric", "high", "verdict"),
    [
        # 2.0 is the policy's smallest effect, 1.0 its margin for BLEU.
        ("chrf", -2.01, "rejected"),
        ("chrf", -2.0, "undecided"),
        ("chrf", -0.1, "undecided"),
        ("bleu", -1.01, "rejected"),
        ("bleu", -1.0, "undecided"),
        ("needless", -50.0, "undecided"),
    ],
)
def test_only_a_whole_interval_beyond_the_policys_margin_is_worse(
    metric: str, high: float, verdict: str
) -> None:
    policy = trials.policy(
        primary="chrf",
        smallest_effect=2.0,
        guardrails=[{"metric": "bleu", "margin": 1.0}],
    )
    again = judge_again(rejection(comparison(metric, high)), policy)
    assert again.verdict == verdict
    if verdict == "rejected":
        assert f"{metric} is worse by" in again.findings[0].text


def test_a_loss_against_the_base_alone_is_no_reason_to_go_back() -> None:
    worse = rejection(comparison("chrf", -9.0, against="base"))
    assert judge_again(worse, trials.policy()).verdict == "undecided"


@pytest.mark.parametrize(
    ("metric", "against", "high", "alarms"),
    [
        ("chrf", "base", -0.001, True),
        ("chrf", "base", 0.0, False),
        ("chrf", "few_shot", -0.001, True),
        ("chrf", "champion", -9.0, False),
        ("bleu", "base", -1.001, True),
        ("bleu", "base", -1.0, False),
        ("bleu", "few_shot", -9.0, False),
        ("exact_match", "base", -9.0, False),
        ("chrf", "anchor", -2.001, True),
        ("chrf", "anchor", -2.0, False),
    ],
)
def test_people_are_alarmed_for_a_loss_that_is_shown_and_for_nothing_else(
    metric: str, against: str, high: float, alarms: bool
) -> None:
    guardrail = {"metric": "bleu", "margin": 1.0, "against": ["base"]}
    policy = trials.policy(smallest_effect=2.0, guardrails=[guardrail])
    losses = find_losses(rejection(comparison(metric, high, against)), policy)
    assert bool(losses) == alarms
    if alarms:
        than = "the version before" if against == "anchor" else against
        assert f"{metric} is worse by {1 - high:.3g} than {than}" in losses[0].text


def test_people_are_alarmed_for_what_is_unfair_to_a_group() -> None:
    verdict = rejection(rules=("output bias", "chrf superior to base"))
    losses = find_losses(verdict, trials.policy())
    assert [loss.rule for loss in losses] == ["output bias"]


@pytest.mark.parametrize("rule", ["output bias", "output refusals", "output selection"])
def test_what_is_unfair_to_a_group_is_a_reason_and_an_open_question_is_none(
    rule: str,
) -> None:
    policy = trials.policy()
    assert judge_again(rejection(rules=(rule,)), policy).verdict == "rejected"
    undecided = rejection().model_copy(
        update={"findings": (finding("trained"), finding(rule, "undecided"))}
    )
    assert judge_again(undecided, policy).verdict == "undecided"


def test_what_screen_passes_passes_and_needs_no_predecessor() -> None:
    fields: dict[str, Any] = {
        "findings": (finding("trained", "passed"),),
        "comparisons": (),
    }
    verdict = Finalist.model_construct(**fields)
    assert judge_again(verdict, trials.policy()).verdict == "passed"


def test_without_a_release_nothing_is_the_pair_that_was_compared() -> None:
    chain = Chain()
    first = chain.release("1")
    chain.add(scored_again(chain, first, None))
    rescore = read(chain).find_against(chain.ledger_state.model(MODEL))
    assert rescore is not None
    assert not is_this_pair(chain.ledger_state.model(MODEL), rescore)
    assert not is_this_pair(chain.ledger_state.model("other"), rescore)


def scored_again(
    chain: Chain, begun_at: int, against: int | None, verdict: str = "rejected"
) -> Rescored:
    version = chain.ledger_state.model(MODEL).served[-1].release.version
    return Rescored.model_validate(
        {
            "model": MODEL,
            "version": version,
            "package_sha256": package(version),
            "begun": begun_at,
            "against": against,
            "verdict": verdict,
            "verdict_sha256": WHY,
            "policy_sha256": WHY,
            "evidence_sha256": WHY,
        }
    )


def with_canary(chain: Chain, version: str = "2", bake_s: int = BAKE) -> int:
    """Release after a canary; it bakes, and is not completed."""
    chain.add(judged(version))
    body = begun(chain.last, version)
    canary = plan(weights=(5,), bake_s=bake_s)
    release = body.release.model_copy(update={"canary": canary})
    chain.add(body.model_copy(update={"release": release}))
    at = chain.last
    chain.add(CanaryStep(begun=at, weight=5), ReleaseSwitched(begun=at))
    return at


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"begun": 2}, "does not answer"),
        ({"version": "3"}, "other bytes"),
        ({"package_sha256": "d" * 64}, "other bytes"),
        ({"against": 4}, "is not the one before it"),
    ],
)
def test_scores_of_other_bytes_or_against_another_release_are_not_entered(
    chain: Chain, changes: dict[str, object], fact: str
) -> None:
    first = chain.release("1")
    second = chain.release("2")
    body = scored_again(chain, second, first)
    chain.add(body)
    with pytest.raises(IllegalEntry, match=fact):
        chain.add(body.model_copy(update=changes))


def test_without_a_release_or_a_predecessor_nothing_is_compared_with_it(
    chain: Chain,
) -> None:
    first = chain.release("1")
    chain.add(scored_again(chain, first, None))
    with pytest.raises(IllegalEntry, match="is not the one before it"):
        chain.add(scored_again(chain, first, 1))


def read(chain: Chain) -> Rescores:
    rescores = Rescores()
    rescores.read(chain.entries)
    return rescores


def bakes(chain: Chain) -> bool | None:
    """None where nothing speaks against what answers."""
    rescores, model = read(chain), chain.ledger_state.model(MODEL)
    rescore = rescores.find_against(model)
    if rescore is None or model.answering is None:
        return None
    return is_this_pair(model, rescore) and rescores.bakes(rescore, model.answering)


def test_it_goes_back_before_the_release_is_completed_and_for_the_bake_time_after(
    chain: Chain,
) -> None:
    first = chain.release("1")
    second = with_canary(chain)
    chain.add(scored_again(chain, second, first))
    assert bakes(chain) is True
    chain.add(ReleaseCompleted(begun=second))
    late = timedelta(seconds=BAKE)
    chain.add(scored_again(chain, second, first), later=late - timedelta(seconds=1))
    assert bakes(chain) is True
    chain.add(scored_again(chain, second, first))
    assert bakes(chain) is False


@pytest.mark.parametrize("verdict", ["passed", "undecided"])
def test_what_is_not_rejected_or_was_scored_better_since_goes_nowhere(
    chain: Chain, verdict: str
) -> None:
    first = chain.release("1")
    second = with_canary(chain)
    chain.add(scored_again(chain, second, first))
    chain.add(scored_again(chain, second, first, verdict))
    assert bakes(chain) is None


def test_without_a_bake_time_nothing_goes_back_by_itself(chain: Chain) -> None:
    first = chain.release("1")
    second = chain.release("2")
    chain.add(scored_again(chain, second, first))
    assert bakes(chain) is False
    third = with_canary(chain, "3", bake_s=0)
    chain.add(scored_again(chain, third, second))
    assert bakes(chain) is False


def test_a_release_that_was_gone_back_from_is_no_reason_against_the_one_before(
    chain: Chain,
) -> None:
    first = chain.release("1")
    second = with_canary(chain)
    chain.add(scored_again(chain, second, first), rolled_back(first))
    assert bakes(chain) is None


def test_while_the_base_answers_nothing_goes_back(chain: Chain) -> None:
    from registry.ledger.entries import BaseServed

    first = chain.release("1")
    second = with_canary(chain)
    chain.add(scored_again(chain, second, first))
    chain.add(BaseServed(model=MODEL, by="olga", reason_sha256=WHY))
    assert bakes(chain) is None


def test_the_reason_holds_the_numbers_and_survives_that_they_are_erased(
    chain: Chain, tmp_path: Path
) -> None:
    ledger = open_ledger(tmp_path)
    first = chain.release("1")
    second = with_canary(chain)
    text = RescoreVerdict(
        verdict="rejected", findings=(finding("bleu is worse by 3.1"),)
    ).model_dump_json()
    sha256 = ledger.remember(text)
    body = scored_again(chain, second, first)
    chain.add(body.model_copy(update={"verdict_sha256": sha256}))
    model = chain.ledger_state.model(MODEL)
    rescore = read(chain).find_against(model)
    assert rescore is not None
    back = way_back(model, rescore, ledger)
    assert isinstance(back, RolledBack)
    assert (back.to, back.by) == (first, "controller")
    reason = ledger.recall(back.reason_sha256)
    assert reason == (
        f"version 2, scored again (entry {chain.last}): bleu is worse by 3.1"
    )
    chain.add(back)
    ledger.erase(sha256)
    assert describe(rescore, ledger).endswith("is worse or unfair")
    with pytest.raises(IllegalEntry, match="served before"):
        way_back(chain.ledger_state.model("other"), rescore, ledger)
