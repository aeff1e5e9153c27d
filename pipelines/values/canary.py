"""How a release is tried on a share of the traffic: what a policy says and the ledger carries.

Whole numbers throughout, in percent and in seconds: an entry of the ledger holds them.
"""

from datetime import datetime, time
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from core.value import Settable

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
DAY_IN_SECONDS = 86_400
WEEK_IN_SECONDS = 7 * DAY_IN_SECONDS
# At half of the traffic each, candidate and baseline leave nothing for what serves.
Weight = Annotated[int, Field(ge=0, le=50, strict=True)]
# Over half: what fewer replicas answer with is not what is released.
Quorum = Annotated[int, Field(ge=51, le=100)]
# Over this many points worse, hardly any candidate would be stopped.
Points = Annotated[int, Field(ge=1, le=50)]


def _check_timezone(name: str) -> str:
    if name not in available_timezones():
        raise PydanticCustomError(
            "timezone", "there is no timezone {name}", {"name": name}
        )
    return name


class ChangeWindow(Settable):
    """When a canary may begin or get more traffic: on these days between two times of day."""

    days: tuple[Day, ...] = Field(min_length=1, max_length=7)
    start: Clock
    end: Clock
    timezone: Annotated[str, AfterValidator(_check_timezone)] = "UTC"

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        # Over midnight are two windows, so that the day of the second half is said.
        if not self.start < self.end:
            raise PydanticCustomError(
                "window",
                "start {start} is not before end {end}",
                {"start": self.start, "end": self.end},
            )
        return self

    def holds(self, moment: datetime) -> bool:
        """Whether the window is open at that moment; the end itself is outside."""
        there = moment.astimezone(ZoneInfo(self.timezone))
        is_day = DAYS[there.weekday()] in self.days
        clock = there.time()
        has_begun = time.fromisoformat(self.start) <= clock
        return is_day and has_begun and clock < time.fromisoformat(self.end)


class CanaryLimits(Settable):
    """By how many points in a hundred answers the candidate may be worse than its baseline."""

    errors: Points = Field(default=5, description="Answers that failed.")
    empties: Points = Field(default=5, description="Answers without a word.")
    refusals: Points = Field(default=10, description="Answers that decline.")
    repetition: Points = Field(
        default=10, description="Answers that repeat themselves."
    )
    latency: Points = Field(
        default=25, description="Answers that take longer than any given time."
    )
    first_token: Points = Field(
        default=25, description="Streams whose text begins later than any given time."
    )
    length: Points = Field(
        default=40, description="Answers longer, or shorter, than any given length."
    )
    texture: Points = Field(
        default=40,
        description="Answers that compress better, or worse, than any given ratio.",
    )
    feedback: Points | None = Field(
        default=10,
        description="Clients that rate an answer as bad; null: ratings stop nothing.",
    )
    memory_mb: Annotated[int, Field(ge=16, le=1_000_000)] = Field(
        default=512,
        description="Megabytes by which the candidate's process may grow more.",
    )


class CanaryPlan(Settable):
    """The steps of a canary, and what each of them needs."""

    weights: tuple[Weight, ...] = Field(
        min_length=1,
        max_length=10,
        description="Percent of the requests that the candidate answers, step by step; "
        "0 sends it copies whose answers nobody sees.",
    )
    window_s: Annotated[int, Field(ge=1, le=DAY_IN_SECONDS)] = Field(
        default=300, description="Seconds that each step takes at least."
    )
    least_requests: Annotated[int, Field(ge=10, le=10**6)] = Field(
        default=100, description="Answers of each side that each step needs."
    )
    max_pause_s: Annotated[int, Field(ge=1, le=WEEK_IN_SECONDS)] = Field(
        default=3600, description="Seconds without traffic after which it is aborted."
    )
    max_step_s: Annotated[int, Field(ge=1, le=WEEK_IN_SECONDS)] = Field(
        default=DAY_IN_SECONDS,
        description="Seconds after which a step that shows nothing is aborted.",
    )
    alpha_percent: Annotated[int, Field(ge=1, le=10)] = Field(
        default=5,
        description="How often in a hundred canaries one that is as good is aborted, at most.",
    )
    baseline: bool = Field(
        default=True,
        description="Start what serves once more beside the candidate, to compare with; "
        "false: compare with the process that serves.",
    )
    copied_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        default=10,
        description="Percent of the requests that are copied where copies are.",
    )
    bake_s: Annotated[int, Field(ge=0, le=WEEK_IN_SECONDS)] = Field(
        default=600,
        description="Seconds after the switch in which worse signals roll it back.",
    )
    limits: CanaryLimits = CanaryLimits()
    change_windows: tuple[ChangeWindow, ...] = Field(
        default=(), max_length=20, description="When it may advance; none: always."
    )

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        rising = tuple(sorted(set(self.weights)))
        if self.weights != rising:
            raise _problem("weights must rise from step to step")
        # Copies alone put the candidate in front of nobody.
        if self.weights[-1] == 0:
            raise _problem(
                "the last of weights is 0, so that no user meets the candidate"
            )
        if not self.window_s <= self.max_step_s:
            raise _problem("max_step_s is shorter than window_s")
        return self

    @property
    def alpha(self) -> float:
        """The level of all tests of one canary together."""
        return self.alpha_percent / 100

    def is_open(self, moment: datetime) -> bool:
        """Whether a canary may begin or advance at that moment."""
        if not self.change_windows:
            return True
        return any(window.holds(moment) for window in self.change_windows)

    def weight_after(self, weight: int | None) -> int | None:
        """The weight of the next step; None after the last. None is before the first."""
        if weight is None:
            return self.weights[0]
        later = (each for each in self.weights if each > weight)
        return next(later, None)


def _problem(sentence: str) -> PydanticCustomError:
    return PydanticCustomError(
        "canary",
        "{sentence}",
        {"sentence": sentence},
    )
