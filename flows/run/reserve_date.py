"""When the sealed reserve will hold a block again, at the rate at which new groups came lately."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pipelines.gates.confirmation import ENOUGH
from pipelines.stages.split import SEALED_SHARE
from registry.mlflow.recorded import ScoredRun
from registry.mlflow.score_metrics import HELD_OUT_GROUPS, SEALED_GROUPS

_LOOKED_BACK = timedelta(days=90)
"""What is older says little about the present."""
_SHORTEST = timedelta(days=1)
"""Two runs of one day say nothing about a rate."""
_FARTHEST_DAYS = 3650


class Shortage(NamedTuple):
    """What a reserve has and lacks."""

    standing: int
    """Groups that judge every candidate: a block has three quarters of so many."""
    sealed: int
    fewest: int
    """Groups of a block, at least."""
    lacking: int

    @property
    def groups(self) -> int:
        """All held-out groups."""
        return self.standing + self.sealed

    @property
    def to_come(self) -> float:
        """How many more groups the reserve needs, while as many come to the standing half.

        More standing groups ask for a larger block, so that the reserve has to catch up.
        """
        needed = max(self.fewest, math.ceil(ENOUGH * self.standing))
        fit = needed - self.lacking
        by_floor = self.fewest - fit
        by_share = (ENOUGH * self.standing - fit) / (1 - ENOUGH)
        return max(by_floor, by_share, 0.0)


def say_when(shortage: Shortage, runs: Sequence[ScoredRun], now: datetime) -> str:
    """The day on which there will be enough, as a sentence; empty where no rate is known.

    `runs`: of the model, the oldest first.
    """
    rate = _groups_a_day(shortage.groups, runs, now)
    # Better no date than one that nothing speaks for.
    if rate is None:
        return ""
    days = shortage.to_come / (rate * SEALED_SHARE)
    # So far ahead nothing is present any more, and no calendar goes on for ever.
    if not days <= _FARTHEST_DAYS:
        return ""
    day = now + timedelta(days=math.ceil(days))
    return (
        f"At the present rate of {rate:.2g} new held-out groups a day there will be enough on "
        f"{day:%Y-%m-%d}"
    )


def _groups_a_day(
    groups: int, runs: Sequence[ScoredRun], now: datetime
) -> float | None:
    """How many held-out groups came a day; None where nothing says so, or none came."""
    for run in runs:
        age = now - run.at
        counted = run.metrics.get(HELD_OUT_GROUPS)
        # Runs from before counts were logged say nothing.
        if counted is None or age > _LOOKED_BACK:
            continue
        # The first that counts is the oldest: any later one is younger still.
        if age < _SHORTEST:
            return None
        sealed = run.metrics.get(SEALED_GROUPS, 0.0)
        before = counted + sealed
        came = groups - before
        days = age / timedelta(days=1)
        # Fewer than before: somebody replaced the rows, and nothing grows.
        if came > 0:
            return came / days
        return None
    return None
