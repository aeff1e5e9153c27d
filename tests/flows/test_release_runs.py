"""Every release, refusal and way back is one run in Prefect, however often it is told."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from core.errors import OperationError
from core.project import Project
from flows import release_runs
from flows.release_run_text import FLOW
from flows.release_runs import ReleaseRuns
from flows.schedule.prefect_api import post
from operations.reconcile import Reconciler
from registry.ledger.entries import WishClosed, Wished
from registry.ledger.ledger import Ledger, open_ledger
from registry.mlflow.recorded import RELEASE_RUN
from tests.support.deployments import server
from tests.support.journey import ROOT
from tests.support.ledgers import begun, complete_release, judged, write
from tests.support.waiting import wait_until

# The server is shared: each test asks for the runs of its own model.
REASON = "a better tone | for <b>letters</b>"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return f"m-{tmp_path.name[-60:]}"


def shown(model: str) -> list[dict[str, Any]]:
    wanted = {
        "flows": {"name": {"any_": [FLOW]}},
        "flow_runs": {"tags": {"all_": [model]}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    found: list[dict[str, Any]] = post("/flow_runs/filter", wanted)
    return found


def states(model: str) -> list[tuple[str, str]]:
    return [(run["name"], run["state"]["name"]) for run in shown(model)]


def release(ledger: Ledger, version: str, model: str) -> None:
    by_verdict = write(ledger, judged(version, model))
    complete_release(ledger, write(ledger, begun(by_verdict, version, model)))


def refuse(ledger: Ledger, version: str, model: str) -> None:
    reason = ledger.remember(REASON)
    wished = Wished(model=model, version=version, by="rita", reason_sha256=reason)
    wish = write(ledger, wished, judged(version, model, verdict="rejected")) - 1
    why = ledger.remember("bleu 3.10 is not over the champion's 4.20")
    write(ledger, WishClosed(wished=wish, reason_sha256=why))


def show(runs: ReleaseRuns, ledger: Ledger) -> tuple[str, ...]:
    return runs.show(ledger, ledger.state())


@pytest.mark.usefixtures("prefect")
def test_a_release_and_a_refusal_are_one_run_each_with_time_reason_and_page(
    ledger: Ledger, tmp_path: Path, model: str
) -> None:
    release(ledger, "1", model)
    refuse(ledger, "2", model)
    show(ReleaseRuns(tmp_path / "home"), ledger)
    done, refused = shown(model)
    assert states(model) == [
        (f"release {model} 1", "Released"),
        (f"release {model} 2", "Refused"),
    ]
    assert (done["state_type"], refused["state_type"]) == ("COMPLETED", "FAILED")
    assert "bleu 3.10 is not over the champion's 4.20" in refused["state"]["message"]
    assert refused["parameters"]["reason"] == REASON
    wish = ledger.entries()[int(refused["parameters"]["generation"]) - 1]
    # When it was asked for, and not when Prefect heard of it.
    assert refused["expected_start_time"][:23] == wish.at.isoformat()[:23]
    wanted = {"artifacts": {"flow_run_id": {"any_": [refused["id"]]}}}
    (page,) = post("/artifacts/filter", wanted)
    assert "judge: rejected" in page["data"]
    assert "<b>" not in page["data"]


@pytest.mark.usefixtures("prefect")
def test_a_killed_controller_a_lost_memory_and_a_repeated_round_double_nothing(
    ledger: Ledger, tmp_path: Path, model: str
) -> None:
    home = tmp_path / "home"
    release(ledger, "1", model)
    refuse(ledger, "2", model)
    runs = ReleaseRuns(home)
    show(runs, ledger)
    expected = [(run["id"], run["state_id"]) for run in shown(model)]
    show(runs, ledger)
    show(ReleaseRuns(home), ledger)
    (home / "release_runs.json").write_text("{torn")
    show(ReleaseRuns(home), ledger)
    assert [(run["id"], run["state_id"]) for run in shown(model)] == expected


@pytest.mark.usefixtures("prefect")
def test_a_release_on_its_way_runs_and_the_same_run_ends(
    ledger: Ledger, tmp_path: Path, model: str
) -> None:
    home = tmp_path / "home"
    at = write(ledger, begun(write(ledger, judged("1", model)), "1", model))
    show(ReleaseRuns(home), ledger)
    (running,) = shown(model)
    assert running["state_type"] == "RUNNING"
    complete_release(ledger, at)
    show(ReleaseRuns(home), ledger)
    (ended,) = shown(model)
    assert (ended["id"], ended["state"]["name"]) == (running["id"], "Released")


@pytest.mark.usefixtures("prefect")
def test_what_happened_while_prefect_was_down_is_filled_in_bit_by_bit(
    ledger: Ledger, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = ReleaseRuns(tmp_path / "home")
    monkeypatch.setattr(release_runs, "SECONDS_AFTER_A_FAILURE", 0)
    monkeypatch.setattr(release_runs, "MOST_IN_A_ROUND", 2)
    for version in ("1", "2", "3"):
        release(ledger, version, model)
    with monkeypatch.context() as down:
        down.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
        with pytest.raises(OperationError):
            show(runs, ledger)
    assert shown(model) == []
    rounds = [len(show(runs, ledger)) for _ in range(3)]
    assert rounds == [2, 1, 0]
    assert [run["state"]["name"] for run in shown(model)] == ["Released"] * 3


def test_nothing_is_asked_of_a_prefect_that_is_not_configured(
    ledger: Ledger, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    release(ledger, "1", model)
    assert show(ReleaseRuns(tmp_path / "home"), ledger) == ()
    assert not (tmp_path / "home/release_runs.json").exists()


@pytest.mark.usefixtures("prefect")
def test_the_versions_page_leads_to_its_run_and_a_lost_version_stops_no_other(
    ledger: Ledger,
    tmp_path: Path,
    model: str,
    empty_mlflow: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    uri = f"sqlite:///{shutil.copyfile(empty_mlflow, home / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri, uri)
    client.create_registered_model(model)
    for _ in range(2):
        client.create_model_version(model, "nowhere")
    client.delete_model_version(model, "1")
    release(ledger, "1", model)
    refuse(ledger, "2", model)
    duties = Reconciler(Project(tmp_path, home))
    duties.show_releases()
    for _ in range(2):
        duties.link_releases()
    link = client.get_model_version(model, "2").tags[RELEASE_RUN]
    assert link.endswith(f"/runs/flow-run/{shown(model)[1]['id']}")
    memory = ReleaseRuns(home).memory
    assert (memory.due, memory.links[f"{model} 2"]) == ((), link)


@pytest.fixture(scope="module")
def whole_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """With its services: one of them records task runs."""
    with server(tmp_path_factory.mktemp("whole")) as url:
        yield f"{url}/api"


def task_runs(run_id: str) -> list[tuple[str, str, str]]:
    wanted = {
        "flow_runs": {"id": {"any_": [run_id]}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    return [
        (each["name"], each["state_name"], each["start_time"][:23])
        for each in post("/task_runs/filter", wanted)
    ]


@pytest.mark.ci
def test_each_step_is_a_task_run_at_the_time_of_the_ledger(
    whole_server: str,
    ledger: Ledger,
    tmp_path: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", whole_server)
    at = write(ledger, begun(write(ledger, judged("1", model)), "1", model))
    runs = ReleaseRuns(tmp_path / "home")
    show(runs, ledger)
    complete_release(ledger, at)
    show(runs, ledger)
    show(ReleaseRuns(tmp_path / "home"), ledger)
    times = {entry.body.kind: entry.at.isoformat()[:23] for entry in ledger.entries()}
    expected = [
        ("judge: passed", "Completed", times["judged"]),
        ("load and probe", "Completed", times["release_begun"]),
        ("full traffic", "Completed", times["release_switched"]),
    ]
    (run,) = shown(model)
    wait_until(
        lambda: task_runs(run["id"]) == expected, 30, lambda: task_runs(run["id"])
    )
    assert task_runs(run["id"]) == expected


_KILLED = """
import os, sys
from pathlib import Path
from flows import release_runs
from flows.schedule import prefect_runs
from registry.ledger.ledger import open_ledger

home, name = Path(sys.argv[1]), sys.argv[2]
told = getattr(prefect_runs, name)

def killed(*given):
    told(*given)
    os.kill(os.getpid(), 9)

setattr(prefect_runs, name, killed)
ledger = open_ledger(home)
release_runs.ReleaseRuns(home).show(ledger, ledger.state())
"""


@pytest.mark.ci
@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    "after", ["create_run", "record_steps", "put_markdown", "set_state"]
)
def test_a_controller_that_is_killed_after_any_request_leaves_no_second_run(
    after: str, ledger: Ledger, tmp_path: Path, model: str
) -> None:
    home = tmp_path / "home"
    release(ledger, "1", model)
    refuse(ledger, "2", model)
    command = [sys.executable, "-c", _KILLED, str(home), after]
    ended = subprocess.run(command, cwd=ROOT, check=False, timeout=120)
    assert ended.returncode == -9
    show(ReleaseRuns(home), ledger)
    assert [state for _, state in states(model)] == ["Released", "Refused"]
    for run in shown(model):
        wanted = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        assert len(post("/artifacts/filter", wanted)) == 1
