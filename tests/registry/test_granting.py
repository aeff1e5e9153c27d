"""What becomes of an open wish: granted, refused with the reason, or granted in vain."""

from dataclasses import replace

import pytest

from core.errors import ReleaseError
from registry.ledger.entries import BaseServed, WishClosed, Wished
from registry.ledger.state import RecordedWish
from registry.release.context import ChangeRequest
from registry.release.granting import Answered, answer, goes_back, grant, stops
from tests.support.fake_endpoint import MODEL, Bench, release_of
from tests.support.ledgers import WHY, write

RITA = ChangeRequest("rita", "it is better", "mlflow:rita")
NAME = f"the wish of rita for {MODEL} version 1"


def wish_for(bench: Bench, version: str) -> RecordedWish:
    write(
        bench.ledger,
        Wished(by="rita", reason_sha256=WHY, model=MODEL, version=version),
    )
    wish = bench.ledger.state().model(MODEL).wish
    assert wish is not None
    return wish


def refuse(_: ChangeRequest) -> str:
    return "nobody rated it"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReleaseError("The endpoint is away."), "The endpoint is away."),
        (
            ZeroDivisionError("no rows"),
            "it cannot be judged (ZeroDivisionError: no rows)",
        ),
    ],
)
def test_whatever_goes_wrong_closes_the_wish_with_the_reason(
    bench: Bench, error: Exception, reason: str
) -> None:
    wish = wish_for(bench, "1")

    def fail() -> str:
        raise error

    answered = answer(MODEL, wish, bench.ledger, fail)
    assert answered == Answered(f"Refused: {NAME}: {reason}")
    closed = bench.ledger.entries()[-1].body
    assert isinstance(closed, WishClosed)
    assert bench.ledger.recall(closed.reason_sha256) == reason


def test_what_was_granted_and_came_to_nothing_is_said_so(bench: Bench) -> None:
    wish = wish_for(bench, "1")

    def begin_and_fail() -> str:
        bench.begin("1")
        return "its engine loops"

    answered = answer(MODEL, wish, bench.ledger, begin_and_fail)
    expected = f"Granted: {NAME}. its engine loops"
    assert answered == Answered(expected, has_failed=True)


def test_what_serves_alone_is_not_released_again(bench: Bench) -> None:
    bench.obeys = True
    bench.release("1")
    wish = wish_for(bench, "1")
    order = replace(RITA, wished=wish.generation)
    said = grant(MODEL, wish, order, bench.context, refuse)
    assert said == f"Version 1 of {MODEL} serves already"
    bench.release("2")
    wish = wish_for(bench, "1")
    assert goes_back(bench.ledger.state(), MODEL)
    order = replace(RITA, wished=wish.generation)
    assert grant(MODEL, wish, order, bench.context, refuse) == ""
    assert bench.traffic() == ("1", False)


def test_while_the_base_answers_a_wish_for_what_served_brings_it_back(
    bench: Bench,
) -> None:
    bench.obeys = True
    bench.release("1")
    bench.release("2")
    write(bench.ledger, BaseServed(model=MODEL, by="olga", reason_sha256=WHY))
    wish = wish_for(bench, "1")
    order = replace(RITA, wished=wish.generation)
    assert grant(MODEL, wish, order, bench.context, refuse) == ""
    assert bench.traffic() == ("1", False)


def test_what_is_granted_is_said_so(bench: Bench) -> None:
    wish = wish_for(bench, "1")

    def begin() -> str:
        bench.begin("1")
        return ""

    assert answer(MODEL, wish, bench.ledger, begin) == Answered(f"Granted: {NAME}.")


def test_what_never_served_is_judged(bench: Bench) -> None:
    wish = wish_for(bench, "1")
    assert not goes_back(bench.ledger.state(), MODEL)
    assert grant(MODEL, wish, RITA, bench.context, refuse) == "nobody rated it"


def test_a_wish_stops_only_what_began_before_it(bench: Bench) -> None:
    wish = wish_for(bench, "2")
    bench.begin("1")
    bench.judge("2")
    ledger_state = bench.ledger.state()
    pending = ledger_state.model(MODEL).pending
    assert pending is not None
    assert ledger_state.model(MODEL).wish == wish
    assert stops(ledger_state, MODEL, pending) is None
    later = wish_for(bench, "2")
    assert stops(bench.ledger.state(), MODEL, pending) is None
    bench.judge("2")
    assert stops(bench.ledger.state(), MODEL, pending) == later


def test_without_a_wish_nothing_is_stopped_or_gone_back_to(bench: Bench) -> None:
    bench.begin("1")
    ledger_state = bench.ledger.state()
    model_state = ledger_state.model(MODEL)
    assert model_state.pending is not None
    assert model_state.pending.release == release_of("1")
    assert stops(ledger_state, MODEL, model_state.pending) is None
    assert not goes_back(ledger_state, MODEL)
