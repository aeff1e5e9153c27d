"""Where a release begins, where it moves to, and what it gives up."""

from types import SimpleNamespace

import pytest

from core.errors import ServingError
from serving.endpoint.engine_choice import EngineChoice
from serving.endpoint.probe import OtherAnswers
from serving.endpoint.shared import place as places_of
from serving.endpoint.shared.attaching import NotNow, Refused
from serving.endpoint.shared.place import Place, PlaceChoice
from serving.endpoint.shared.process import StartFailed
from serving.endpoint.upstream import EngineLost

FIRST, LATER = "transformers", "openvino"
BOTH, ONE = EngineChoice(FIRST, LATER), EngineChoice(FIRST)
BY_OTHER = EngineChoice(LATER, scored=LATER)
OWN = Place(FIRST)
SHARED = Place(FIRST, is_shared=True)
FAST = Place(LATER)
FAST_SHARED = Place(LATER, is_shared=True)


def choice_of(engines: EngineChoice = BOTH) -> PlaceChoice:
    return PlaceChoice("version 1 of m", engines)


def first_of(places: PlaceChoice, *running: Place) -> Place:
    return places.first(may_share=True, has_room=running.__contains__)


def test_a_release_begins_where_nothing_is_compiled_and_beside_others_where_it_may() -> (
    None
):
    places = choice_of()
    assert places.first(may_share=False, has_room=lambda _: True) == OWN
    assert first_of(places) == SHARED
    assert first_of(places, FAST_SHARED) == FAST_SHARED
    places.give_up(FAST_SHARED, "slow.")
    assert first_of(places, FAST_SHARED) == SHARED
    places.give_up_sharing("it is alone.")
    assert first_of(places, FAST_SHARED) == OWN


@pytest.mark.parametrize(
    ("engines", "place", "may_share", "better"),
    [
        (BOTH, OWN, False, FAST),
        (BOTH, OWN, True, FAST_SHARED),
        (BOTH, FAST, True, FAST_SHARED),
        (BOTH, SHARED, True, FAST_SHARED),
        (BOTH, FAST, False, None),
        (BOTH, FAST_SHARED, True, None),
        # Nobody is beside it any more: it stays where it is.
        (BOTH, FAST_SHARED, False, None),
        (ONE, OWN, False, None),
        (ONE, OWN, True, SHARED),
        (ONE, SHARED, True, None),
        # Its server has one adapter.
        (EngineChoice("vllm"), Place("vllm"), True, None),
        (EngineChoice("vllm"), OWN, True, Place("vllm")),
        # What scored it answers in the end, whatever a canary compared.
        (BY_OTHER, OWN, False, FAST),
        (BY_OTHER, OWN, True, FAST_SHARED),
        (BY_OTHER, FAST, False, None),
    ],
)
def test_it_moves_to_the_best_place_that_there_is(
    engines: EngineChoice, place: Place, *, may_share: bool, better: Place | None
) -> None:
    assert choice_of(engines).better_than(place, may_share=may_share) == better


def test_what_did_not_work_is_given_up_one_after_the_other() -> None:
    places = choice_of()
    seen = []
    while (place := places.better_than(OWN, may_share=True)) is not None:
        seen.append(place)
        places.note_failure(place, ServingError("no."))
    assert seen == [FAST_SHARED, FAST, SHARED]


@pytest.mark.parametrize(
    ("wanted", "place", "better"),
    [
        (Place("vllm"), Place("vllm"), Place("vllm")),
        # Also where its process says by itself that another engine answers.
        (Place("vllm"), OWN, None),
        # It was not to begin there, and is tried yet.
        (OWN, OWN, Place("vllm")),
    ],
)
def test_what_another_engine_stood_in_for_takes_nothing_over(
    wanted: Place, place: Place, better: Place | None
) -> None:
    places = choice_of(EngineChoice("vllm", "vllm"))
    places.note_stand_in(wanted, place)
    assert places.better_than(OWN, may_share=False) == better


def test_a_release_that_is_refused_shares_with_no_engine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = choice_of()
    assert places.instead_of(SHARED, Refused("it is a prompt.")) == OWN
    assert places.better_than(OWN, may_share=True) == FAST
    said = capsys.readouterr().err
    assert said == "version 1 of m does not share a process: it is a prompt.\n"


def test_a_release_that_cannot_share_at_a_moment_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(places_of, "time", clock)
    places = choice_of()
    error = NotNow("Files of it changed.")
    for pause in (30, 60, 120, 30):
        assert places.instead_of(SHARED, error) == OWN
        said = capsys.readouterr().err
        assert said.endswith(f"again in {pause} s: Files of it changed.\n")
        now += pause - 1
        assert first_of(places) == OWN
        now += 1
        assert first_of(places) == SHARED
        # The last one is the first after a long time.
        now += 3601 if pause == 120 else 0


def test_a_process_that_ends_is_tried_once_more() -> None:
    places = choice_of()
    assert places.instead_of(SHARED, StartFailed("killed.")) == OWN
    assert first_of(places) == SHARED
    assert places.instead_of(SHARED, EngineLost("killed.")) is None
    assert first_of(places) == OWN


@pytest.mark.parametrize("place", [FAST, FAST_SHARED])
def test_an_end_after_a_long_time_is_the_first_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    places = choice_of()
    for seconds in (1.0, 3600.0):
        places.note_end(place, seconds)
    assert places.better_than(OWN, may_share=place.is_shared) == place
    places.note_end(place, 1.0)
    assert places.better_than(OWN, may_share=place.is_shared) != place
    assert "ended 2 times soon" in capsys.readouterr().err


def test_the_first_engine_alone_is_tried_again_for_ever() -> None:
    places = choice_of()
    for _ in range(5):
        places.note_end(OWN, 1.0)
    assert places.first(may_share=False, has_room=lambda _: False) == OWN


def test_another_engine_than_the_one_that_scored_is_given_up_for_that() -> None:
    places = choice_of(EngineChoice("vllm"))
    error = ServingError("no.")
    assert places.instead_of(Place("vllm"), error) == OWN
    assert places.instead_of(OWN, error) is None
    # A fault of both is none of that engine.
    assert places.own_engine == "vllm"
    places.note_start({Place("vllm"): error}, OWN)
    assert places.own_engine == FIRST
    places.begin_quickly()
    assert places.own_engine == FIRST


def test_transformers_stands_in_for_what_scored_and_is_no_place_for_others() -> None:
    places = choice_of(BY_OTHER)
    assert first_of(places) == FAST_SHARED
    missing = ServingError("not installed.")
    assert places.instead_of(FAST, missing) == OWN
    places.note_start({FAST: missing}, OWN)
    # Neither the release's process nor the others' is tried again.
    assert first_of(places) == OWN
    assert places.better_than(OWN, may_share=True) is None
    places.begin_quickly()
    assert first_of(places) == OWN


@pytest.mark.parametrize("error", [OtherAnswers("3 of 4"), EngineLost("killed.")])
def test_nothing_stands_in_for_what_answers_otherwise_or_ended_once(
    error: ServingError,
) -> None:
    places = choice_of(BY_OTHER)
    assert places.instead_of(FAST, error) is None
    assert places.own_engine == LATER


def test_what_could_not_stand_in_either_is_tried_again() -> None:
    places = choice_of(BY_OTHER)
    missing, killed = ServingError("not installed."), ServingError("code -9.")
    for _ in range(3):
        assert places.first(may_share=False, has_room=lambda _: False) == FAST
        assert places.instead_of(FAST, missing) == OWN
        # The second one in a row ends the try.
        assert places.instead_of(OWN, killed) == FAST
    assert places.fault_of_scored == ""


def test_a_place_beside_others_that_failed_is_no_fault_of_its_engine() -> None:
    places = choice_of()
    places.note_start({FAST_SHARED: NotNow("changed.")}, OWN)
    assert places.better_than(OWN, may_share=False) == FAST


def test_what_ends_while_it_is_asked_is_left_after_two_ends() -> None:
    places = choice_of(BY_OTHER)
    for engine in (LATER, FIRST):
        assert places.instead_of(FAST, EngineLost("killed.")) is None
        assert places.own_engine == engine
    assert places.fault_of_scored == "its process ended 2 times soon"


def test_what_is_known_to_answer_otherwise_never_stands_in() -> None:
    places = choice_of(EngineChoice(FIRST, scored=LATER))
    # Also where that was seen beside the one that scored.
    places.note_failure(OWN, OtherAnswers("3 of 4"))
    for _ in range(3):
        places.note_end(FAST, 1.0)
    assert places.instead_of(FAST, ServingError("killed.")) is None


def test_what_stands_in_without_the_scored_answers_is_left_for_what_scored() -> None:
    places = choice_of(BY_OTHER)
    assert places.instead_of(FAST, ServingError("not installed.")) == OWN
    assert places.instead_of(OWN, OtherAnswers("3 of 4")) == FAST
    assert places.own_engine == LATER
    assert places.instead_of(FAST, ServingError("not installed.")) is None
    # It is tried for ever, since nothing else is left.
    for _ in range(3):
        places.note_end(FAST, 1.0)
    places.begin_quickly()
    assert places.own_engine == LATER


def test_what_scored_is_left_to_another_engine_after_two_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = choice_of(BY_OTHER)
    places.note_end(FAST, 1.0)
    assert places.own_engine == LATER
    places.note_end(FAST, 1.0)
    assert places.own_engine == FIRST
    assert "is left to transformers: its process of openvino" in capsys.readouterr().err


def test_where_another_engine_is_asked_for_what_scored_is_what_is_left() -> None:
    places = choice_of(EngineChoice(FIRST, scored=LATER))
    assert first_of(places) == SHARED
    assert places.instead_of(OWN, OtherAnswers("3 of 4")) == FAST
    places.begin_quickly()
    assert places.own_engine == LATER
    assert places.better_than(FAST, may_share=False) is None
