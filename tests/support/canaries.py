"""Canaries for tests: plans, and what an endpoint would have counted."""

from typing import Any

from pipelines.values.canary import CanaryPlan
from registry.release.canary_counts import CanaryReport, SideCounts
from serving.endpoint.tally import Tally

PROSE = "The archive was moved to the second floor, where it is dry and cool in summer."


def plan(**fields: object) -> CanaryPlan:
    """Two steps of a minute, each with 50 answers a side."""
    defaults = {"weights": [5, 25], "window_s": 60, "least_requests": 50}
    return CanaryPlan.model_validate({**defaults, **fields})


def counts(
    answers: int = 300,
    errors: int = 0,
    text: str = PROSE,
    seconds: float = 0.3,
    memory: float | None = 10.0,
) -> SideCounts:
    """What a side that always answers the same has counted."""
    tally = Tally()
    for _ in range(answers):
        tally.add_answer(text)
        tally.add_times(seconds, seconds / 3)
    for _ in range(errors):
        tally.add_error()
    return tally.freeze(memory)


def report(begun: int, step: int | None, **fields: Any) -> CanaryReport:
    """A step that took its time with both sides alike, unless `fields` says otherwise."""
    defaults = {
        "step_seconds": 61.0,
        "step_requests": 100,
        "candidate": counts(),
        "baseline": counts(),
        "baseline_phase": "ready",
        "replay": "same",
        "replay_detail": "8 of 8 known answers",
    }
    return CanaryReport(begun=begun, step=step, **{**defaults, **fields})
