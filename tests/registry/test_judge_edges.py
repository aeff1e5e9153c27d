"""What `make mutate` found that no other test of `judge` holds to."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.values.dataset import Interval
from pipelines.values.verdict import Finalist, Finding
from registry.release.judge import check_approvals
from registry.release.judging.circumstances import Approval, Circumstances, HumanRating
from registry.release.judging.origin_rules import check_screening
from registry.release.judging.rating_rules import check_human_rating
from tests.support import trials

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LIMITS = trials.policy().gates.judge
ADAPTER = trials.adapter()
PASSED: dict[str, Any] = {
    "findings": (Finding(rule="trained", outcome="passed", text="it was trained"),),
    "adapter": ADAPTER,
    "spec": trials.spec().with_adapter(ADAPTER.sha256),
}


def case(**facts: Any) -> Circumstances:
    """Only the facts that one rule looks at, and nothing that speaks for the version."""
    nothing: dict[str, Any] = {
        "recomputed_differences": (),
        "origin": None,
        "model": "cheat",
        "version": "7",
        "author": "lena",
        "now": NOW,
        "registered_at": NOW - timedelta(days=1),
    }
    return Circumstances.model_construct(**(nothing | facts))


def screened_in(**facts: Any) -> Finding:
    return check_screening(Finalist.model_construct(**PASSED), case(**facts))


def test_an_older_package_that_was_edited_is_rejected_as_any_other() -> None:
    edited = ("evidence: edited",)
    for is_older in (False, True):
        found = screened_in(recomputed_differences=edited, is_older=is_older)
        assert found.outcome == "rejected"
        assert "first evidence: edited" in found.text


def test_only_of_an_older_package_somebody_must_answer_for_what_is_missing() -> None:
    older, whole = screened_in(is_older=True), screened_in(is_older=False)
    assert (older.outcome, whole.outcome) == ("passed", "passed")
    assert "nobody answers for those" in older.text
    assert "answers for those" not in whole.text


def test_raters_who_all_say_the_same_leave_an_interval_of_one_point() -> None:
    same = Interval(estimate=1.0, low=1.0, high=1.0)
    shown = {"difference": same, "safe_share": same, "agreement": same}
    rating = HumanRating(raters=100, prompts=100, overlap=1.0, **shown)
    assert check_human_rating(case(human_rating=rating), LIMITS).outcome == "passed"


def test_a_missing_account_of_the_author_is_told_only_where_somebody_approved() -> None:
    given = Approval(by="omar", account="1002 (omar)", at=NOW, roles=("approver",))
    told = "the account that trained it is not on record"
    without = {"author_account": None}
    on_record = {"author_account": "1001 (lena)"}
    assert told in check_approvals(case(approvals=(given,), **without), LIMITS).text
    assert told not in check_approvals(case(approvals=(), **without), LIMITS).text
    assert (
        told not in check_approvals(case(approvals=(given,), **on_record), LIMITS).text
    )
