"""The Prefect server: the one of `assay up`, or one of the run's own, cheaper than Prefect's in-process one, that ends with it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.system.record import answers, read_record
from pipelines.errors import WorkspaceError

SECONDS_TO_START = 120


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """Set `PREFECT_API_URL` to a server for as long as the context lasts: the one that is configured, that of `assay up`, or an own one."""
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    running = _of_the_system(home)
    if running is not None:
        os.environ["PREFECT_API_URL"] = running
        try:
            yield
        finally:
            os.environ.pop("PREFECT_API_URL", None)
        return
    port = _free_port()
    process = _start(home / "prefect", port)
    try:
        _wait(process, port)
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")  # nobody reads the logs of a server that ends with the run
        yield
    finally:
        os.environ.pop("PREFECT_API_URL", None)
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
    except httpx.HTTPError as error:
        raise WorkspaceError(
            f"The Prefect server at {os.environ.get('PREFECT_API_URL')} went away ({type(error).__name__}). "
            "Nothing that was done is lost: run the same command again."
        ) from error


def server_settings(folder: Path) -> dict[str, str]:
    """Where the server and whoever works for it keep their things."""
    return {"PREFECT_HOME": str(folder), "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}"}


def _of_the_system(home: Path) -> str | None:
    """Address of the API that `assay up` runs for this home, if it answers."""
    record = read_record(home)
    prefect = record.service("prefect") if record is not None and record.is_running() else None
    return f"http://127.0.0.1:{prefect.port}/api" if prefect is not None and prefect.answers() else None


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.prefect_server", "--port", str(port), "--no-services", "--no-ui"]
    log = (folder / "server.log").open("ab")
    environment = {**os.environ, **server_settings(folder), "ASSAY_RUN_PID": str(os.getpid())}
    with log:
        # Of its own group, so that Ctrl-C reaches the run first and the run stops it.
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise WorkspaceError(f"The Prefect server ended with code {process.returncode} at start. Its log is .assay/prefect/server.log.")
        if answers(f"http://127.0.0.1:{port}/api/health"):
            return
        time.sleep(0.1)
    raise WorkspaceError(f"The Prefect server was not ready after {SECONDS_TO_START} s. Its log is .assay/prefect/server.log.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve_until_orphaned(arguments: list[str]) -> None:
    """Run Prefect's server in this process, and end with the process that wanted it, however that ends."""
    from pipelines.__main__ import end_with_the_run

    end_with_the_run()
    sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", *arguments]
    from prefect.cli import app

    app()


if __name__ == "__main__":
    _serve_until_orphaned(sys.argv[1:])
