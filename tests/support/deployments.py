"""Prefect as `assay up` runs it, over a checkout of its own.

It has its services, its UI, our deployments and our worker.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil

from pipelines.values.params import parse_assignment
from tests.support.journey import ROOT, SETTINGS, Checkout
from tests.support.processes import children_of
from tests.support.waiting import SECONDS_AT_MOST

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
MODEL = "letters-tiny"


@dataclass(frozen=True)
class Night:
    """A nightly run that has ended, and how much there was then: MLflow's records, and messages."""

    run: dict[str, Any]
    versions: list[Any]
    runs: list[Any]
    messages: int


@dataclass(frozen=True)
class Nights:
    """A night whose schedule came due, and the next one, in which there were no new rows."""

    first: Night
    second: Night


@dataclass(frozen=True)
class Automatic:
    """A Prefect server with worker and deployments, and everything that was sent to people."""

    checkout: Checkout
    data: Path
    base: Path
    url: str
    received: list[dict[str, Any]]
    environment: Mapping[str, str]

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    @property
    def request(self) -> dict[str, Any]:
        """The tiny rows and the tiny base, under the settings that it learns under."""
        settings = dict(parse_assignment(setting) for setting in SETTINGS)
        return {
            "model": MODEL,
            "data": str(self.data),
            "base_model": str(self.base),
            "settings": settings,
        }

    @property
    def nightly_parameters(self) -> dict[str, Any]:
        """Those of a night on the tiny rows; a deployment that is declared again has its own."""
        return {
            "request": self.request,
            "only_new_data": True,
            "when_busy": "skip",
        }

    def deployment(self, name: str) -> dict[str, Any]:
        return dict(
            ask("GET", f"{self.api}/deployments/name/{name}").raise_for_status().json()
        )

    def change(self, name: str, **fields: Any) -> None:
        ask(
            "PATCH",
            f"{self.api}/deployments/{self.deployment(name)['id']}",
            json=fields,
        ).raise_for_status()

    def start(self, name: str, **parameters: Any) -> httpx.Response:
        """Ask for a run, as the form's button does."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return ask(
            "POST",
            f"{self.api}/deployments/{self.deployment(name)['id']}/create_flow_run",
            json=body,
        )

    def due_in(self, name: str, seconds: float) -> datetime:
        """Move the deployment's cron so near that it is due in some seconds; give the time."""
        due = (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)
        cron = f"{due.minute} {due.hour} {due.day} {due.month} * {due.second}"
        self.reschedule(name, {"cron": cron, "timezone": "UTC"})
        return due

    def reschedule(self, name: str, schedule: dict[str, Any]) -> None:
        """Give the deployment's only schedule other times."""
        deployment = self.deployment(name)
        own = f"{self.api}/deployments/{deployment['id']}"
        path = f"{own}/schedules/{deployment['schedules'][0]['id']}"
        ask("PATCH", path, json={"schedule": schedule}).raise_for_status()

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The runs of a deployment that have begun or are due, oldest first.

        Not those that the scheduler keeps for later years.
        """
        soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        query = {
            "deployment_id": {"any_": [self.deployment(name)["id"]]},
            "expected_start_time": {"before_": soon},
        }
        answer = ask(
            "POST",
            f"{self.api}/flow_runs/filter",
            json={"flow_runs": query, "sort": "EXPECTED_START_TIME_ASC"},
        )
        return list(answer.raise_for_status().json())

    def night(self, run: dict[str, Any]) -> Night:
        """What there is now, after this nightly run."""
        checkout = self.checkout
        return Night(run, checkout.versions(), checkout.runs(), len(self.received))

    def wait_for(
        self, run_id: str, *states: str, seconds: float = SECONDS_AT_MOST
    ) -> dict[str, Any]:
        """The flow run once it is in one of these states; by default once it has ended."""
        run: dict[str, Any] = {}
        for _ in until(seconds):
            run = ask("GET", f"{self.api}/flow_runs/{run_id}").raise_for_status().json()
            if run["state"]["type"] in (states or ENDED):
                return run
        raise AssertionError(f"still {run['state']}")

    def run_to_end(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Start a run of a deployment, and give it once it has ended."""
        run = self.start(name, **parameters).raise_for_status().json()
        return self.wait_for(run["id"])

    def wait_for_new_run(self, name: str, known_ids: set[str]) -> dict[str, Any]:
        """Wait until the deployment has one more run, and give it once it has ended."""
        for _ in until(SECONDS_AT_MOST):
            new = [run for run in self.runs(name) if run["id"] not in known_ids]
            if new:
                return self.wait_for(new[0]["id"])
        raise AssertionError(f"{name} has no new run")

    def run_ids(self, name: str) -> set[str]:
        return {run["id"] for run in self.runs(name)}

    def wait_for_message(
        self, words: str, seconds: float = SECONDS_AT_MOST
    ) -> dict[str, Any]:
        """The message that holds these words, once it has arrived."""
        for _ in until(seconds):
            for message in self.received:
                if words in message["title"] or words in message["message"]:
                    return message
        titles = [message["title"] for message in self.received]
        raise AssertionError(f"no message holds {words!r}: {titles}")


def ask(method: str, url: str, **content: Any) -> httpx.Response:
    """The answer of Prefect's API.

    While its SQLite database is locked it answers 503: its own clients retry then, too.
    """
    answer = httpx.request(method, url, timeout=SECONDS_AT_MOST, **content)
    for _ in until(SECONDS_AT_MOST):
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        answer = httpx.request(method, url, timeout=SECONDS_AT_MOST, **content)
    return answer


def until(seconds: float, pause: float = 0.25) -> Iterator[None]:
    """Turns of a loop until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(pause)


@contextmanager
def automatic(
    checkout: Checkout, data: Path, base: Path, folder: Path
) -> Iterator[Automatic]:
    """Server, deployments, worker and receiver for as long as the context lasts."""
    with receiver() as (address, received), server(folder) as url:
        environment = {
            **plain_environment(),
            **checkout.environment,
            "PREFECT_API_URL": f"{url}/api",
            "ASSAY_NOTIFY": address,
        }
        environment |= {
            "PREFECT_HOME": str(folder),
            "ASSAY_RUN_PID": str(os.getpid()),
            "PREFECT_LOGGING_TO_API_ENABLED": "true",
        }
        environment.pop("PREFECT_LOGGING_LEVEL", None)
        system = Automatic(checkout, data, base, url, received, environment)
        deploy(system)
        with worker(system):
            yield system


def deploy(system: Automatic) -> None:
    subprocess.run(
        [sys.executable, "-m", "flows.schedule.deploy"],
        cwd=system.checkout.root,
        env=system.environment,
        check=True,
        timeout=SECONDS_AT_MOST,
    )


@contextmanager
def worker(system: Automatic) -> Iterator["subprocess.Popen[bytes]"]:
    with (system.checkout.home / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.schedule.worker"],
            cwd=system.checkout.root,
            env=system.environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        end(process)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A whole Prefect server on a free port: it looks at schedules every two seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = plain_environment() | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "ASSAY_RUN_PID": str(os.getpid()),
    }
    command = [
        sys.executable,
        "-m",
        "flows.schedule.prefect_server",
        "--port",
        str(port),
    ]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/api/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Where Apprise sends to: a real HTTP server that keeps what it gets."""
    received: list[dict[str, Any]] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in http.server
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Keep)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{http_server.server_address[1]}", received
    finally:
        http_server.shutdown()
        http_server.server_close()


def wait_for_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in until(SECONDS_AT_MOST):
        assert process.poll() is None, "the Prefect server ended at start"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            continue
    raise AssertionError("the Prefect server does not answer")


def plain_environment() -> dict[str, str]:
    """Ours, without the Prefect server that other tests share."""
    return {
        name: setting
        for name, setting in os.environ.items()
        if not name.startswith("PREFECT_API")
    }


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process and whatever it started."""
    # The number of one that was waited for may be another's by now.
    has_ended = process.poll() is not None
    below = [] if has_ended else children_of(process.pid, recursive=True)
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in psutil.wait_procs(below, timeout=5)[1]:
        child.kill()
