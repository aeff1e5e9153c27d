"""A wish is handed in, and waited for until somebody answers it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BrokenLedger
from registry.ledger.entries import (
    Body,
    ReleaseAborted,
    ReleaseSwitched,
    Revoked,
    WishClosed,
    Wished,
)
from registry.ledger.ledger import Ledger, open_ledger
from registry.release.context import ChangeRequest
from registry.release.granting import grant
from registry.release.release import drive_release
from registry.release.wishing import Answer, Subject, WishDesk, find_answer
from tests.support.fake_endpoint import Bench, release_of
from tests.support.ledgers import (
    MODEL,
    WHY,
    append_released,
    begin_release,
    begun,
    complete_release,
    frozen,
    judged,
    package,
    rolled_back,
    write,
)

RITA = ChangeRequest("rita", "it is better", "mlflow:rita")
Answering = Callable[[Ledger, int], None]
bench_model = release_of("1").model


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path)


def desk(ledger: Ledger, answer: Answering, seconds: float = 30.0) -> WishDesk:
    """One whose ring has the wish answered at once."""

    def ring() -> bool:
        answer(ledger, ledger.state().head.generation)
        return True

    return WishDesk(ledger, ring, seconds)


def release_it(ledger: Ledger, wish: int, version: str = "1") -> None:
    verdict = write(ledger, judged(version))
    write(ledger, begun(verdict, version).model_copy(update={"wished": wish}))


def refuse_it(ledger: Ledger, wish: int) -> None:
    reason = ledger.remember("nobody rated it")
    write(ledger, WishClosed(wished=wish, reason_sha256=reason))


def test_a_wish_is_granted_by_the_release_that_answers_it(ledger: Ledger) -> None:
    answer = desk(ledger, release_it).hand_in(Subject(MODEL, "1"), RITA)
    assert answer == Answer(is_granted=True, text="entry 4")
    wish = ledger.entries()[1].body
    assert isinstance(wish, Wished)
    assert (wish.by, wish.account) == ("rita", "mlflow:rita")
    assert ledger.recall(wish.reason_sha256) == "it is better"


def test_a_refusal_gives_the_reason(ledger: Ledger) -> None:
    answer = desk(ledger, refuse_it).hand_in(Subject(MODEL, "1"), RITA)
    assert answer == Answer(is_granted=False, text="nobody rated it")


def test_an_erased_reason_is_a_refusal_all_the_same(ledger: Ledger) -> None:
    def refuse_and_erase(ledger: Ledger, wish: int) -> None:
        refuse_it(ledger, wish)
        ledger.erase(ledger.remember("nobody rated it"))

    answer = desk(ledger, refuse_and_erase).hand_in(Subject(MODEL, "1"), RITA)
    assert answer == Answer(is_granted=False, text="its reason was erased")


def test_going_back_grants_a_wish(ledger: Ledger) -> None:
    append_released(ledger, "1")
    one = ledger.state().model(MODEL).once_served[0].begun
    append_released(ledger, "2")

    def go_back(ledger: Ledger, wish: int) -> None:
        write(ledger, rolled_back(one).model_copy(update={"wished": wish}))

    assert desk(ledger, go_back).hand_in(Subject(MODEL, "1"), RITA).is_granted


def test_stopping_what_is_on_its_way_grants_a_wish_for_what_serves(
    ledger: Ledger,
) -> None:
    append_released(ledger, "1")
    pending = write(ledger, begun(write(ledger, judged("2")), "2"))

    def stop(ledger: Ledger, wish: int) -> None:
        aborted = ReleaseAborted(
            begun=pending, reason_sha256=WHY, by="rita", wished=wish
        )
        write(ledger, aborted)

    assert desk(ledger, stop).hand_in(Subject(MODEL, "1"), RITA).is_granted
    assert ledger.state().model(MODEL).pending is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            Wished(by="eve", reason_sha256=WHY, model=MODEL, version="2"),
            r"entry 3 \(wished by eve\) came first",
        ),
        (frozen("olga"), r"entry 3 \(frozen by olga\) came first"),
        (
            Revoked(by="olga", reason_sha256=WHY, model=MODEL, version="1"),
            r"entry 3 \(revoked by olga\) came first",
        ),
    ],
)
def test_who_is_overtaken_is_told_by_whom(
    ledger: Ledger, body: Body, words: str
) -> None:
    answer = desk(ledger, lambda ledger, _: _write(ledger, body)).hand_in(
        Subject(MODEL, "1"), RITA
    )
    assert not answer.is_granted
    assert answer.text == words.replace("\\", "")


def _write(ledger: Ledger, body: Body) -> None:
    write(ledger, body)


def test_a_wish_that_nobody_answers_is_taken_back(ledger: Ledger) -> None:
    silent = WishDesk(ledger, lambda: False, seconds=0.2)
    answer = silent.hand_in(Subject(MODEL, "1"), RITA)
    assert not answer.is_granted
    assert "nobody answered within 0 s" in answer.text
    assert ledger.state().model(MODEL).wish is None
    closed = ledger.entries()[-1].body
    assert isinstance(closed, WishClosed)
    assert closed.by == "rita"


def test_a_wish_waits_for_longer_while_a_controller_hears_and_not_for_ever(
    ledger: Ledger,
) -> None:
    rings: list[int] = []

    def hear() -> bool:
        rings.append(ledger.state().head.generation)
        return True

    slow = WishDesk(
        ledger,
        hear,
        seconds=0.1,
        longest=0.6,
        seconds_between_rings=0.05,
    )
    answer = slow.hand_in(Subject(MODEL, "1"), RITA)
    assert not answer.is_granted
    assert "it was not judged within 1 s" in answer.text
    assert len(rings) > 2
    assert ledger.state().model(MODEL).wish is None


def test_a_controller_that_hears_no_more_is_waited_for_no_longer(
    ledger: Ledger,
) -> None:
    heard = [True, False, False]
    desk = WishDesk(
        ledger,
        lambda: heard.pop(0) if heard else False,
        seconds=0.1,
        longest=600.0,
        seconds_between_rings=0.05,
    )
    assert "nobody answered" in desk.hand_in(Subject(MODEL, "1"), RITA).text


def test_an_answer_that_comes_as_the_time_ends_counts(ledger: Ledger) -> None:
    answer = desk(ledger, release_it, seconds=0.0).hand_in(Subject(MODEL, "1"), RITA)
    assert answer.is_granted


def test_an_answer_is_found_by_whoever_waits_in_another_thread(ledger: Ledger) -> None:
    def answer_later(ledger: Ledger, wish: int) -> None:
        threading.Timer(0.3, release_it, (open_ledger(ledger.home), wish)).start()

    assert desk(ledger, answer_later).hand_in(Subject(MODEL, "1"), RITA).is_granted


def test_what_is_released_already_needs_no_wish(ledger: Ledger) -> None:
    append_released(ledger, "1")
    before = ledger.entries()
    assert WishDesk(ledger, lambda: False).hand_in(Subject(MODEL, "1"), RITA).is_granted
    write(ledger, begun(write(ledger, judged("2")), "2"))
    assert WishDesk(ledger, lambda: False).hand_in(Subject(MODEL, "2"), RITA).is_granted
    kinds = [entry.body.kind for entry in ledger.entries()[len(before) :]]
    assert kinds == ["judged", "release_begun"]


def test_a_wish_that_may_not_be_is_refused_with_the_rule(ledger: Ledger) -> None:
    write(ledger, frozen())
    answer = WishDesk(ledger, lambda: False).hand_in(Subject(MODEL, "1"), RITA)
    assert not answer.is_granted
    assert "releases are frozen since entry 2" in answer.text


def test_an_entry_about_another_model_answers_nothing(ledger: Ledger) -> None:
    wish = write(ledger, Wished(by="r", reason_sha256=WHY, model=MODEL, version="1"))
    write(ledger, begun(write(ledger, judged("1", "other")), "1", "other"))
    assert find_answer(ledger, wish) is None


def wish_for(bench: Bench, version: str, package_sha256: str | None = None) -> int:
    wish = Wished(
        by="eve",
        reason_sha256=WHY,
        model=bench_model,
        version=version,
        package_sha256=package_sha256,
    )
    return write(bench.ledger, wish)


def test_a_release_on_its_way_gives_way_to_a_later_wish_that_passed(
    bench: Bench,
) -> None:
    begun_at = bench.begin("1")
    generation = wish_for(bench, "2")
    bench.judge("2")
    body = bench.next()
    assert isinstance(body, ReleaseAborted)
    assert body.begun == begun_at
    assert bench.ledger.recall(body.reason_sha256) == (
        f"eve wished for version 2 (entry {generation})"
    )
    drive_release(bench_model, bench.context)
    state = bench.ledger.state().model(bench_model)
    assert state.pending is None
    assert state.wish is not None
    assert state.wish.generation == generation


@pytest.mark.parametrize("verdicts", [(), ("rejected",), ("passed", "undecided")])
def test_a_release_on_its_way_goes_on_until_the_wished_version_has_passed(
    bench: Bench, verdicts: tuple[str, ...]
) -> None:
    begun_at = bench.begin("1")
    wish_for(bench, "2")
    for verdict in verdicts:
        bench.judge("2", verdict)
    bench.answers(begun_at)
    assert bench.next() == ReleaseSwitched(begun=begun_at)


def test_a_verdict_from_before_the_wish_or_on_other_bytes_stops_nothing(
    bench: Bench,
) -> None:
    begun_at = bench.begin("1")
    bench.judge("2")
    wish_for(bench, "2", "d" * 64)
    bench.answers(begun_at)
    assert bench.next() == ReleaseSwitched(begun=begun_at)
    # `judge` of the bench is about version 2 with bytes of its own.
    bench.judge("2")
    assert bench.next() == ReleaseSwitched(begun=begun_at)


def test_going_back_leads_to_the_bytes_of_the_page_and_not_to_the_number(
    bench: Bench,
) -> None:
    bench.obeys = True
    first = bench.release("1")
    again = release_of("1").model_copy(update={"package_sha256": "d" * 64})
    complete_release(bench.ledger, begin_release(bench.ledger, again))
    bench.release("2")
    wish_for(bench, "1", release_of("1").package_sha256)
    wish = bench.ledger.state().model(bench_model).wish
    assert wish is not None
    order = replace(RITA, wished=wish.generation)

    def never(_: ChangeRequest) -> str:
        return "it is not judged"

    assert grant(bench_model, wish, order, bench.context, never) == ""
    current = bench.ledger.state().model(bench_model).current
    assert current is not None
    assert current.begun == first


@pytest.mark.parametrize("is_same", [True, False])
def test_bytes_of_another_version_of_that_number_are_not_released_already(
    ledger: Ledger, *, is_same: bool
) -> None:
    append_released(ledger, "1")
    asked = Subject(MODEL, "1", package("1") if is_same else "d" * 64)
    answer = desk(ledger, refuse_it).hand_in(asked, RITA)
    assert answer.is_granted == is_same


def test_a_person_who_stops_what_is_on_its_way_ends_the_wish_for_another(
    ledger: Ledger,
) -> None:
    pending = write(ledger, begun(write(ledger, judged("2")), "2"))

    def stop(ledger: Ledger, _: int) -> None:
        write(ledger, ReleaseAborted(begun=pending, reason_sha256=WHY, by="olga"))

    answer = desk(ledger, stop).hand_in(Subject(MODEL, "1"), RITA)
    assert answer == Answer(
        is_granted=False, text="entry 5 (release_aborted by olga) came first"
    )


def test_the_refusal_of_another_wish_is_no_answer(ledger: Ledger) -> None:
    first = write(ledger, Wished(by="r", reason_sha256=WHY, model=MODEL, version="1"))
    second = write(ledger, Wished(by="s", reason_sha256=WHY, model="o", version="1"))
    write(ledger, WishClosed(wished=second, reason_sha256=WHY))
    assert find_answer(ledger, first) is None
    write(ledger, Wished(by="eve", reason_sha256=WHY, model=MODEL, version="2"))
    answer = find_answer(ledger, first)
    assert answer is not None
    assert answer.text == "entry 5 (wished by eve) came first"


def test_a_command_that_releases_the_version_grants_the_wish(ledger: Ledger) -> None:
    def release(ledger: Ledger, _: int) -> None:
        write(ledger, begun(write(ledger, judged("1")), "1"))

    assert desk(ledger, release).hand_in(Subject(MODEL, "1"), RITA).is_granted


def test_a_wish_that_the_ledger_lost_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(BrokenLedger, match="does not hold the wish of entry 7"):
        find_answer(ledger, 7)


def test_a_wish_for_what_serves_stops_what_is_on_its_way_and_is_granted(
    bench: Bench,
) -> None:
    model = "letters-tiny"
    bench.release("1")
    begun_at = bench.begin("2")
    wish = Wished(by="eve", account="x", reason_sha256=WHY, model=model, version="1")
    generation = write(bench.ledger, wish)
    body = bench.next()
    assert isinstance(body, ReleaseAborted)
    assert (body.begun, body.by, body.wished) == (begun_at, "eve", generation)
    write(bench.ledger, body)
    answer = find_answer(bench.ledger, generation)
    assert answer is not None
    assert answer.is_granted


def test_an_older_wish_lets_a_release_that_somebody_ordered_go_on(bench: Bench) -> None:
    wish = Wished(by="eve", reason_sha256=WHY, model="letters-tiny", version="2")
    write(bench.ledger, wish)
    bench.begin("1")
    assert bench.next() is None


def test_a_wish_for_other_bytes_of_that_number_is_judged_and_not_granted_by_a_stop(
    bench: Bench,
) -> None:
    bench.release("1")
    bench.begin("2")
    wish = Wished(
        by="eve",
        reason_sha256=WHY,
        model="letters-tiny",
        version="1",
        package_sha256="d" * 64,
    )
    generation = write(bench.ledger, wish)
    assert bench.next() is None
    assert find_answer(bench.ledger, generation) is None
