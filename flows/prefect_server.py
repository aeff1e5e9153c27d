"""A Prefect server of the run's own, where none is configured: cheaper than Prefect's in-process one, and stopped at the end."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import WorkspaceError

SECONDS_TO_START = 120


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """Set `PREFECT_API_URL` to a server for as long as the context lasts; one that is configured already is left alone."""
    if os.environ.get("PREFECT_API_URL"):
        yield
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


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.prefect_server", str(os.getpid()), "--port", str(port)]
    log = (folder / "server.log").open("ab")
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
    }
    with log:
        # Of its own group, so that Ctrl-C reaches the run first and the run stops it.
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise WorkspaceError(f"The Prefect server ended with code {process.returncode} at start. Its log is .assay/prefect/server.log.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise WorkspaceError(f"The Prefect server was not ready after {SECONDS_TO_START} s. Its log is .assay/prefect/server.log.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve_until_orphaned(owner: int, arguments: list[str]) -> None:
    """Run Prefect's server in this process, and end with the run that wanted it, however that ends."""
    import threading

    from pipelines.__main__ import watch

    threading.Thread(target=watch, args=(owner,), daemon=True).start()
    sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", "--no-services", "--no-ui", *arguments]
    from prefect.cli import app

    app()


if __name__ == "__main__":
    _serve_until_orphaned(int(sys.argv[1]), sys.argv[2:])
