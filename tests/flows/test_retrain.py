"""What runs by itself, through a real Prefect server, a real worker and a real training on a tiny model."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.errors import AlreadyTraining
from core.notify import notices
from core.project import Project
from flows.run.training_lock import training_turn
from flows.schedule.arrivals import revision_in, watch_data
from flows.schedule.crashes import GRACE, Crashes
from registry.mlflow.recorded import VERDICT
from tests.support.deployments import MODEL, Automatic, until, worker
from tests.support.journey import ROOT, learnable_rows, write_rows


@pytest.mark.ci
def test_a_nightly_run_fires_by_its_schedule_and_ends_with_a_judged_version(
    running: Automatic, nightly: dict[str, Any]
) -> None:
    assert nightly["auto_scheduled"] is True
    assert nightly["state"]["name"] == "Passed", nightly["state"]
    assert (
        "registered as letters-tiny version 1, alias challenger"
        in nightly["state"]["message"]
    )
    (version,) = running.checkout.versions()
    assert version.tags[VERDICT] == "passed"
    (run,) = running.checkout.runs()
    assert (run.data.tags[VERDICT], run.info.status) == ("passed", "FINISHED")
    assert run.data.tags["assay.data_revision"]


@pytest.mark.ci
def test_its_result_reaches_people_with_verdict_and_links(
    running: Automatic, nightly: dict[str, Any]
) -> None:
    told = running.told("letters-tiny passed")
    assert "registered as letters-tiny version 1" in told["message"]
    assert f"{running.url}/runs/flow-run/{nightly['id']}" in told["message"]
    assert "MLflow: run " in told["message"]


@pytest.mark.ci
def test_a_night_without_new_rows_makes_no_candidate_and_says_so(
    running: Automatic, nightly: dict[str, Any]
) -> None:
    told = len(running.received)
    run = running.ended("retrain/nightly")
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "NoNewRows")
    assert "No new rows for letters-tiny since" in run["state"]["message"]
    assert len(running.checkout.runs()) == len(running.checkout.versions()) == 1
    assert len(running.received) == told, "nobody wants to hear of it every night"


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
    running: Automatic, nightly: dict[str, Any]
) -> None:
    with training_turn(running.checkout.home, MODEL):
        waiting = running.start("retrain/on-demand", request=running.request).json()[
            "id"
        ]
        skipped = running.ended("retrain/nightly")
        assert skipped["state"]["name"] == "AlreadyTraining"
        assert (
            skipped["state"]["message"]
            == "letters-tiny is being trained by another run already: nothing was started."
        )
        running.wait_for(waiting, "RUNNING")
        time.sleep(1)
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
    run = running.ended(
        "retrain/on-demand", request={**running.request, "data": "/nowhere/rows.jsonl"}
    )
    assert run["state"]["type"] == "FAILED"
    assert (
        "There is no file /nowhere/rows.jsonl"
        in running.told("/nowhere/rows.jsonl")["message"]
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
    running: Automatic, nightly: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(running.checkout.root, running.checkout.home)
    monkeypatch.setenv("PREFECT_API_URL", running.api)
    monkeypatch.setattr("flows.schedule.arrivals.SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr("flows.schedule.arrivals.SECONDS_TO_SETTLE", 600)
    arriving = settled(
        write_rows(running.data.with_name("arriving.jsonl"), learnable_rows())
    )
    running.change(
        "retrain/on-data-arrival",
        parameters={"request": {**running.request, "data": str(arriving)}},
    )
    assert watch_data(project) == (), (
        "what lay there before anybody looked did not arrive"
    )
    write_rows(arriving, learnable_rows(20))
    assert watch_data(project) == (), (
        "a file that was written to just now may still be growing"
    )
    settled(arriving)
    assert watch_data(project) == (f"New rows for {MODEL}: training was asked for.",)
    assert watch_data(project) == ()
    for _ in until(120):
        if running.runs("retrain/on-data-arrival"):
            break
    (run,) = running.runs("retrain/on-data-arrival")
    done = running.wait_for(run["id"])
    assert done["state"]["name"] == "Rejected", "twenty rows are too few"
    assert "too few rows" in running.told("letters-tiny rejected")["message"]
    told = len(running.received)
    back = running.ended("retrain/nightly")
    assert (
        "the same data, parameters, base, code and champion were judged before"
        in back["state"]["message"]
    )
    assert len(running.received) == told, (
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
    running.change(
        "retrain/on-data-arrival",
        parameters={
            "request": {**running.request, "data": str(tmp_path / "later.jsonl")}
        },
    )
    assert watch_data(project) == ()
    write_rows(tmp_path / "later.jsonl", learnable_rows(20))
    assert watch_data(project) == (f"New rows for {MODEL}: training was asked for.",)
    assert watch_data(project) == ()


@pytest.mark.ci
def test_a_run_that_is_killed_is_crashed_at_once_and_told(running: Automatic) -> None:
    with training_turn(running.checkout.home, MODEL):
        run = running.start("retrain/on-demand", request=running.request).json()["id"]
        running.wait_for(run, "RUNNING")
        kill_flow_run(run)
        assert running.wait_for(run)["state"]["type"] == "CRASHED"
    assert run in running.told("a run crashed")["message"]


@pytest.mark.ci
def test_a_crash_that_no_automation_saw_is_told_by_the_controller_once(
    running: Automatic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", running.api)
    monkeypatch.delenv("ASSAY_NOTIFY", raising=False)
    (run,) = [
        run
        for run in running.runs("retrain/on-demand")
        if run["state"]["type"] == "CRASHED"
    ]
    crashed, deaf = run["id"], Project(running.checkout.root, tmp_path)
    soon = datetime.fromisoformat(run["state"]["timestamp"]) + GRACE / 2
    assert Crashes(deaf).watch(soon) == (), "the automation has its time first"
    later = datetime.now(UTC) + GRACE + timedelta(seconds=30)
    (sentence,) = Crashes(deaf).watch(later)
    assert "crashed" in sentence
    (notice,) = notices(tmp_path)
    assert crashed in notice.text
    assert Crashes(deaf).watch(later) == ()
    assert (
        Crashes(Project(running.checkout.root, running.checkout.home)).watch(later)
        == ()
    ), "the automation told it"


def test_the_turn_of_a_run_that_was_killed_is_free(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from flows.run.training_lock import training_turn\n"
        f"with training_turn(Path({str(tmp_path)!r}), 'letters'):\n    print('held', flush=True); time.sleep(600)"
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
        psutil.wait_procs([process], timeout=60)
        assert not process.is_running(), "the flow run watches its worker"
        with worker(running):
            assert running.wait_for(run, seconds=240)["state"]["type"] == "CRASHED"
            assert (
                "No sign of life"
                in running.told("No sign of life", seconds=60)["message"]
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
