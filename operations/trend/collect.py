"""What MLflow and the ledger say of many runs, as points in time. No file of a run is opened."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from core.environment import set_library_environment
from core.errors import LedgerError, ParameterError
from core.project import find_project
from core.settings import Settings
from core.value import Value
from operations.history import HistoryEntry, read_history
from registry.mlflow.recorded import Point, ScoredRun
from registry.report.timeline import Mark

_RELEASES = {
    "release_completed": "released",
    "rolled_back": "went back to",
    "base_served": "base served",
}
OPPONENTS = ("champion", "retrieval", "few_shot", "base")
"""What a difference is shown against: the first of them that there is."""


class Series(Value):
    """Points of one kind."""

    title: str
    words: str
    points: tuple[Point, ...]


class Trend(Value):
    """Everything that the page shows."""

    model: str
    metric: str
    runs: tuple[ScoredRun, ...]
    series: tuple[Series, ...]
    marks: tuple[Mark, ...]
    left_out: int
    """Runs without this metric: from before scores were logged, or scored by others."""
    note: str = ""


def collect_trend(model: str, metric: str | None) -> Trend:
    """Read the runs of a model that were scored, the oldest first, and its releases.

    `metric` None is the primary metric of the newest run. `ParameterError` where no run has it.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from registry.mlflow.home_store import open_store

    store = open_store(find_project(Settings().home))
    runs = store.runs.scored(model)
    marks, note = _read_marks(model)
    return trend_of(model, runs, metric or _newest_primary(runs), marks, note)


def trend_of(
    model: str,
    runs: Iterable[ScoredRun],
    metric: str | None,
    marks: tuple[Mark, ...] = (),
    note: str = "",
) -> Trend:
    """The trend of runs that were read; errors as of `collect_trend`."""
    # Counted before any is left out: whoever reads the page has to know how many were.
    every = tuple(runs)
    shown = [run for run in every if metric and run.point(f"score.adapter.{metric}")]
    if metric is None or not shown:
        named = metric or "a score"
        raise ParameterError(
            f"None of the {len(every)} runs of {model} logged {named}. Runs do since scorecards "
            "have pages: train or re-score once, or give --metric another name."
        )
    return Trend(
        model=model,
        metric=metric,
        runs=tuple(shown),
        series=tuple(_series(shown, metric)),
        marks=marks,
        left_out=len(every) - len(shown),
        note=note,
    )


def against(run: ScoredRun, kind: str, metric: str) -> Point | None:
    """A difference of a run to the first opponent that it was compared with."""
    for opponent in OPPONENTS:
        point = run.point(f"{kind}.{metric}.{opponent}")
        if point is not None:
            return point
    return None


def _newest_primary(runs: tuple[ScoredRun, ...]) -> str | None:
    # A policy may have changed its metric meanwhile: the present one is asked about.
    for run in reversed(runs):
        if run.primary is not None:
            return run.primary
    return None


def _series(runs: list[ScoredRun], metric: str) -> Iterator[Series]:
    # A re-score is of the rows of its day: it says nothing of the standing set.
    trained = [run for run in runs if not run.is_rescore]
    rescored = [run for run in runs if run.is_rescore]
    yield Series(
        title="Champion on the standing set",
        words="Scored again by every run, on the rows that judge every candidate.",
        points=_points(run.point(f"score.champion.{metric}") for run in trained),
    )
    yield Series(
        title="Champion on fresh sets",
        words="Weekly re-scores, on the rows of that day.",
        points=_points(run.point(f"score.adapter.{metric}") for run in rescored),
    )
    yield Series(
        title="Candidates on the standing set",
        words="Each run's own adapter.",
        points=_points(run.point(f"score.adapter.{metric}") for run in trained),
    )
    yield Series(
        title="Gain of candidates on the standing set",
        words="Against the champion, else the best prompt; one-sided bounds.",
        points=_points(against(run, "better", metric) for run in trained),
    )
    yield Series(
        title="Gain on sealed blocks",
        words="The same on rows that chose nothing: what of the gain above was luck is missing.",
        points=_points(against(run, "sealed", metric) for run in trained),
    )


def _points(found: Iterable[Point | None]) -> tuple[Point, ...]:
    return tuple(point for point in found if point is not None)


def _read_marks(model: str) -> tuple[tuple[Mark, ...], str]:
    """Releases and what took their place; a sentence where the ledger cannot be read whole."""
    try:
        history = read_history(model)
    # Before the first release there need not be one.
    except LedgerError as error:
        return (), f"No release is marked: {error}"
    note = ""
    if history.error is not None:
        note = f"Releases are marked up to where the ledger is broken: {history.error}"
    return tuple(marks_of(history.entries, model)), note


def marks_of(entries: Iterable[HistoryEntry], model: str) -> Iterator[Mark]:
    """What changed what serves a model, in the order of the entries."""
    for entry in entries:
        words = _RELEASES.get(entry.kind)
        # Entries about no model are among them, such as those on keys.
        if words is not None and entry.model == model:
            version = entry.version or ""
            yield Mark(at=entry.at, name=version, words=f"{words} {version}".rstrip())


def format_time(at: datetime) -> str:
    """A time as a table shows it."""
    return f"{at:%Y-%m-%d %H:%M}"
