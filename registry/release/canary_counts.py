"""What the endpoint counts of a canary: how often, never which text."""

from typing import Annotated, Literal

from pydantic import Field

from core.value import Value
from pipelines.statistics.sequential import Rate

Side = Literal["candidate", "baseline"]
Stage = Literal["canary", "bake"]
Phase = Literal["none", "loading", "ready", "failed"]
Replay = Literal["running", "same", "other"]
Count = Annotated[int, Field(ge=0)]

# Doubled from step to step: whatever takes three times as long passes at least one edge.
SECONDS = tuple(0.01 * 2 ** (step / 2) for step in range(29))
"""Edges of times, each 1.41 times the one before it: 10 ms to 164 s."""
CHARACTERS = tuple(8 * 2**power for power in range(12))
"""Edges of lengths: 8 to 16,384."""
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
"""Edges of compressed bytes by bytes; short texts are over 1."""


class Histogram(Value):
    """Observations by the edges that they are over: the first count is of those over none."""

    counts: tuple[Count, ...]

    @property
    def total(self) -> int:
        """All observations."""
        return sum(self.counts)

    def over(self, edge: int) -> Rate:
        """Observations over the edge of that index."""
        # The first count is of what is over no edge at all.
        return Rate(sum(self.counts[edge + 1 :]), self.total)

    def under(self, edge: int) -> Rate:
        """Observations that are not over the edge of that index."""
        return Rate(sum(self.counts[: edge + 1]), self.total)


class SideCounts(Value):
    """What one side answered since its canary began, or since the switch."""

    requests: Count = 0
    """Requests that it answered or failed; those that a client broke off or sent wrong are none."""
    errors: Count = 0
    empties: Count = 0
    refusals: Count = 0
    repetition: Count = 0
    raters: Count = 0
    """Clients whose first rating was of an answer of this side, in canary and bake."""
    feedback: Count = 0
    """Those of them that rated it as a bad one."""
    latency: Histogram
    """Seconds from the request to the end of its answer, by `SECONDS`."""
    first_token: Histogram
    """Seconds from the request to the first text that the client is sent, by `SECONDS`."""
    length: Histogram
    """Characters of an answer, by `CHARACTERS`."""
    texture: Histogram
    """Compressed bytes of an answer by its bytes, by `RATIOS`."""
    memory_growth_mb: float | None = None
    """By how much its process grew since the first step; None where that is not known."""

    @property
    def answers(self) -> int:
        """Requests that were answered whole."""
        return self.requests - self.errors


class CanaryReport(Value):
    """One canary as the endpoint counts it, on a monotonic clock of its own."""

    begun: int
    stage: Stage = "canary"
    step: int | None = None
    """Generation of the step, or of the switch, that it follows; None before the first step."""
    step_seconds: float = 0.0
    quiet_seconds: float = 0.0
    """Since the candidate last answered in this step, or since the step began."""
    step_requests: Count = 0
    """Answers in this step, of the side that has fewer."""
    candidate: SideCounts
    baseline: SideCounts
    baseline_phase: Phase = "none"
    """Of the process that was started to compare with; none where none is wanted."""
    baseline_detail: str = ""
    replay: Replay = "running"
    """Whether the candidate gives the scored answers in this step, as it did before the first."""
    replay_detail: str = ""


def no_counts() -> SideCounts:
    """Before the first request."""
    return SideCounts(
        latency=_empty(SECONDS),
        first_token=_empty(SECONDS),
        length=_empty(CHARACTERS),
        texture=_empty(RATIOS),
    )


def _empty(edges: tuple[float, ...]) -> Histogram:
    return Histogram(counts=(0,) * (len(edges) + 1))
