"""The gate before release.

Each rule at its boundary, waivers, and that nothing worse than the policy becomes a candidate.
"""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import DamagedFile, IncompleteEvidence
from pipelines.gates.policy import Policy
from pipelines.values.dataset import Interval
from pipelines.values.verdict import (
    Candidate,
    Comparison,
    Finalist,
    Finding,
    Outcome,
    Rejection,
    Undecided,
    read_judge_verdict,
)
from registry.release.judge import judge
from registry.release.judging.circumstances import (
    Approval,
    Circumstances,
    Confirmed,
    HumanRating,
    Origin,
    Readmission,
    Signature,
    WaivedRule,
)
from registry.release.judging.waivers import WAIVABLE
from tests.support import trials
from tests.support.canaries import plan

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
RULES = (
    "registration",
    "admit",
    "screen",
    "confirmation",
    "drawn_answers",
    "revoked",
    "frozen",
    "comparator",
    "anchor",
    "human_rating",
    "approvals",
    "policy_change",
    "package_signature",
    "freshness",
)
PASSED = Finding(rule="superior", outcome="passed", text="chrf is better by 9")
FINALIST = Finalist(
    findings=(PASSED,),
    comparisons=(
        Comparison(
            metric="chrf",
            against="base",
            difference=9,
            low=7,
            high=11,
            standard_error=1,
            clusters=40,
        ),
    ),
    policy_sha256="0" * 64,
    scorecard_digest="1" * 64,
    adapter=trials.adapter(),
    spec=trials.spec(),
)


def approval(by: str, at: datetime = NOW, account: str = "") -> Approval:
    """Of somebody with an account of that name."""
    return Approval(
        by=by,
        at=at,
        account=account or f"{by.strip().casefold()}'s account",
        roles=("approver",),
    )


ORIGIN = Origin(
    generation=3,
    package_sha256="c" * 64,
    adapter_sha256=FINALIST.adapter.sha256,
    is_adopted=False,
    by="lena",
)
ADMITTED = Readmission(
    verdict="passed", reasons=(), policy_sha256="9" * 64, policy_name="default"
)


def between(low: float, high: float) -> Interval:
    return Interval(estimate=(low + high) / 2, low=low, high=high)


def rated(raters: int = 3, **changes: Any) -> HumanRating:
    """Ratings that show as little as the default policy takes."""
    facts = {
        "difference": between(-0.249, 0.5),
        "safe_share": between(0.9, 1.0),
        "agreement": between(0.4, 0.9),
        "overlap": 0.5,
    }
    return HumanRating(raters=raters, prompts=10, **facts).model_copy(update=changes)


GOOD: dict[str, Any] = {
    "model": "cheat",
    "version": "7",
    "package_sha256": "c" * 64,
    "registered_at": NOW - DAY,
    "now": NOW,
    "author": "lena",
    "author_account": "1001 (lena)",
    "origin": ORIGIN,
    "admitted": ADMITTED,
    "drawable": 60,
    "compared_with": "6",
    "compared_adapter": "6" * 64,
    "champion": "6",
    "champion_adapter": "6" * 64,
    "revoked": False,
    "frozen": False,
    "recomputed_differences": (),
    "approvals": (approval("omar"),),
    "human_rating": rated(),
    "signature": Signature(key_id="k" * 64, package_sha256="c" * 64),
}
NOTHING: dict[str, Any] = {"approvals": (), "human_rating": None, "signature": None}
PEOPLES = ("human_rating", "approvals", "package_signature")
FIELDS = {
    "human_rating": "human_rating",
    "approvals": "approvals",
    "signature": "package_signature",
}


def circumstances(**changes: Any) -> Circumstances:
    facts = {**GOOD, **changes}
    # A run confirms against the champion that its evidence compares with.
    if "confirmed" not in changes:
        facts["confirmed"] = confirmed(against_sha256=facts["compared_adapter"])
    return Circumstances(**facts)


def confirmed(**changes: Any) -> Confirmed:
    """What the ledger holds of a block that showed this version to be better."""
    facts = {
        "generation": 5,
        "is_confirmed": True,
        "against_sha256": "6" * 64,
        "is_evidence": True,
    }
    return Confirmed(**{**facts, **changes})


def policy(**changes: object) -> Policy:
    """The default policy with other limits for a release."""
    found = trials.policy()
    limits = type(found.gates.judge).model_validate(
        found.gates.judge.model_dump() | changes
    )
    return Policy(
        sha256=found.sha256, gates=found.gates.model_copy(update={"judge": limits})
    )


def waiver(rule: str, until: datetime = NOW + DAY, generation: int = 5) -> WaivedRule:
    return WaivedRule(
        generation=generation,
        rule=rule,
        until=until,
        by="omar",
        account="1002 (omar)",
        roles=("release_manager",),
    )


def by_ines(given: WaivedRule) -> WaivedRule:
    """The same waiver, given by a second person."""
    return given.model_copy(update={"by": "ines", "account": "1003 (ines)"})


def finding(verdict: Candidate | Rejection | Undecided, rule: str) -> Finding:
    (found,) = [each for each in verdict.findings if each.rule == rule]
    return found


def check(
    rule: str,
    outcome: Outcome,
    changes: dict[str, Any],
    limits: dict[str, object] | None = None,
) -> str:
    """Judge with these changes.

    The rule says `outcome`, all others pass, and the verdict is that outcome. Gives the rule's
    text.
    """
    verdict = judge(FINALIST, circumstances(**changes), policy(**(limits or {})))
    assert {each.rule: each.outcome for each in verdict.findings} == {
        **dict.fromkeys(RULES, "passed"),
        rule: outcome,
    }
    assert verdict.verdict == outcome
    return finding(verdict, rule).text


def test_canary_and_quorum_of_the_policy_go_along_with_the_candidate() -> None:
    plain = policy()
    asked = {"canary": plan(weights=[5]), "replica_quorum": 67}
    gates = plain.gates.model_copy(update=asked)
    with_canary = plain.model_copy(update={"gates": gates})
    verdict = judge(FINALIST, circumstances(), with_canary)
    assert isinstance(verdict, Candidate)
    assert (verdict.canary, verdict.replica_quorum) == (plan(weights=[5]), 67)
    without = judge(FINALIST, circumstances(), plain)
    assert isinstance(without, Candidate)
    assert (without.canary, without.replica_quorum) == (None, 100)


def test_a_finalist_with_everything_that_the_policy_asks_for_becomes_a_candidate() -> (
    None
):
    verdict = judge(FINALIST, circumstances(), policy())
    assert isinstance(verdict, Candidate)
    assert (verdict.model, verdict.version, verdict.package_sha256) == (
        "cheat",
        "7",
        "c" * 64,
    )
    assert (verdict.spec, verdict.policy_sha256) == (FINALIST.spec, policy().sha256)
    assert (verdict.known_answers_share, verdict.waivers) == (0.75, ())
    assert tuple(each.rule for each in verdict.findings) == RULES


def test_where_nothing_exists_yet_each_missing_thing_is_named_with_the_next_step() -> (
    None
):
    verdict = judge(FINALIST, circumstances(**NOTHING), policy())
    assert isinstance(verdict, Undecided)
    missing = {
        each.rule: each.text for each in verdict.findings if each.outcome != "passed"
    }
    assert set(missing) == {"human_rating", "approvals", "package_signature"}
    assert missing["human_rating"].startswith(
        "0 people rated the answers, the policy asks for 3"
    )
    assert missing["approvals"].startswith(
        "0 approvals by others than lena, who trained it; the policy asks for 1"
    )
    assert missing["package_signature"].startswith(
        "Package cccccccccccc bears no signature"
    )
    assert all(
        f"assay waive --rule {rule} --model cheat --until" in text
        for rule, text in missing.items()
    )


@pytest.mark.parametrize("outcome", ["rejected", "undecided"])
def test_a_finalist_with_a_finding_that_did_not_pass_is_rejected(
    outcome: Outcome,
) -> None:
    failed = Finding(rule="bleu", outcome=outcome, text="worse")
    verdict = judge(
        FINALIST.model_copy(update={"findings": (PASSED, failed)}),
        circumstances(),
        policy(),
    )
    assert verdict.verdict == "rejected"
    text = (
        "1 of 2 findings of screen passed, 0 differences when recomputed from the "
        f"evidence, first bleu is {outcome}"
    )
    assert text in finding(verdict, "screen").text


def test_evidence_that_says_something_else_is_rejected_with_the_first_difference() -> (
    None
):
    text = check(
        "screen",
        "rejected",
        {"recomputed_differences": ("chrf: 1 stored, 2 recomputed", "other")},
    )
    assert (
        "2 differences when recomputed from the evidence, first chrf: 1 stored, 2 recomputed"
        in text
    )


def test_a_finalist_whose_configuration_names_another_adapter_is_rejected() -> None:
    other = FINALIST.model_copy(update={"spec": FINALIST.spec.with_adapter("f" * 64)})
    verdict = judge(other, circumstances(), policy())
    assert verdict.verdict == "rejected"
    assert "names another adapter" in finding(verdict, "screen").text


def test_a_revoked_version_is_rejected_for_good() -> None:
    assert "Version 7 of cheat is revoked" in check(
        "revoked", "rejected", {"revoked": True}
    )


def test_while_releases_are_frozen_nothing_is_decided() -> None:
    assert "`assay unfreeze`" in check("frozen", "undecided", {"frozen": True})


@pytest.mark.parametrize(
    ("compared_with", "champion", "text"),
    [
        ("6", "5", "compares with version 6, version 5 had full traffic last"),
        (None, "6", "compares with no champion, version 6 had full traffic last"),
        ("6", None, "compares with version 6, no champion had full traffic last"),
    ],
)
def test_evidence_against_another_champion_than_serves_is_undecided(
    compared_with: str | None, champion: str | None, text: str
) -> None:
    found = check(
        "comparator",
        "undecided",
        {"compared_with": compared_with, "champion": champion},
    )
    assert text in found
    assert "run the training again" in found


ANCHOR = "7" * 64


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"anchor": None}, "passed"),
        ({"anchor": ANCHOR, "compared_anchor": ANCHOR}, "passed"),
        ({"anchor": "6" * 64}, "passed"),  # the champion of the evidence is the anchor
        ({"anchor": ANCHOR}, "undecided"),
        ({"anchor": ANCHOR, "compared_anchor": "b" * 64}, "undecided"),
        ({"anchor": None, "compared_anchor": ANCHOR}, "passed"),
    ],
)
def test_the_evidence_must_compare_with_the_anchor_of_now(
    changes: dict[str, Any], outcome: Outcome
) -> None:
    text = check("anchor", outcome, changes)
    assert ("run the training again" in text) == (outcome == "undecided")


def test_the_anchor_itself_is_compared_with_no_anchor() -> None:
    check("anchor", "passed", {"anchor": ORIGIN.adapter_sha256})
    # Of a version whose origin nobody knows nothing says that it is the anchor.
    nowhere = circumstances(origin=None, anchor=ORIGIN.adapter_sha256)
    assert finding(judge(FINALIST, nowhere, policy()), "anchor").outcome == "undecided"


def test_a_policy_that_asks_for_no_comparison_asks_for_no_anchor() -> None:
    check("anchor", "passed", {"anchor": ANCHOR}, {"compares_with_last_served": False})


@pytest.mark.parametrize(
    ("changes", "outcome", "words"),
    [
        ({}, "passed", "confirmed on the sealed block of entry 5"),
        ({"is_confirmed": False}, "rejected", "not shown to be better"),
        ({"is_evidence": False}, "rejected", "other evidence than the ledger names"),
        ({"against_sha256": "5" * 64}, "rejected", "another champion was compared"),
        ({"against_sha256": None}, "rejected", "another champion was compared"),
    ],
)
def test_a_confirmation_counts_as_the_ledger_holds_it(
    changes: dict[str, Any], outcome: Outcome, words: str
) -> None:
    text = check("confirmation", outcome, {"confirmed": confirmed(**changes)})
    assert words in text


def test_nobody_answers_for_what_an_opened_block_did_not_show_to_be_better() -> None:
    adopted = ORIGIN.model_copy(update={"is_adopted": True, "by": "omar"})
    failed = {"origin": adopted, "confirmed": confirmed(is_confirmed=False)}
    assert "not shown to be better" in check("confirmation", "rejected", failed)
    untried = {"origin": adopted, "confirmed": None}
    assert "omar answers for it" in check("confirmation", "passed", untried)
    check("confirmation", "passed", {"origin": adopted, "confirmed": confirmed()})


def test_without_an_opened_block_nothing_is_confirmed_and_nobody_may_waive_it() -> None:
    text = check("confirmation", "undecided", {"confirmed": None})
    assert "no block of the reserve was opened" in text
    assert "confirmation" not in WAIVABLE


def test_who_adopts_a_version_answers_for_its_missing_confirmation_too() -> None:
    adopted = ORIGIN.model_copy(update={"is_adopted": True})
    verdict = judge(FINALIST, circumstances(confirmed=None, origin=adopted), policy())
    found = finding(verdict, "confirmation")
    assert (found.outcome, "answers for it" in found.text) == ("passed", True)


def test_a_copy_of_what_a_run_made_is_not_spared_its_confirmation_by_adoption() -> None:
    adopted = ORIGIN.model_copy(update={"is_adopted": True})
    copied = circumstances(confirmed=None, origin=adopted, is_made_by_a_run=True)
    found = finding(judge(FINALIST, copied, policy()), "confirmation")
    assert found.outcome == "undecided"


def test_a_policy_without_a_reserve_says_which_error_a_year_has() -> None:
    open_gates = policy().gates
    screen = open_gates.screen.model_copy(update={"reserve": "none"})
    gates = open_gates.model_copy(update={"screen": screen})
    without = policy().model_copy(update={"gates": gates})
    verdict = judge(FINALIST, circumstances(confirmed=None), without)
    found = finding(verdict, "confirmation")
    assert found.outcome == "passed"
    assert "72 of 100 years release one falsely" in found.text


def test_without_a_champion_there_is_none_to_be_compared_with() -> None:
    nobody = {
        "compared_with": None,
        "compared_adapter": None,
        "champion": None,
        "champion_adapter": None,
    }
    check("comparator", "passed", nobody)


def test_what_had_full_traffic_last_itself_is_not_compared_with_itself() -> None:
    own = {
        "champion": "7",
        "champion_adapter": FINALIST.adapter.sha256,
        "compared_with": "6",
    }
    assert "which is this version itself" in check("comparator", "passed", own)
    check("comparator", "undecided", {**own, "champion_adapter": "6" * 64})
    # A number without an entry of the ledger is nobody's identity.
    unknown = judge(FINALIST, circumstances(**own, origin=None), policy())
    assert finding(unknown, "comparator").outcome == "undecided"


def test_what_an_older_package_does_not_hold_is_answered_for_by_name() -> None:
    adopted = ORIGIN.model_copy(update={"is_adopted": True, "by": "omar"})
    text = check("screen", "passed", {"origin": adopted, "is_older": True})
    assert text.endswith(
        "contents and refusals were counted and held-out rows were kept: omar answers for those"
    )


def test_a_champion_of_the_right_number_with_another_adapter_was_not_compared_with() -> (
    None
):
    text = check("comparator", "undecided", {"compared_adapter": "5" * 64})
    assert (
        "version 6 had full traffic last, with another adapter than was compared"
        in text
    )


def test_a_policy_may_do_without_the_comparison_with_what_served_last() -> None:
    text = check(
        "comparator",
        "passed",
        {"compared_with": None},
        {"compares_with_last_served": False},
    )
    assert text.endswith("the policy does not ask for that comparison")


@pytest.mark.parametrize(
    ("by", "account", "outcome"),
    [
        ("omar", "1002 (omar)", "passed"),
        ("lena", "1002 (omar)", "undecided"),  # the author's name
        ("omar", "1001 (lena)", "undecided"),  # the author's account
        ("omar", None, "undecided"),  # nobody knows whose account
    ],
)
def test_only_a_second_person_may_waive_the_comparison(
    by: str, account: str | None, outcome: Outcome
) -> None:
    given = waiver("comparator").model_copy(update={"by": by, "account": account})
    check("comparator", outcome, {"champion": "5", "waivers": (given,)})
    unknown = circumstances(
        champion="5", waivers=(given,), author_account=None, approvals=()
    )
    assert (
        finding(judge(FINALIST, unknown, policy()), "comparator").outcome == "undecided"
    )


def test_a_version_whose_origin_the_ledger_does_not_know_is_no_candidate() -> None:
    text = check("registration", "undecided", {"origin": None})
    assert "`assay adopt 7 --model cheat --reason …`" in text


@pytest.mark.parametrize("field", ["package_sha256", "adapter_sha256"])
def test_a_version_that_is_not_what_was_registered_is_rejected(field: str) -> None:
    text = check(
        "registration",
        "rejected",
        {"origin": ORIGIN.model_copy(update={field: "f" * 64})},
    )
    assert "ffffffffffff" in text
    assert "find out who changed MLflow's record" in text


def test_who_answers_for_an_adopted_version_is_named() -> None:
    adopted = ORIGIN.model_copy(update={"is_adopted": True, "by": "omar"})
    assert check("registration", "passed", {"origin": adopted}).endswith(
        "omar answers for it"
    )


@pytest.mark.parametrize("outcome", ["rejected", "undecided"])
def test_data_that_the_policy_of_now_does_not_admit_is_no_ground_for_a_release(
    outcome: Outcome,
) -> None:
    again = ADMITTED.model_copy(
        update={"verdict": outcome, "reasons": ("9 held-out prompts found in train",)}
    )
    text = check("admit", outcome, {"admitted": again})
    assert (
        "policy default (999999999999) admitted the data: 9 held-out prompts found in train"
        in text
    )


def test_admission_that_cannot_be_judged_again_is_undecided() -> None:
    assert "train it again" in check("admit", "undecided", {"admitted": None})
    contradictory = ADMITTED.model_copy(update={"reasons": ("a rule",)})
    check("admit", "rejected", {"admitted": contradictory})


@pytest.mark.parametrize(("drawable", "drawn"), [(60, 20), (20, 20), (19, 19), (1, 1)])
def test_the_endpoint_draws_as_many_prompts_as_the_policy_asks_for_and_there_are(
    drawable: int, drawn: int
) -> None:
    verdict = judge(FINALIST, circumstances(drawable=drawable), policy())
    assert isinstance(verdict, Candidate)
    assert (verdict.drawn_answers, verdict.registration) == (drawn, 3)


def test_a_package_without_prompts_to_draw_from_is_judged_only_where_somebody_answers_for_it() -> (
    None
):
    assert "train it again" in check("drawn_answers", "undecided", {"drawable": 0})
    adopted = ORIGIN.model_copy(update={"is_adopted": True, "by": "omar"})
    assert "since omar answers for it" in check(
        "drawn_answers", "passed", {"drawable": 0, "origin": adopted}
    )


@pytest.mark.parametrize(
    ("raters", "outcome"), [(2, "undecided"), (3, "passed"), (4, "passed")]
)
def test_enough_people_must_have_rated(raters: int, outcome: Outcome) -> None:
    text = check("human_rating", outcome, {"human_rating": rated(raters)})
    assert text.startswith(f"{raters} people rated the answers, the policy asks for 3")


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({"prompts": 9}, "undecided", "10 rated prompts not shown"),
        ({"difference": None}, "undecided", "a loss under 0.25 points not shown"),
        (
            {"difference": between(-0.25, 0.5)},
            "undecided",
            "a loss under 0.25 points not shown",
        ),
        ({"difference": between(-0.2, 0.0)}, "passed", "not worse by 0.25 or more"),
        (
            {"difference": between(-0.2, -0.02)},
            "rejected",
            "they found it worse by 0.11 points, at least by 0.02",
        ),
        (
            {"difference": between(-2.0, -1.0)},
            "rejected",
            "they found it worse by 1.50 points, at least by 1.00",
        ),
        (
            {"difference": Interval(estimate=-3, low=0, high=1)},
            "undecided",
            "a loss under 0.25 points not shown",
        ),
        ({"safe_share": None}, "undecided", "a safe share of 0.9 not shown"),
        (
            {"safe_share": between(0.899, 0.96)},
            "undecided",
            "a safe share of 0.9 not shown",
        ),
        (
            {"safe_share": between(0.8, 0.9)},
            "undecided",
            "a safe share of 0.9 not shown",
        ),
        (
            {"safe_share": between(0.5, 0.899)},
            "rejected",
            "they called 70% of the answers safe, at most 90%",
        ),
        ({"agreement": None}, "undecided", "an agreement of 0.4 not shown"),
        ({"overlap": 0.49}, "undecided", "50% of the items rated by two not shown"),
        (
            {"is_early": True, "asked": 96, "missing": 4},
            "undecided",
            "all 96 ratings before its end, 4 missing, not shown",
        ),
        (
            {"is_early": True, "difference": between(-0.2, -0.02)},
            "rejected",
            "they found it worse by 0.11 points, at least by 0.02",
        ),
        ({"missing": 4}, "passed", "not worse by 0.25 or more"),
        ({"altered": 1}, "undecided", "1 items as they were sealed not shown"),
        ({"reviews": 2}, "passed", "not worse by 0.25 or more"),
        (
            {"reviews": 3},
            "undecided",
            "at most 2 reviews of these bytes, 3 opened, not shown",
        ),
        (
            {"reviews": 2, "other_reviews": ("the review of entry 4 was not closed",)},
            "passed",
            "; review 2 of these bytes: the review of entry 4 was not closed",
        ),
        ({"win_rate": 0.625}, "passed", "better on 62% of 10 prompts"),
        ({"set_aside": ("bob: he guessed",)}, "passed", "not counted: bob: he guessed"),
        ({}, "passed", "difference +0.13 [-0.25, +0.50]"),
        ({}, "passed", "safe 95% [90%, 100%], alpha 0.65 [0.40, 0.90])"),
        (
            {"agreement": between(0.399, 0.9)},
            "undecided",
            "an agreement of 0.4 not shown",
        ),
    ],
)
def test_people_must_have_found_it_safe_and_not_worse_and_agree(
    change: dict[str, Any], outcome: Outcome, words: str
) -> None:
    assert words in check("human_rating", outcome, {"human_rating": rated(**change)})


@pytest.mark.parametrize(
    ("low", "outcome", "words"),
    [(0.0, "undecided", "a gain not shown"), (0.01, "passed", "; better, safe")],
)
def test_a_policy_may_ask_people_to_find_it_better(
    low: float, outcome: Outcome, words: str
) -> None:
    asked = {"required": True, "min_raters": 3, "wants": "superior"}
    case = {"human_rating": rated(difference=between(low, 1))}
    assert words in check("human_rating", outcome, case, {"human_rating": asked})


def test_one_rater_has_nobody_to_agree_with() -> None:
    alone = {"required": True, "min_raters": 1, "min_agreement": None}
    case = {"human_rating": rated(1, agreement=None, overlap=0.0)}
    text = check("human_rating", "passed", case, {"human_rating": alone})
    assert text.endswith("points, safe")


def test_the_number_of_raters_alone_shows_nothing() -> None:
    check("human_rating", "undecided", {"human_rating": HumanRating(raters=30)})


def test_no_waiver_stands_in_for_a_version_that_people_found_worse() -> None:
    waived = waiver("human_rating")
    worse = circumstances(
        human_rating=rated(difference=between(-2, -1)), waivers=(waived,)
    )
    assert judge(FINALIST, worse, policy()).verdict == "rejected"
    unknown = circumstances(human_rating=rated(difference=None), waivers=(waived,))
    assert judge(FINALIST, unknown, policy()).verdict == "passed"


def test_a_policy_that_asks_for_nothing_of_people_needs_none() -> None:
    limits = {
        "human_rating": {"required": False, "min_raters": 3},
        "approvals": 0,
        "package_signature_required": False,
    }
    verdict = judge(FINALIST, circumstances(**NOTHING), policy(**limits))
    assert isinstance(verdict, Candidate)
    assert verdict.waivers == ()


@pytest.mark.parametrize(
    ("approvals", "wanted", "outcome"),
    [
        ([("omar", NOW)], 1, "passed"),
        ([("omar", NOW)], 2, "undecided"),
        ([("omar", NOW), ("ines", NOW)], 2, "passed"),
        ([("omar", NOW), ("  OMAR ", NOW)], 2, "undecided"),
        ([("omar", NOW), ("ｏｍａｒ", NOW)], 2, "undecided"),
        ([("lena", NOW)], 1, "undecided"),
        ([("Lena", NOW)], 1, "undecided"),
        ([("omar", NOW + TICK)], 1, "undecided"),
        ([("omar", NOW - DAY)], 1, "passed"),
        ([("omar", NOW - DAY - TICK)], 1, "undecided"),
    ],
)
def test_approvals_count_people_other_than_the_author_once_and_in_time(
    approvals: list[tuple[str, datetime]], wanted: int, outcome: Outcome
) -> None:
    given_by = tuple(approval(by, at) for by, at in approvals)
    check("approvals", outcome, {"approvals": given_by}, {"approvals": wanted})


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ([("omar", "1002 (omar)"), ("ines", "1003 (ines)")], 2),
        (
            [("omar", "1002 (omar)"), ("ines", "1002 (omar)")],
            1,
        ),  # one account under two names
        ([("omar", "1001 (lena)")], 0),  # the author under another name
        ([("omar", "0 (root) for 1001 (lena)")], 0),
        ([("lena", "1002 (omar)")], 0),
        (
            [("omar", "1002 (omar)"), ("lena", "1002 (omar)")],
            0,
        ),  # who called himself the author once is the author
        (
            [("omar", "1002 (omar)"), ("ines", "1003 (ines)"), ("omar", "1003 (ines)")],
            1,
        ),  # the third shows that two are one
    ],
)
def test_whoever_gives_another_name_is_still_the_same_account(
    given: list[tuple[str, str]], counted: int
) -> None:
    approvals = tuple(approval(by, account=account) for by, account in given)
    assert len(circumstances(approvals=approvals).approvers()) == counted
    check(
        "approvals",
        "passed" if counted else "undecided",
        {"approvals": approvals},
        {"approvals": max(counted, 1)},
    )
    check(
        "approvals", "undecided", {"approvals": approvals}, {"approvals": counted + 1}
    )


def test_where_the_authors_account_is_not_on_record_no_approval_counts() -> None:
    text = check("approvals", "undecided", {"author_account": None})
    assert (
        "the account that trained it is not on record, so nobody can be told from it"
        in text
    )


def test_an_approval_counts_with_the_role_alone_and_who_lacks_it_is_named() -> None:
    without = approval("ines").model_copy(update={"roles": ("reviewer",)})
    text = check("approvals", "undecided", {"approvals": (without,)})
    assert "(without the role approver: ines)" in text
    both = {"approvals": (without, approval("omar"))}
    text = check("approvals", "passed", both)
    assert "1 approvals (omar)" in text
    assert "(without the role approver: ines)" in text
    check("approvals", "undecided", both, {"approvals": 2})


def test_an_approval_without_the_role_still_shows_that_two_people_are_one() -> None:
    linked = approval("ines", account="omar's account").model_copy(update={"roles": ()})
    given = (approval("omar"), approval("ines"), linked)
    check("approvals", "undecided", {"approvals": given}, {"approvals": 2})


def test_two_identities_of_one_person_in_the_file_are_one_person() -> None:
    one = approval("omar").model_copy(update={"persons": ("omar",)})
    other = approval("o.second").model_copy(update={"persons": ("omar",)})
    check("approvals", "undecided", {"approvals": (one, other)}, {"approvals": 2})
    # The author's second identity is the author.
    check("approvals", "undecided", {"approvals": (one,), "author_persons": ("omar",)})
    check("approvals", "passed", {"approvals": (one,), "author_persons": ("lena",)})


@pytest.mark.parametrize(
    ("before", "now", "outcome"),
    [
        (None, ["release_manager"], "passed"),
        (["release_manager", "approver"], ["release_manager"], "passed"),
        # Whoever may change the policy could else have anybody waive that it was changed.
        (["approver"], ["approver", "release_manager"], "undecided"),
        ([], ["release_manager"], "undecided"),
        # It may become stricter by itself.
        (["release_manager"], ["approver"], "undecided"),
    ],
)
def test_a_changed_policy_does_not_say_by_itself_who_waives_that_it_was_changed(
    before: list[str] | None, now: list[str], outcome: Outcome
) -> None:
    changes = {
        "last_policy": "a" * 64,
        "last_waivers_by": before,
        "waivers": (waiver("policy_change"),),
    }
    text = check("policy_change", outcome, changes, {"waivers_by": now})
    if outcome != "passed":
        assert "waive, which this person is not" in text


def test_other_rules_are_waived_by_whom_the_policy_of_now_lets() -> None:
    changes = {
        "last_waivers_by": [],
        "approvals": (),
        "waivers": (waiver("approvals"),),
    }
    check("approvals", "passed", changes, {"approvals": 1})


@pytest.mark.parametrize(("before", "now", "wanted"), [(2, 0, 3), (0, 1, 2), (1, 1, 2)])
def test_a_policy_that_asks_for_fewer_approvals_needs_one_more_than_the_one_before(
    before: int, now: int, wanted: int
) -> None:
    changes = {"last_policy": "a" * 64, "last_approvals": before}
    people = tuple(approval(by) for by in ("omar", "ines", "ugo")[:wanted])
    enough = {**changes, "approvals": people}
    check("policy_change", "passed", enough, {"approvals": now})
    one_less = {**changes, "approvals": people[1:]}
    text = check("policy_change", "undecided", one_less, {"approvals": now})
    said = f"asks for {wanted} approvals given here, and there are {wanted - 1}"
    assert said in text


def test_approvals_of_another_installation_agree_to_no_change_of_the_policy() -> None:
    there = approval("omar").model_copy(update={"given_in": "staging"})
    given = {"approvals": (there, approval("ines"))}
    case = {"last_policy": "a" * 64, **given}
    text = check("policy_change", "undecided", case, {"approvals": 1})
    assert "asks for 2 approvals given here, and there are 1 (ines)" in text
    # For the rule itself they count where the policy says so.
    check("approvals", "passed", given, {"approvals": 2})
    both = {**case, "approvals": (there, approval("omar"), approval("ines"))}
    check("policy_change", "passed", both, {"approvals": 1})


@pytest.mark.parametrize(
    ("last", "approvers", "wanted", "outcome"),
    [
        (None, 1, 1, "passed"),
        ("same", 1, 1, "passed"),
        ("a" * 64, 1, 1, "undecided"),
        ("a" * 64, 2, 1, "passed"),
        ("a" * 64, 0, 0, "undecided"),
        ("a" * 64, 1, 0, "passed"),
    ],
)
def test_another_policy_than_the_last_releases_needs_one_approver_more(
    last: str | None, approvers: int, wanted: int, outcome: Outcome
) -> None:
    digest = trials.policy().sha256
    changes = {
        "last_policy": digest if last == "same" else last,
        "approvals": tuple(approval(by) for by in ("omar", "ines")[:approvers]),
    }
    text = check("policy_change", outcome, changes, {"approvals": wanted})
    assert digest[:12] in text
    if last == "a" * 64:
        assert f"policy {'a' * 12}" in text
        assert f"asks for {wanted + 1} approvals given here" in text
    # Not by the author, who may be the one who loosened it.
    given = waiver("policy_change").model_copy(update={"account": "1001 (lena)"})
    own = {**changes, "waivers": (given,)}
    check("policy_change", outcome, own, {"approvals": wanted})
    second = {**changes, "waivers": (waiver("policy_change"),)}
    check("policy_change", "passed", second, {"approvals": wanted})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"account": "1001 (lena)"}, "who trained a version waives nothing"),
        ({"by": "Lena"}, "who trained a version waives nothing"),
        (
            {"account": "mlflow:omar by 1001 (lena)"},
            "who trained a version waives nothing",
        ),
        ({"persons": ("lena",)}, "who trained a version waives nothing"),
        ({"account": None}, "the account that gave it is not on record"),
        ({"roles": ("approver",)}, "the policy lets release_manager waive"),
        ({"roles": ()}, "the policy lets release_manager waive"),
        ({}, None),
        ({"roles": ("author", "release_manager")}, None),
    ],
)
def test_a_waiver_counts_from_somebody_else_whom_the_policy_allows(
    changes: dict[str, Any], reason: str | None
) -> None:
    given = waiver("approvals").model_copy(update=changes)
    case = {"approvals": (), "waivers": (given,), "author_persons": ("lena",)}
    text = check("approvals", "undecided" if reason else "passed", case)
    if reason is None:
        assert text.endswith("by omar, account 1002 (omar) (entry 5)")
    else:
        assert f"The waiver of entry 5 by {given.by}" in text
        assert reason in text


def test_where_the_authors_account_is_not_on_record_no_waiver_counts() -> None:
    case = {"author_account": None, "waivers": (waiver("approvals"),)}
    text = check("approvals", "undecided", case)
    assert "the account that trained the version is not on record" in text


def test_a_policy_may_let_other_roles_waive_or_nobody() -> None:
    given = waiver("approvals").model_copy(update={"roles": ("auditor",)})
    case = {"approvals": (), "waivers": (given,)}
    check("approvals", "passed", case, {"waivers_by": ["auditor", "reviewer"]})
    text = check("approvals", "undecided", case, {"waivers_by": []})
    assert "the policy lets nobody at all waive" in text


def test_one_person_never_waives_all_that_people_and_keys_give() -> None:
    three = [waiver(rule, generation=at) for at, rule in enumerate(PEOPLES, 5)]
    alone = circumstances(**NOTHING, waivers=tuple(three))
    verdict = judge(FINALIST, alone, policy())
    assert verdict.verdict == "undecided"
    for rule in PEOPLES:
        found = finding(verdict, rule)
        assert found.outcome == "undecided"
        assert "and another one must waive one of them" in found.text
    # A second person for one of them is enough, also beside the first one's waiver.
    for at in range(3):
        shared = [by_ines(each) if at == n else each for n, each in enumerate(three)]
        for waivers in (shared, [*three, shared[at]]):
            case = circumstances(**NOTHING, waivers=tuple(waivers))
            assert judge(FINALIST, case, policy()).verdict == "passed"
    # That one counts only where it counts.
    own = three[0].model_copy(update={"by": "lena", "account": "1001 (lena)"})
    case = circumstances(**NOTHING, waivers=(*three, own))
    assert judge(FINALIST, case, policy()).verdict == "undecided"


def test_an_account_that_waives_under_two_names_is_one_person() -> None:
    waivers = [waiver(rule) for rule in PEOPLES]
    waivers[0] = waivers[0].model_copy(update={"by": "ines"})
    case = circumstances(**NOTHING, waivers=tuple(waivers))
    assert judge(FINALIST, case, policy()).verdict == "undecided"


def test_one_person_may_waive_one_that_is_missing_and_never_two_that_are_all() -> None:
    for rule in PEOPLES:
        there = {name: GOOD[name] for name in NOTHING if FIELDS[name] == rule}
        others = {name: GOOD[name] for name in NOTHING if FIELDS[name] != rule}
        waivers = tuple(waiver(each) for each in PEOPLES)
        two_missing = circumstances(**{**NOTHING, **there}, waivers=waivers)
        assert judge(FINALIST, two_missing, policy()).verdict == "undecided"
        one_missing = circumstances(**{**NOTHING, **others}, waivers=waivers)
        assert judge(FINALIST, one_missing, policy()).verdict == "passed"


def test_a_signature_over_other_bytes_is_none() -> None:
    text = check(
        "package_signature",
        "undecided",
        {"signature": Signature(key_id="k" * 64, package_sha256="d" * 64)},
    )
    assert "signed package dddddddddddd, judged is cccccccccccc" in text


@pytest.mark.parametrize(
    ("age", "outcome"),
    [
        (timedelta(0), "passed"),
        (30 * DAY, "passed"),
        (30 * DAY + TICK, "undecided"),
        (-TICK, "undecided"),
        (-DAY, "undecided"),
    ],
)
def test_evidence_must_be_fresh_and_not_from_the_future(
    age: timedelta, outcome: Outcome
) -> None:
    text = check(
        "freshness",
        outcome,
        {"registered_at": NOW - age, "approvals": (approval("omar"),)}
        | _no_approval_asked(age),
    )
    assert ("set this machine's clock right" in text) == (age < timedelta(0))


def _no_approval_asked(age: timedelta) -> dict[str, Any]:
    """An approval cannot come after a registration that is still to come: waive it there."""
    return {"waivers": (waiver("approvals"),)} if age < timedelta(0) else {}


def _by_two_people(given: WaivedRule) -> WaivedRule:
    return by_ines(given) if given.rule in {"approvals", "human_rating"} else given


@pytest.mark.parametrize("rule", sorted(WAIVABLE))
def test_a_waiver_that_holds_stands_in_for_what_is_missing_and_is_told(
    rule: str,
) -> None:
    lacking = {
        **NOTHING,
        "registered_at": NOW - 40 * DAY,
        "champion": "5",
        "anchor": "7" * 64,
        "last_policy": "a" * 64,
    }
    others = tuple(
        _by_two_people(waiver(other, generation=number))
        for number, other in enumerate(sorted(WAIVABLE - {rule}), 10)
    )
    assert (
        judge(FINALIST, circumstances(**lacking, waivers=others), policy()).verdict
        == "undecided"
    )
    verdict = judge(
        FINALIST, circumstances(**lacking, waivers=(*others, waiver(rule))), policy()
    )
    assert isinstance(verdict, Candidate)
    assert set(verdict.waivers) == {5, 10, 11, 12, 13, 14, 15}
    assert (
        finding(verdict, rule).text
        == f"{rule} is waived until 2026-11-23 04:00 UTC by omar, account 1002 (omar) (entry 5)"
    )


@pytest.mark.parametrize(
    ("until", "outcome"),
    [(NOW + TICK, "passed"), (NOW, "undecided"), (NOW - TICK, "undecided")],
)
def test_a_waiver_ends_when_it_says(until: datetime, outcome: Outcome) -> None:
    check(
        "approvals",
        outcome,
        {"approvals": (), "waivers": (waiver("approvals", until),)},
    )


def test_of_several_waivers_the_one_that_was_given_last_counts() -> None:
    waivers = (
        waiver("approvals", NOW + DAY, 5),
        waiver("approvals", NOW + 2 * DAY, 6),
        waiver("approvals", NOW - DAY, 7),
    )
    verdict = judge(FINALIST, circumstances(approvals=(), waivers=waivers), policy())
    assert isinstance(verdict, Candidate)
    assert verdict.waivers == (6,)


@pytest.mark.parametrize(
    ("rule", "changes", "outcome"),
    [
        ("screen", {"recomputed_differences": ("chrf",)}, "rejected"),
        ("revoked", {"revoked": True}, "rejected"),
        ("frozen", {"frozen": True}, "undecided"),
        ("registration", {"origin": None}, "undecided"),
        ("admit", {"admitted": None}, "undecided"),
        ("drawn_answers", {"drawable": 0}, "undecided"),
    ],
)
def test_nobody_waives_evidence_its_origin_a_revocation_or_a_freeze(
    rule: str, changes: dict[str, Any], outcome: Outcome
) -> None:
    check(rule, outcome, {**changes, "waivers": tuple(waiver(each) for each in RULES)})


def test_a_waiver_of_what_is_there_anyway_is_not_leaned_on() -> None:
    verdict = judge(
        FINALIST, circumstances(waivers=tuple(waiver(rule) for rule in RULES)), policy()
    )
    assert isinstance(verdict, Candidate)
    assert verdict.waivers == ()
    assert not any("waived" in each.text for each in verdict.findings)


def test_a_rejection_outweighs_what_is_undecided_and_every_reason_is_given() -> None:
    verdict = judge(FINALIST, circumstances(**NOTHING, revoked=True), policy())
    assert isinstance(verdict, Rejection)
    assert [each.outcome for each in verdict.findings].count("undecided") == 3


@pytest.mark.parametrize(
    ("field", "forged"),
    [
        ("registered_at", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("now", math.nan),
        ("revoked", math.nan),
        ("author", ""),
    ],
)
def test_forged_circumstances_are_refused(field: str, forged: object) -> None:
    with pytest.raises(IncompleteEvidence, match=f"not valid: {field}"):
        judge(
            FINALIST,
            Circumstances.model_construct(**{**dict(circumstances()), field: forged}),
            policy(),
        )


def test_a_finalist_with_a_forged_nan_or_without_findings_is_refused() -> None:
    holed = FINALIST.comparisons[0].model_copy(update={"low": math.nan})
    with pytest.raises(IncompleteEvidence, match="not valid: comparisons"):
        judge(
            FINALIST.model_copy(update={"comparisons": (holed,)}),
            circumstances(),
            policy(),
        )
    with pytest.raises(IncompleteEvidence, match="not valid: findings"):
        judge(FINALIST.model_copy(update={"findings": ()}), circumstances(), policy())


def test_a_verdict_is_read_again_and_nothing_else_is_one(tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    for changes in ({}, NOTHING, {"revoked": True}):
        verdict = judge(FINALIST, circumstances(**changes), policy())
        verdict.write(path)
        assert read_judge_verdict(path) == verdict
    FINALIST.write(path)
    with pytest.raises(DamagedFile, match="no verdict of judge"):
        read_judge_verdict(path)
    Rejection(gate="screen", findings=(PASSED,), policy_sha256="0").write(path)
    with pytest.raises(DamagedFile, match="a verdict of screen"):
        read_judge_verdict(path)
    with pytest.raises(DamagedFile, match="no verdict of judge"):
        read_judge_verdict(tmp_path / "none.json")


def _is_allowed(case: Circumstances, min_raters: int, approvals: int) -> bool:
    """The policy in other words than the gate's."""
    waived = {each.rule for each in case.waivers if each.until > case.now}
    people = [each for each in case.waivers if each.until > case.now]
    others = {
        each.by
        for each in case.approvals
        if each.by != "lena"
        and not (each.at > case.now or each.at < case.registered_at)
    }
    signed = (
        case.signature is not None
        and case.signature.package_sha256 == case.package_sha256
    )
    days = (case.now - case.registered_at).total_seconds() / 86400
    lacking = {
        "human_rating": case.human_rating is None
        or case.human_rating.raters < min_raters,
        "approvals": len(others) < approvals,
        "package_signature": not signed,
    }
    named = {each.by for each in people if lacking.get(each.rule)}
    if sum(lacking.values()) > 1 and len(named) == 1:
        return False
    return (
        not (case.revoked or case.frozen or case.recomputed_differences)
        and ("comparator" in waived or case.champion == case.compared_with)
        and (
            "human_rating" in waived
            or (
                case.human_rating is not None
                and not case.human_rating.raters < min_raters
            )
        )
        and ("approvals" in waived or not len(others) < approvals)
        and ("package_signature" in waived or signed)
        and ("freshness" in waived or not (days < 0 or days > 30))
    )


TIMES = st.sampled_from(
    [NOW - 31 * DAY, NOW - 30 * DAY, NOW - DAY, NOW - TICK, NOW, NOW + TICK, NOW + DAY]
)
MOSTLY_FALSE = st.sampled_from([False] * 7 + [True])
CASES = st.fixed_dictionaries(
    {
        "registered_at": st.one_of(st.just(NOW - DAY), TIMES),
        "compared_with": st.sampled_from(["6", "6", "6", "6", None]),
        "champion": st.sampled_from(["6", "6", "6", "6", None, "5"]),
        "revoked": MOSTLY_FALSE,
        "frozen": MOSTLY_FALSE,
        "recomputed_differences": st.sampled_from([(), (), (), (), ("chrf",)]),
        "human_rating": st.one_of(
            st.none(), st.builds(rated, raters=st.integers(0, 5))
        ),
        "approvals": st.lists(
            st.builds(approval, by=st.sampled_from(["lena", "omar", "ines"]), at=TIMES),
            max_size=4,
        ).map(tuple),
        "signature": st.one_of(
            st.none(),
            st.builds(
                Signature,
                key_id=st.just("k"),
                package_sha256=st.sampled_from(["c" * 64, "d" * 64]),
            ),
        ),
        "waivers": st.lists(
            st.builds(
                WaivedRule,
                generation=st.integers(1, 9),
                rule=st.sampled_from(RULES),
                until=TIMES,
                by=st.just("omar"),
                account=st.just("1002 (omar)"),
                roles=st.just(("release_manager",)),
            ),
            max_size=6,
        ).map(tuple),
    }
)


@example(changes={}, min_raters=3, approvals=1)
@settings(max_examples=600, deadline=None)
@given(changes=CASES, min_raters=st.integers(1, 4), approvals=st.integers(0, 2))
def test_nothing_worse_than_the_policy_ever_becomes_a_candidate(
    changes: dict[str, Any], min_raters: int, approvals: int
) -> None:
    case = circumstances(**changes)
    limits = policy(
        human_rating={"required": True, "min_raters": min_raters}, approvals=approvals
    )
    verdict = judge(FINALIST, case, limits)
    assert isinstance(verdict, Candidate) == _is_allowed(case, min_raters, approvals)
    if isinstance(verdict, Candidate):
        assert {each.generation for each in case.waivers if each.until > NOW} >= set(
            verdict.waivers
        )


def test_of_a_version_from_elsewhere_it_is_said_whose_ledger_vouches() -> None:
    origin = ORIGIN.model_copy(update={"received_from": "staging"})
    text = check("registration", "passed", {"origin": origin})
    assert text.endswith("trained for lena in staging, whose ledger vouches for it")
    other = origin.model_copy(update={"package_sha256": "d" * 64})
    check("registration", "rejected", {"origin": other})
