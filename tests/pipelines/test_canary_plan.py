"""The section `canary` of a policy: what loads, and when its change windows are open."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from pipelines.values.canary import CanaryPlan, ChangeWindow

OFFICE = {"days": ["mon", "thu"], "start": "09:00", "end": "17:00"}


def plan(**fields: object) -> CanaryPlan:
    return CanaryPlan.model_validate({"weights": [5, 25], **fields})


def test_weights_rise_and_end_in_front_of_users() -> None:
    assert plan(weights=[0, 5]).weights == (0, 5)
    for weights in ([], [0], [5, 5], [25, 5], [51], [-1], [5.5], [True]):
        with pytest.raises(ValidationError):
            plan(weights=weights)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window_s", 0),
        ("window_s", float("nan")),
        ("least_requests", 9),
        ("max_pause_s", 0),
        ("max_step_s", 299),
        ("alpha_percent", 11),
        ("alpha_percent", 0),
        ("copied_percent", 0),
        ("bake_s", -1),
        ("limits", {"errors": 51}),
        ("limits", {"errors": 0}),
        ("limits", {"kindness": 5}),
        ("limits", {"memory_mb": 15}),
        ("baseline", 1.5),
        ("colour", "blue"),
    ],
)
def test_what_would_let_anything_pass_does_not_load(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        plan(**{field: value})


def test_a_step_may_take_no_longer_than_its_window() -> None:
    assert plan(window_s=300, max_step_s=300).max_step_s == 300


def test_the_next_weight_follows_the_last_one() -> None:
    steps = plan(weights=[0, 5, 25])
    weights = [steps.weight_after(weight) for weight in (None, 0, 5, 25)]
    assert weights == [0, 5, 25, None]


def test_without_change_windows_it_is_always_open() -> None:
    assert plan().is_open(datetime(2026, 11, 29, 3, tzinfo=UTC))


def test_a_change_window_holds_on_its_days_from_its_start_to_before_its_end() -> None:
    office = plan(change_windows=[OFFICE])
    thursday = datetime(2026, 11, 26, tzinfo=UTC)
    hours = {
        hour: office.is_open(thursday + timedelta(hours=hour))
        for hour in (8.99, 9, 12, 16.99, 17)
    }
    assert hours == {8.99: False, 9: True, 12: True, 16.99: True, 17: False}
    assert not office.is_open(thursday + timedelta(days=1, hours=12))


def test_a_change_window_is_in_its_own_timezone_in_summer_and_in_winter() -> None:
    berlin = ChangeWindow.model_validate(
        {**OFFICE, "days": ["wed"], "timezone": "Europe/Berlin"}
    )
    assert berlin.holds(datetime(2026, 7, 1, 7, tzinfo=UTC))
    assert not berlin.holds(datetime(2026, 12, 2, 7, tzinfo=UTC))
    assert berlin.holds(datetime(2026, 12, 2, 8, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"start": "17:00"}, "start 17:00 is not before end 17:00"),
        ({"start": "9:00"}, "start"),
        ({"end": "24:00"}, "end"),
        ({"days": []}, "days"),
        ({"days": ["Thu"]}, "days"),
        ({"timezone": "Middle/Earth"}, "there is no timezone Middle/Earth"),
    ],
)
def test_a_change_window_that_cannot_be_is_refused(
    changed: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        ChangeWindow.model_validate({**OFFICE, **changed})
