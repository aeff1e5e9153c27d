"""One release that is watched: its two sides, and since when which step runs."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from core.errors import AssayError
from pipelines.values.canary import CanaryPlan
from registry.ledger.canary import needs_canary
from registry.ledger.state import ModelState, RecordedRelease
from registry.release.canary_counts import CanaryReport, Phase, Replay, Side, Stage
from serving.endpoint.feedback import RatedSide, Ratings
from serving.endpoint.release_engine import ReleaseEngine
from serving.endpoint.tally import Tally

_MEGABYTE = 2**20
_SECONDS_APART = 1.0
_TIMES_IN_A_WINDOW = 300


@dataclass(frozen=True)
class Watched:
    """What the ledger says of a release that is watched."""

    recorded: RecordedRelease
    plan: CanaryPlan
    stage: Stage
    # Generation of the step, or of the switch; None before the first step.
    step: int | None
    # Percent of the requests.
    weight: int = 0

    @property
    def key(self) -> tuple[int, Stage]:
        """What its counts belong to."""
        return self.recorded.begun, self.stage


def find_watched(model: ModelState) -> Watched | None:
    """The release of a model that is in a canary, or in the time after its switch."""
    pending = model.pending
    if pending is not None:
        plan, progress = pending.release.canary, pending.canary
        if plan is None or progress is None or progress.skipped is not None:
            return None
        if not needs_canary(model, pending.release):
            return None
        weight = progress.weight or 0
        return Watched(
            pending,
            plan,
            "canary",
            progress.step,
            weight,
        )
    current = model.answering
    if current is None or current.is_completed or model.before is None:
        return None
    plan = current.release.canary
    if plan is None or plan.bake_s == 0:
        return None
    return Watched(current, plan, "bake", model.changed_at)


@dataclass
class Sides:
    """The engines of both sides; None while there is none."""

    candidate: ReleaseEngine | None = None
    baseline: ReleaseEngine | None = None
    # Whether the baseline is a process of its own, beside the one that serves.
    is_beside: bool = False

    def __iter__(self) -> Iterator[ReleaseEngine]:
        """Those that are there."""
        for engine in (self.candidate, self.baseline):
            if engine is not None:
                yield engine


class Replaying:
    """Scored prompts, asked of an engine once in each step, while users ask it, too."""

    def __init__(self) -> None:
        self.outcome: Replay = "running"
        self.detail = ""
        self._task: asyncio.Task[None] | None = None

    def begin(self, engine: ReleaseEngine | None) -> None:
        """Ask them, unless that was begun already or there is nobody to ask yet."""
        if self._task is None and engine is not None and engine.is_ready:
            self._task = asyncio.create_task(self._run(engine))

    def stop(self) -> None:
        """Nobody wants to know any more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, engine: ReleaseEngine) -> None:
        try:
            self.detail = await engine.replay()
            self.outcome = "same"
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was shown
            self.detail = type(error).__name__
            # The text of any other error may quote what nobody should read.
            if isinstance(error, AssayError):
                self.detail = str(error)
            self.outcome = "other"


@dataclass(eq=False)
class CanaryWatch:
    """Counts of one release in one stage. An endpoint that is started again counts anew."""

    watched: Watched
    candidate: Tally = field(init=False)
    baseline: Tally = field(init=False)
    # Of the release, in both stages: copies after the switch are rated by nobody.
    ratings: Ratings = field(default_factory=Ratings)
    sides: Sides = field(default_factory=Sides)
    _since: float = field(default_factory=time.monotonic)
    _requests_before: tuple[int, int] = (0, 0)
    _memory: dict[int, float] = field(default_factory=dict)
    _replay: Replaying = field(default_factory=Replaying)

    def __post_init__(self) -> None:
        """Begin to count; a short step has to learn as much of times as a long one."""
        window = self.watched.plan.window_s
        apart = min(_SECONDS_APART, window / _TIMES_IN_A_WINDOW)
        self.candidate = Tally(apart)
        self.baseline = Tally(apart)

    def follow(self, watched: Watched, sides: Sides) -> None:
        """Take what the ledger says now; another step begins its time and its requests anew."""
        self.sides = sides
        if watched.step != self.watched.step:
            self._since = time.monotonic()
            self._requests_before = self._requests
            self.stop()
            self._replay = Replaying()
        self.watched = watched

    def stop(self) -> None:
        """End what it has begun."""
        self._replay.stop()

    def rated_side(self, side: Side) -> RatedSide:
        """Where ratings of a side's answers count."""
        return RatedSide(self.ratings, side)

    def report(self) -> CanaryReport:
        """For the controller."""
        now = time.monotonic()
        has_begun = self.watched.step is not None
        # Here, since an endpoint that was started again has no engine to ask at first.
        if has_begun:
            self._replay.begin(self.sides.candidate)
        last = self.candidate.last or 0.0
        quiet_since = max(last, self._since)
        step_requests = [
            count - before
            for count, before in zip(self._requests, self._requests_before, strict=True)
        ]
        candidate = self.candidate.freeze(self._growth(self.sides.candidate))
        baseline = self.baseline.freeze(self._growth(self.sides.baseline))
        return CanaryReport(
            begun=self.watched.recorded.begun,
            stage=self.watched.stage,
            step=self.watched.step,
            step_seconds=now - self._since if has_begun else 0.0,
            quiet_seconds=now - quiet_since if has_begun else 0.0,
            step_requests=min(step_requests),
            candidate=self.ratings.added_to(candidate, "candidate"),
            baseline=self.ratings.added_to(baseline, "baseline"),
            baseline_phase=self._baseline_phase(),
            baseline_detail=self._baseline_detail(),
            replay=self._replay.outcome,
            replay_detail=self._replay.detail,
        )

    @property
    def _requests(self) -> tuple[int, int]:
        return self.candidate.requests, self.baseline.requests

    def _baseline_phase(self) -> Phase:
        if not self.sides.is_beside:
            return "none"
        baseline = self.sides.baseline
        return "loading" if baseline is None else baseline.to_state().state

    def _baseline_detail(self) -> str:
        sides = self.sides
        baseline = sides.baseline
        # Beside nothing, what serves is compared with itself: that explains nothing.
        if sides.is_beside and baseline:
            return baseline.detail
        return ""

    def _growth(self, engine: ReleaseEngine | None) -> float | None:
        """Megabytes by which a process grew since it was first asked for in a step."""
        if engine is None or self.watched.step is None or not engine.pid:
            return None
        with suppress(psutil.Error):
            resident = psutil.Process(engine.pid).memory_info().rss / _MEGABYTE
            # By process: one that was started again begins anew.
            return resident - self._memory.setdefault(
                engine.pid,
                resident,
            )
        return None
