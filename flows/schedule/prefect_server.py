"""The Prefect server of `assay up`, or one of the run's own that ends with the run.

A process of its own is cheaper than the server that Prefect starts inside the run's process.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core.address import shown
from core.children import (
    OWN_MODULE,
    ChildCommand,
    end_child,
    owned_by_this_process,
    start_child,
)
from core.environment import prefect_address
from core.errors import WorkspaceError
from core.loopback import LOOPBACK, answers
from core.settings import Settings
from core.system_record import read_record
from flows.schedule.prefect_login import client_login

if TYPE_CHECKING:
    import subprocess

SECONDS_TO_START = 120
SECONDS_BETWEEN_LOOKS = 0.2
LIVES = 5
SECONDS_FOR_EVENTS = 10
_SECONDS_TO_STOP = 15
_SECONDS_BETWEEN_QUESTIONS = 0.1
_NEVER_REACHED = "Failed to reach API"
"""Prefect's own words for a server that never answered."""


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """Set `PREFECT_API_URL` to a server for as long as the context lasts.

    It is the configured one, else that of `assay up`, else one of the run's own.
    `WorkspaceError` where the run's own does not start.
    """
    if prefect_address():
        yield
        return
    url_of_the_system = _url_of_the_system(home)
    if url_of_the_system is not None:
        os.environ.update({"PREFECT_API_URL": url_of_the_system, **client_login(home)})
        _refresh_settings()
        try:
            yield
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            os.environ.pop("PREFECT_API_AUTH_STRING", None)
            _refresh_settings()
        return
    # A database of its own, which no other server writes.
    with _own_server(home / "prefect") as url:
        os.environ["PREFECT_API_URL"] = url
        # Nobody reads the logs of a server that ends with the run.
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
        _refresh_settings()
        try:
            yield
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            _refresh_settings()


def _refresh_settings() -> None:
    """Have Prefect read its variables again, where this process imported it before they were set.

    It would start a server of its own otherwise, which nobody else sees.
    """
    if "prefect" not in sys.modules:
        return
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


@dataclass
class _OwnServer:
    """A server of the run's own, which is started again when it dies."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]" = field(init=False)
    # Counted down with every restart.
    lives: int = LIVES
    _is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self.folder / "server.log"

    def start(self) -> None:
        """Start it; it ends with this process, however that ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A run of its own has nobody who would look at pages.
        command = (
            *(*OWN_MODULE, "flows.schedule.prefect_server"),
            *("--port", str(self.port), "--no-services", "--no-ui"),
        )
        environment = {
            **os.environ,
            **server_settings(self.folder),
            **owned_by_this_process(),
        }
        self.process = start_child(ChildCommand(command, environment, self.log))

    def wait_until_ready(self) -> None:
        """Return once it answers; `WorkspaceError` where it ends first or takes too long."""
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            # A server that has ended will never answer: its log says why.
            if self.process.poll() is not None:
                raise WorkspaceError(
                    f"The Prefect server ended with code {self.process.returncode} at start. "
                    f"Read its log, {self.log}."
                )
            if answers(f"http://{LOOPBACK}:{self.port}/api/health"):
                return
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        raise WorkspaceError(
            f"The Prefect server was not ready after {SECONDS_TO_START} s. Run the same command "
            f"again when the machine is less busy; the server's log is {self.log}."
        )

    def keep_running(self) -> None:
        """Start it again when it dies, until `finish` is called, and then end it.

        A server that dies again and again stays dead: the run then reports that it is unreachable.
        """
        while not self._is_over.wait(SECONDS_BETWEEN_LOOKS):
            if self.process.poll() is not None and self.lives > 1:
                self.lives -= 1
                self.start()
        self.end()

    def finish(self) -> None:
        """Have `keep_running` end the server and return."""
        self._is_over.set()

    def end(self) -> None:
        """End it now."""
        end_child(self.process, _SECONDS_TO_STOP)


@contextmanager
def _own_server(folder: Path) -> Iterator[str]:
    """Run a server for as long as the context lasts, and give its address.

    While a server that died is started again, Prefect's client keeps asking.
    """
    server = _OwnServer(folder, _free_port())
    server.start()
    try:
        server.wait_until_ready()
    except BaseException:
        server.end()
        raise
    # Prefect's client tries again meanwhile, so that a restart costs no run.
    keeper = threading.Thread(target=server.keep_running)
    keeper.start()
    try:
        yield f"http://{LOOPBACK}:{server.port}/api"
    finally:
        server.finish()
        keeper.join()


@contextmanager
def prefect_answers() -> Iterator[None]:
    """Report in one sentence, as `WorkspaceError`, a server that goes away within.

    Prefect's client asks again for about a minute before it gives up.
    """
    import httpx

    try:
        yield
    except RuntimeError as error:
        # Other errors of this type are the flow's own.
        if _NEVER_REACHED not in str(error):
            raise
        raise WorkspaceError(
            f"No Prefect server answers at {_address()}. Start it, or unset PREFECT_API_URL: "
            "the run brings its own."
        ) from error
    except httpx.HTTPError as error:
        raise WorkspaceError(
            f"The Prefect server at {_address()} went away ({type(error).__name__}). "
            "Nothing that was done is lost: run the same command again."
        ) from error
    finally:
        _send_events()


def _address() -> str:
    return shown(os.environ.get("PREFECT_API_URL", ""))


def _send_events() -> None:
    """Send Prefect's waiting events to its server, within bounds.

    At its exit Prefect would wait 7 s for each event that no server takes.
    """
    from prefect.events.worker import EventsWorker

    logging.getLogger("EventsWorker").setLevel(logging.CRITICAL)
    # Prefect offers no bound of its own, so its private list is read.
    workers = tuple(EventsWorker._instances.values())  # type: ignore[misc]  # noqa: SLF001
    EventsWorker.drain_all(timeout=SECONDS_FOR_EVENTS)
    for worker in workers:
        # A client without a server to send to counts no attempts.
        with suppress(AttributeError):
            vars(worker._client)["_reconnection_attempts"] = 0  # noqa: SLF001


def server_settings(folder: Path) -> dict[str, str]:
    """Where the server and its clients keep their files, and its database.

    `OperationError` where `ASSAY_PREFECT_DATABASE_URL` is no address of PostgreSQL.
    """
    database = f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    configured = Settings().prefect_database_url
    if configured:
        # Only here: this process must be able to end before anything slow is imported.
        from registry.postgresql import postgresql_address

        database = postgresql_address(
            "ASSAY_PREFECT_DATABASE_URL", configured, "asyncpg"
        )
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": database,
    }


def _url_of_the_system(home: Path) -> str | None:
    """Address of the API that `assay up` runs for this home, if it answers."""
    record = read_record(home)
    # The record outlives an `assay up` that was killed.
    if record is None or not record.is_running():
        return None
    prefect = record.service("prefect")
    if prefect is None or not prefect.answers():
        return None
    return f"http://{LOOPBACK}:{prefect.port}/api"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _serve_until_orphaned(arguments: list[str]) -> None:
    """Run Prefect's server in this process, and end with its owner, however that ends."""
    from core.lifetime import end_with_the_run

    # Before Prefect is imported, which takes seconds.
    end_with_the_run()
    sys.argv = ["prefect", "server", "start", "--host", LOOPBACK, *arguments]
    from prefect.cli import app

    app()


if __name__ == "__main__":
    _serve_until_orphaned(sys.argv[1:])
