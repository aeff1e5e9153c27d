"""What was asked of a model is one case each, with its steps and its end, whatever ends it."""

import pytest

from registry.ledger.entries import (
    BaseServed,
    Body,
    CanaryStep,
    ReleaseAborted,
    ReleaseCompleted,
    ReleaseSwitched,
    RolledBack,
    WishClosed,
    Wished,
)
from registry.release.case import Case
from registry.release.cases import Cases
from tests.support.canaries import plan
from tests.support.ledgers import MODEL, WHY, Chain, begun, frozen, judged, rolled_back


def wished(version: str = "1", by: str = "rita") -> Wished:
    return Wished(model=MODEL, version=version, by=by, reason_sha256=WHY)


def answering(chain: Chain, version: str, wish: int) -> int:
    """Judge and begin what was wished for; gives the generation at which it began."""
    chain.add(judged(version))
    body = begun(chain.last, version)
    chain.add(body.model_copy(update={"wished": wish}))
    return chain.last


def cases_of(chain: Chain) -> Cases:
    cases = Cases()
    cases.read(chain.entries)
    return cases


def ends(cases: Cases) -> list[tuple[str, str, str]]:
    return [
        (case.name, case.end.ending, case.end.word)
        for case in cases.ended
        if case.end is not None
    ]


def step_names(case: Case) -> list[tuple[str, bool]]:
    return [(step.name, step.has_failed) for step in case.steps]


def test_a_wish_and_its_release_are_one_case_from_the_wish_to_full_traffic() -> None:
    chain = Chain()
    chain.add(wished())
    wish = chain.last
    at = answering(chain, "1", wish)
    chain.add(ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
    cases = cases_of(chain)
    (case,) = cases.ended
    assert (case.entry, case.begun, cases.open) == (wish, at, ())
    assert step_names(case) == [
        ("judge: passed", False),
        ("load and probe", False),
        ("full traffic", False),
    ]
    assert ends(cases) == [("release letters 1", "completed", "Released")]
    times = [(step.began, step.ended) for step in case.steps]
    entries = {entry.generation: entry.at for entry in chain.entries}
    assert times == [
        (entries[wish], entries[wish + 1]),
        (entries[at], entries[at + 1]),
        (entries[at + 1], entries[at + 2]),
    ]


def test_each_weight_of_a_canary_is_a_step_and_the_one_that_aborts_failed() -> None:
    chain = Chain()
    chain.release("1")
    chain.add(judged("2"))
    body = begun(chain.last, "2")
    release = body.release.model_copy(update={"canary": plan(weights=(5, 20))})
    chain.add(body.model_copy(update={"release": release}))
    at = chain.last
    chain.add(CanaryStep(begun=at, weight=5))
    (before,) = cases_of(chain).open
    assert before.steps[-1].ended is None
    chain.add(CanaryStep(begun=at, weight=20))
    chain.add(ReleaseAborted(begun=at, reason_sha256=WHY))
    cases = cases_of(chain)
    assert ends(cases)[-1] == ("release letters 2", "failed", "Aborted")
    assert step_names(cases.ended[-1])[1:] == [
        ("load and probe", False),
        ("canary at 5 %", False),
        ("canary at 20 %", True),
    ]


ENDS: list[tuple[Body, str, str]] = [
    (wished("2"), "cancelled", "Superseded"),
    (frozen(), "cancelled", "Frozen"),
    (WishClosed(wished=5, reason_sha256=WHY), "failed", "Refused"),
    (WishClosed(wished=5, reason_sha256=WHY, by="rita"), "cancelled", "TakenBack"),
    (
        BaseServed(model=MODEL, by="olga", reason_sha256=WHY),
        "cancelled",
        "Stopped",
    ),
]


@pytest.mark.parametrize(("body", "ending", "word"), ENDS)
def test_whatever_ends_an_open_wish_ends_its_case(
    body: Body, ending: str, word: str
) -> None:
    chain = Chain()
    chain.release("1")
    chain.add(wished("3"))
    body = (
        body.model_copy(update={"wished": chain.last})
        if isinstance(body, WishClosed)
        else body
    )
    chain.add(body)
    assert ends(cases_of(chain))[-1] == ("release letters 3", ending, word)


def test_a_rollback_while_it_bakes_is_a_failure_by_the_controller_and_no_order() -> (
    None
):
    for by, ending in (("controller", "failed"), ("olga", "cancelled")):
        chain = Chain()
        first = chain.release("1")
        chain.add(judged("2"))
        chain.add(begun(chain.last, "2"))
        chain.add(ReleaseSwitched(begun=chain.last))
        chain.add(RolledBack(model=MODEL, to=first, by=by, reason_sha256=WHY))
        assert ends(cases_of(chain))[1:] == [
            ("release letters 2", ending, "RolledBack"),
            ("rollback letters 1", "completed", "WentBack"),
        ]


def test_a_wish_to_go_back_is_its_own_case_and_no_second_one() -> None:
    chain = Chain()
    first = chain.release("1")
    chain.release("2")
    chain.add(wished("1"))
    back = rolled_back(first).model_copy(update={"wished": chain.last})
    chain.add(back)
    assert ends(cases_of(chain))[2:] == [("release letters 1", "completed", "WentBack")]


def test_a_command_that_judge_refused_is_a_case_that_failed_at_once() -> None:
    chain = Chain()
    chain.add(judged("1", verdict="rejected"))
    cases = cases_of(chain)
    assert ends(cases) == [("release letters 1", "failed", "Refused")]
    assert step_names(cases.ended[0]) == [("judge: rejected", True)]


def test_a_refused_wish_is_one_case_with_its_verdict() -> None:
    chain = Chain()
    chain.add(wished())
    wish = chain.last
    chain.add(judged("1", verdict="undecided"))
    chain.add(WishClosed(wished=wish, reason_sha256=WHY))
    cases = cases_of(chain)
    assert ends(cases) == [("release letters 1", "failed", "Refused")]
    assert step_names(cases.ended[0]) == [("judge: undecided", True)]


def test_reading_entry_by_entry_and_after_a_restart_gives_every_case_once() -> None:
    chain = Chain()
    chain.release("1")
    chain.add(wished("2"))
    answering(chain, "2", chain.last)
    chain.add(wished("3"))
    whole = cases_of(chain)
    one_by_one = Cases()
    for entry in chain.entries:
        one_by_one.read((entry,))
    assert (one_by_one.ended, one_by_one.open) == (whole.ended, whole.open)
    for case in whole.ended:
        assert case.end is not None
        restarted = Cases(after=case.end.entry)
        restarted.read(chain.entries)
        later = [
            each
            for each in whole.ended
            if each.end is not None and each.end.entry > case.end.entry
        ]
        assert (list(restarted.ended), restarted.open) == (later, whole.open)
