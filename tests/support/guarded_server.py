"""MLflow's server as `assay up` starts it, over a home of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.waiting import SECONDS_AT_MOST


@contextmanager
def guarded_server(home: Path, project: Path | None = None) -> Iterator[str]:
    """Its address, for as long as the context lasts; `project` is whose people it knows."""
    with free_port() as port:
        command = [
            sys.executable,
            "-m",
            "registry.mlflow.server",
            "--home",
            str(home),
            "--project",
            str(project or home),
            "--port",
            str(port),
        ]
        with serving(command, port, home.with_suffix(".log")) as url:
            yield url


@contextmanager
def free_port() -> Iterator[int]:
    """A port on which nothing listened just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    yield port


@contextmanager
def serving(
    command: list[str],
    port: int,
    log: Path,
    *,
    health: str = "/health",
    **environment: str,
) -> Iterator[str]:
    """A command that becomes a server, MLflow's or another, ended with the context."""
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            command, stdout=stream, stderr=stream, env={**os.environ, **environment}
        ) as process,
    ):
        try:
            _wait_until_ready(process, url + health, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=SECONDS_AT_MOST)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_AT_MOST
    while True:
        try:
            assert httpx.get(url, trust_env=False, timeout=30).status_code == 200
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        else:
            return
