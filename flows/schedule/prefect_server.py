"""The Prefect server: the one of `assay up`, or one of the run's own, cheaper than Prefect's in-process one, that ends with it."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.address import shown
from core.environment import prefect_address
from core.errors import WorkspaceError
from core.loopback import answers
from core.system_record import read_record
from flows.schedule.prefect_login import client_login

SECONDS_TO_START = 120
SECONDS_BETWEEN_LOOKS = 0.2
LIVES = 5
SECONDS_FOR_EVENTS = 10


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """Set `PREFECT_API_URL` to a server for as long as the context lasts: the one that is configured, that of `assay up`, or an own one."""
    if prefect_address():
        yield
        return
    running = _of_the_system(home)
    if running is not None:
        os.environ.update({"PREFECT_API_URL": running, **client_login(home)})
        try:
            yield
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            os.environ.pop("PREFECT_API_AUTH_STRING", None)
        return
    with _own_server(home / "prefect") as url:
        os.environ["PREFECT_API_URL"] = url
        os.environ.setdefault(
            "PREFECT_LOGGING_TO_API_ENABLED", "false"
        )  # nobody reads the logs of a server that ends with the run
        try:
            yield
        finally:
            os.environ.pop("PREFECT_API_URL", None)


@contextmanager
def _own_server(folder: Path) -> Iterator[str]:
    """Address of a server for as long as the context lasts; one that dies is started again, and Prefect's client tries until it answers."""
    port, over = _free_port(), threading.Event()
    process = _start(folder, port)
    try:
        _wait(process, port, folder / "server.log")
    except BaseException:
        _end(process)
        raise
    keeper = threading.Thread(target=_keep, args=(process, folder, port, over))
    keeper.start()
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        over.set()
        keeper.join()


def _keep(
    process: "subprocess.Popen[bytes]", folder: Path, port: int, over: threading.Event
) -> None:
    """Have a server until it is over. One that dies again and again is left: the run then says that it is away."""
    lives = LIVES
    while not over.wait(SECONDS_BETWEEN_LOOKS):
        if process.poll() is not None and lives > 1:
            lives -= 1
            process = _start(folder, port)
    _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def prefect_answers() -> Iterator[None]:
    """A server that goes away within, for longer than Prefect's client tries again (about a minute), is said in one sentence."""
    import httpx

    try:
        yield
    except RuntimeError as error:
        if "Failed to reach API" not in str(
            error
        ):  # Prefect's own sentence for a server that was never there
            raise
        raise WorkspaceError(
            f"No Prefect server answers at {_address()}. Start it, or unset PREFECT_API_URL: the run brings its own."
        ) from error
    except httpx.HTTPError as error:
        raise WorkspaceError(
            f"The Prefect server at {_address()} went away ({type(error).__name__}). "
            "Nothing that was done is lost: run the same command again."
        ) from error
    finally:
        _let_events_go()


def _address() -> str:
    return shown(os.environ.get("PREFECT_API_URL", ""))


def _let_events_go() -> None:
    """Send what Prefect has to tell its server, within bounds: at its exit it would wait 7 s for each event that no server takes."""
    from prefect.events.worker import EventsWorker

    logging.getLogger("EventsWorker").setLevel(logging.CRITICAL)
    workers = tuple(EventsWorker._instances.values())  # type: ignore[misc]  # noqa: SLF001 - Prefect offers no bound
    EventsWorker.drain_all(timeout=SECONDS_FOR_EVENTS)
    for worker in workers:
        with suppress(
            AttributeError
        ):  # a client that has nobody to tell counts no attempts
            vars(worker._client)["_reconnection_attempts"] = 0  # noqa: SLF001


def server_settings(folder: Path) -> dict[str, str]:
    """Where the server and whoever works for it keep their things."""
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
    }


def _of_the_system(home: Path) -> str | None:
    """Address of the API that `assay up` runs for this home, if it answers."""
    record = read_record(home)
    prefect = (
        record.service("prefect")
        if record is not None and record.is_running()
        else None
    )
    return (
        f"http://127.0.0.1:{prefect.port}/api"
        if prefect is not None and prefect.answers()
        else None
    )


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "flows.schedule.prefect_server",
        "--port",
        str(port),
        "--no-services",
        "--no-ui",
    ]
    log = (folder / "server.log").open("ab")
    environment = {
        **os.environ,
        **server_settings(folder),
        "ASSAY_RUN_PID": str(os.getpid()),
    }
    with log:
        # Of its own group, so that Ctrl-C reaches the run first and the run stops it.
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise WorkspaceError(
                f"The Prefect server ended with code {process.returncode} at start. Read its log, {log}."
            )
        if answers(f"http://127.0.0.1:{port}/api/health"):
            return
        time.sleep(0.1)
    raise WorkspaceError(
        f"The Prefect server was not ready after {SECONDS_TO_START} s. "
        f"Run the same command again when the machine is less busy; the server's log is {log}."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve_until_orphaned(arguments: list[str]) -> None:
    """Run Prefect's server in this process, and end with the process that wanted it, however that ends."""
    from core.lifetime import end_with_the_run

    end_with_the_run()
    sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", *arguments]
    from prefect.cli import app

    app()


if __name__ == "__main__":
    _serve_until_orphaned(sys.argv[1:])
