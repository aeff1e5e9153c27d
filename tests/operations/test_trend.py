"""Many runs on one page: champion and candidates over time, with what was released when."""

import math
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cli.trend_commands import print_runs
from core.errors import ParameterError
from operations.history import HistoryEntry
from operations.trend.collect import Trend, marks_of, trend_of
from operations.trend.page import render_trend, summarise
from registry.mlflow.recorded import (
    KIND,
    MODEL,
    PRIMARY,
    VERDICT,
    Point,
    ScoredRun,
)
from registry.mlflow.recorded import (
    Page as RunPage,
)
from registry.mlflow.store import Store
from registry.report.timeline import Mark, draw_timeline
from tests.support.html_page import HOSTILE, HTML, Page

START = datetime(2026, 1, 1, 3, tzinfo=UTC)


def numbers(name: str, estimate: float) -> dict[str, float]:
    return {name: estimate, f"{name}.low": estimate - 2, f"{name}.high": estimate + 2}


def scored(day: int, **changes: object) -> ScoredRun:
    metrics = {
        **numbers("score.adapter.chrf", 60 + day / 10),
        **numbers("score.champion.chrf", 59),
        **numbers("better.chrf.champion", 1 + day / 10),
        **numbers("better.chrf.base", 40),
    }
    if day % 5 == 0:
        metrics |= numbers("sealed.chrf.champion", 0.5)
    facts: dict[str, object] = {
        "run_id": f"{day:032x}",
        "at": START + timedelta(days=day),
        "verdict": "passed",
        "is_rescore": day % 7 == 6,
        "version": None,
        "primary": "chrf",
        "metrics": metrics,
    }
    return ScoredRun.model_validate(facts | changes)


def mark(day: int, name: str = "1") -> Mark:
    at = START + timedelta(days=day)
    return Mark(at=at, name=name, words=f"released {name}")


def page_of(trend: Trend) -> Page:
    text = render_trend(trend)
    assert "http" not in text.replace("http-equiv", "")
    assert "nan" not in text.lower().replace("<!doctype", "").split()
    return Page(text)


def test_a_year_of_runs_is_five_pictures_and_a_table() -> None:
    runs = [scored(day) for day in range(60)]
    trend = trend_of("letters", runs, "chrf", (mark(10, "3"), mark(30, "7")))
    by_title = {series.title: series.points for series in trend.series}
    assert len(by_title["Champion on fresh sets"]) == 8
    assert len(by_title["Champion on the standing set"]) == 52
    # Against the champion and not the base, though both were compared.
    gains = by_title["Gain of candidates on the standing set"]
    assert gains[0].estimate == 1
    assert {point.estimate for point in by_title["Gain on sealed blocks"]} == {0.5}
    page = page_of(trend)
    assert page.tags.count("svg") == 5
    assert "released 7" in page.words
    assert "60 runs from 2026-01-01 03:00 to 2026-03-01 03:00" in page.words


def test_one_run_without_bounds_of_others_has_a_page() -> None:
    lonely = {"score.adapter.chrf": 1.0, **numbers("score.adapter.chrf", 1.0)}
    trend = trend_of("letters", [scored(0, metrics=lonely)], "chrf")
    page = page_of(trend)
    assert page.tags.count("svg") == 1
    assert "There is no such run yet." in page.words
    assert "Nothing was released yet." in page.words


def test_a_number_without_its_bounds_is_not_drawn() -> None:
    run = scored(1, metrics={"score.adapter.chrf": 5.0})
    assert run.point("score.adapter.chrf") is None
    with pytest.raises(ParameterError, match="None of the 1 runs of letters logged"):
        trend_of("letters", [run], "chrf")


@pytest.mark.parametrize("runs", [[], [scored(1)]])
def test_without_a_run_of_that_metric_it_is_refused(runs: list[ScoredRun]) -> None:
    with pytest.raises(ParameterError, match="logged bleu"):
        trend_of("letters", runs, "bleu")
    with pytest.raises(ParameterError, match="logged a score"):
        trend_of("letters", [], None)


def test_runs_of_another_metric_are_counted() -> None:
    other = scored(3, metrics=numbers("score.adapter.bleu", 3))
    trend = trend_of("letters", [scored(1), other], "chrf")
    assert trend.left_out == 1
    assert "1 runs did not log chrf." in summarise(trend)


def test_whatever_is_written_in_a_record_is_text() -> None:
    run = scored(1, verdict=HOSTILE, version=HOSTILE)
    trend = trend_of(HOSTILE, [run], "chrf", (mark(1, HOSTILE),), HOSTILE)
    page = page_of(trend)
    assert HTML in page.words
    assert "<script" not in page.text


def test_equal_numbers_and_many_marks_have_a_picture() -> None:
    points = [
        Point(at=START, estimate=0, low=0, high=0),
        Point(at=START, estimate=0, low=0, high=0),
    ]
    marks = [mark(0, str(number)) for number in range(40)]
    picture = draw_timeline(points, marks, "flat")
    assert picture.count('class="point"') == 2
    assert picture.count('class="margin"') == 40
    assert ">39<" not in picture
    beyond = draw_timeline(points, [mark(400, "late")], "flat")
    assert "late" not in beyond


def test_only_what_changes_what_serves_is_a_mark() -> None:
    def entry(kind: str, version: str | None, model: str | None) -> HistoryEntry:
        return HistoryEntry(
            generation=1,
            at=START,
            kind=kind,
            words=kind,
            model=model,
            version=version,
            by="ann",
            reason=None,
            reason_sha256=None,
        )

    entries = (
        entry("judged", "1", "letters"),
        entry("release_completed", "1", "letters"),
        entry("release_completed", "9", "other"),
        entry("rolled_back", "2", "letters"),
        entry("base_served", None, "letters"),
        entry("key_added", None, None),
    )
    assert [each.words for each in marks_of(entries, "letters")] == [
        "released 1",
        "went back to 2",
        "base served",
    ]


def test_mlflow_gives_every_scored_run_of_the_model_the_oldest_first(
    empty_mlflow: Path, tmp_path: Path
) -> None:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", locks=tmp_path / "leases")
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    for name, model in (("one", "letters"), ("two", "other"), ("three", "letters")):
        run = store.runs.begin(name, name, {MODEL: model, KIND: "train"})
        store.runs.log_metrics(run.run_id, 0, numbers("score.adapter.chrf", 5))
        tags = {VERDICT: "rejected", PRIMARY: "chrf"}
        store.runs.record_verdict(
            run.run_id, evidence, RunPage(description=name, tags=tags)
        )
    # An adapter or a prompt that was brought is no champion that is scored again.
    for kind in ("judge", "rescore"):
        brought = store.runs.begin(kind, kind, {MODEL: "kinds", KIND: kind})
        page = RunPage(description=kind, tags={VERDICT: "passed"})
        store.runs.record_verdict(brought.run_id, evidence, page)
    kinds = store.runs.scored("kinds")
    assert [each.is_rescore for each in kinds] == [False, True]
    # Somebody may have logged anything.
    client = MlflowClient(store.uri, store.uri)
    client.log_metric(run.run_id, "score.adapter.chrf.low", math.nan)
    store.runs.begin("unfinished", "unfinished", {MODEL: "letters"})
    first, last = store.runs.scored("letters")
    assert (first.verdict, first.primary, first.is_rescore) == (
        *("rejected", "chrf"),
        False,
    )
    assert first.point("score.adapter.chrf") == Point(
        at=first.at, estimate=5, low=3, high=7
    )
    assert last.point("score.adapter.chrf") is None


def test_a_terminal_obeys_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = [scored(0, verdict="passed\x1b[2J", version="\x9b1m")]
    print_runs(trend_of("letters", hostile, "chrf"))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x9b" not in printed
    assert "passed\\u001b[2J" in printed
