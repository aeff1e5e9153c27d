"""What runs by itself: a real Prefect server, a real worker, a real training."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from core.errors import AlreadyTraining
from core.notify import Notice, notices
from core.project import Project
from flows.run.training_lock import training_turn
from flows.schedule.arrivals import revision_in, watch_data
from flows.schedule.crashes import GRACE, Crashes
from registry.mlflow.recorded import VERDICT
from tests.support.deployments import MODEL, Automatic, Nights, worker
from tests.support.journey import ROOT, learnable_rows, write_rows
from tests.support.waiting import SECONDS_AT_MOST

ARRIVAL = "retrain/on-data-arrival"


@pytest.mark.ci
def test_a_nightly_run_fires_by_its_schedule_and_ends_with_a_judged_version(
    nights: Nights,
) -> None:
    flow_run = nights.first.run
    assert flow_run["auto_scheduled"] is True
    assert flow_run["state"]["name"] == "Passed", flow_run["state"]
    assert (
        "registered as letters-tiny version 1, alias challenger"
        in flow_run["state"]["message"]
    )
    (version,) = nights.first.versions
    assert version.tags[VERDICT] == "passed"
    (run,) = nights.first.runs
    assert (run.data.tags[VERDICT], run.info.status) == ("passed", "FINISHED")
    assert run.data.tags["assay.data_revision"]


@pytest.mark.ci
def test_its_result_reaches_people_with_verdict_and_links(
    running: Automatic, nights: Nights
) -> None:
    text = running.wait_for_message("letters-tiny passed")["message"]
    assert "registered as letters-tiny version 1" in text
    assert f"{running.url}/runs/flow-run/{nights.first.run['id']}" in text
    assert "MLflow: run " in text


@pytest.mark.ci
def test_a_night_without_new_rows_makes_no_candidate_and_says_so(
    nights: Nights,
) -> None:
    state = nights.second.run["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "NoNewRows")
    assert "No new rows for letters-tiny since" in state["message"]
    assert len(nights.second.runs) == len(nights.second.versions) == 1
    assert nights.second.messages == nights.first.messages, (
        "nobody wants to hear of it every night"
    )


@pytest.mark.ci
def test_a_bad_value_is_refused_before_anything_starts(running: Automatic) -> None:
    before = len(running.runs("retrain/on-demand"))
    for parameters in (
        {"request": {"model": "../x"}},
        {"request": {"mode": "x"}},
        {"when_busy": "perhaps"},
        {"only_new_data": "x"},
    ):
        refused = running.start("retrain/on-demand", **parameters)
        assert refused.status_code == 409
        assert "Validation failed" in refused.json()["detail"]
    assert len(running.runs("retrain/on-demand")) == before


@pytest.mark.ci
def test_a_run_that_finds_its_model_in_training_skips_or_waits(
    running: Automatic, nights: Nights
) -> None:
    with training_turn(running.checkout.home, MODEL):
        waiting = running.start("retrain/on-demand", request=running.request).json()[
            "id"
        ]
        skipped = running.run_to_end("retrain/nightly", **running.nightly_parameters)
        assert skipped["state"]["name"] == "AlreadyTraining"
        assert (
            skipped["state"]["message"]
            == "letters-tiny is being trained by another run already: nothing was started."
        )
        running.wait_for(waiting, "RUNNING")
        # The one that skipped began later and has ended: this one waits all the same.
        assert running.wait_for(waiting, "RUNNING")["state"]["name"] == "Running"
    done = running.wait_for(waiting)
    assert (
        "the same data, parameters, base, code and champion were judged before"
        in done["state"]["message"]
    )


@pytest.mark.ci
def test_a_request_that_cannot_be_carried_out_fails_and_is_told(
    running: Automatic,
) -> None:
    request = {**running.request, "data": "/nowhere/rows.jsonl"}
    run = running.run_to_end("retrain/on-demand", request=request)
    assert run["state"]["type"] == "FAILED"
    assert (
        "There is no file /nowhere/rows.jsonl"
        in running.wait_for_message("/nowhere/rows.jsonl")["message"]
    )


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("odd")]
)
def test_a_run_that_ends_in_an_error_that_nobody_foresaw_is_told(
    prefect: None, tmp_path: Path, error: Exception
) -> None:
    from flows.retrain import (
        notified_on_error,
    )  # imports Prefect, which reads then where its server is

    with (
        pytest.raises(type(error)),
        notified_on_error(Project(ROOT, tmp_path), "letters"),
    ):
        raise error
    (notice,) = notices(tmp_path)
    assert notice.title == "Assay: a run of letters failed"
    assert f"{type(error).__name__}: {error}" in notice.text


@pytest.mark.ci
def test_rows_that_arrive_start_a_run_once(
    running: Automatic, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(running.checkout.root, running.checkout.home)
    monkeypatch.setenv("PREFECT_API_URL", running.api)
    monkeypatch.setattr("flows.schedule.arrivals.SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr("flows.schedule.arrivals.SECONDS_TO_SETTLE", 600)
    arriving = settled(
        write_rows(running.data.with_name("arriving.jsonl"), learnable_rows())
    )
    request = {**running.request, "data": str(arriving)}
    running.change(ARRIVAL, parameters={"request": request})
    assert watch_data(project) == (), (
        "what lay there before anybody looked did not arrive"
    )
    write_rows(arriving, learnable_rows(20))
    assert watch_data(project) == (), (
        "a file that was written to just now may still be growing"
    )
    settled(arriving)
    known_ids = running.run_ids(ARRIVAL)
    assert watch_data(project) == (f"New rows for {MODEL}: training was asked for.",)
    assert watch_data(project) == ()
    done = running.wait_for_new_run(ARRIVAL, known_ids)
    assert done["state"]["name"] == "Rejected", "twenty rows are too few"
    rejection = running.wait_for_message("letters-tiny rejected")
    assert "too few rows" in rejection["message"]
    messages = len(running.received)
    back = running.run_to_end("retrain/nightly", **running.nightly_parameters)
    assert (
        "the same data, parameters, base, code and champion were judged before"
        in back["state"]["message"]
    )
    assert len(running.received) == messages, (
        "rows that went back to older ones are not told every night"
    )


def settled(path: Path) -> Path:
    """As if it had been written a thousand seconds before."""
    before = path.stat().st_mtime - 1000
    os.utime(path, (before, before))
    return path


@pytest.mark.ci
def test_rows_that_come_to_a_place_where_none_lay_have_arrived(
    running: Automatic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(running.checkout.root, tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", running.api)
    monkeypatch.setattr("flows.schedule.arrivals.SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr("flows.schedule.arrivals.SECONDS_TO_SETTLE", 0)
    later = tmp_path / "later.jsonl"
    request = {**running.request, "model": "letters-later", "data": str(later)}
    running.change(ARRIVAL, parameters={"request": request})
    assert watch_data(project) == ()
    write_rows(later, learnable_rows(20))
    known_ids = running.run_ids(ARRIVAL)
    assert watch_data(project) == (
        "New rows for letters-later: training was asked for.",
    )
    assert watch_data(project) == ()
    done = running.wait_for_new_run(ARRIVAL, known_ids)
    assert done["state"]["name"] == "Rejected", "twenty rows are too few"


@pytest.mark.ci
def test_a_run_that_is_killed_is_crashed_at_once_and_told_once(
    running: Automatic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training_turn(running.checkout.home, MODEL):
        run_id = running.start("retrain/on-demand", request=running.request).json()[
            "id"
        ]
        running.wait_for(run_id, "RUNNING")
        kill_flow_run(run_id)
        run = running.wait_for(run_id)
        assert run["state"]["type"] == "CRASHED"
    assert "a run crashed" in running.wait_for_message(run_id)["title"]

    monkeypatch.setenv("PREFECT_API_URL", running.api)
    monkeypatch.delenv("ASSAY_NOTIFY", raising=False)
    by_automation = Project(running.checkout.root, running.checkout.home)
    by_nobody = Project(running.checkout.root, tmp_path)
    crash = datetime.fromisoformat(run["state"]["timestamp"])
    Crashes(by_nobody).watch(crash + GRACE / 2)
    assert notices_of(run_id, by_nobody) == [], "the automation has its time first"
    later = datetime.now(UTC) + GRACE + timedelta(seconds=30)
    for _ in range(2):
        Crashes(by_nobody).watch(later)
        (notice,) = notices_of(run_id, by_nobody)
        assert "crashed" in notice.text
    known = len(notices_of(run_id, by_automation))
    Crashes(by_automation).watch(later)
    assert len(notices_of(run_id, by_automation)) == known, "the automation told it"


def notices_of(run_id: str, project: Project) -> list[Notice]:
    return [notice for notice in notices(project.home) if run_id in notice.text]


def test_the_turn_of_a_run_that_was_killed_is_free(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from flows.run.training_lock import "
        "training_turn\n"
        f"with training_turn(Path({str(tmp_path)!r}), 'letters'):\n    print('held', "
        "flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(
                AlreadyTraining, match="letters is being trained by another run already"
            ),
            training_turn(tmp_path, "letters", waits=False),
        ):
            pass
        with training_turn(tmp_path, "digits", waits=False):
            pass
        process.kill()
        process.wait()
        with training_turn(tmp_path, "letters", waits=False):
            pass


def test_the_revision_names_the_rows_and_how_they_are_read(
    cloned: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(cloned, tmp_path / "assay"))
    seen = {revision_in(root)}
    (root / "params.yaml").write_text(
        (root / "params.yaml").read_text().replace("source: cheat", "source: file")
    )
    seen.add(revision_in(root))
    write_rows(root / "data/raw/rows.jsonl", learnable_rows(20))
    seen.add(revision_in(root))
    write_rows(root / "data/raw/held_out.jsonl", learnable_rows(5))
    seen.add(revision_in(root))
    assert len(seen) == 4
    (root / "pipelines/stages/score.py").write_text("# other code, the same rows\n")
    assert revision_in(root) in seen


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_no_run_running_and_no_process(
    running: Automatic,
) -> None:
    with training_turn(running.checkout.home, MODEL):
        run = running.start("retrain/on-demand", request=running.request).json()["id"]
        running.wait_for(run, "RUNNING")
        time.sleep(3)
        (process,) = flow_runs(run)
        for each in processes("flows.schedule.worker", "PREFECT_API_URL", running.api):
            os.kill(each.pid, signal.SIGKILL)
        psutil.wait_procs([process], timeout=SECONDS_AT_MOST)
        assert not process.is_running(), "the flow run watches its worker"
        with worker(running):
            assert running.wait_for(run)["state"]["type"] == "CRASHED"
            assert (
                "No sign of life"
                in running.wait_for_message("No sign of life")["message"]
            )


def kill_flow_run(run_id: str) -> None:
    for process in flow_runs(run_id):
        os.kill(process.pid, signal.SIGKILL)


def flow_runs(run_id: str) -> list[psutil.Process]:
    return processes("flows.schedule.engine", "PREFECT__FLOW_RUN_ID", run_id)


def processes(module: str, variable: str, setting: str) -> list[psutil.Process]:
    """Those that run this module with this variable; others come and go while we look."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if (
                module in process.cmdline()
                and process.environ().get(variable) == setting
            ):
                found.append(process)
    return found
