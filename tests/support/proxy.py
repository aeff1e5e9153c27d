"""A real MLflow server, and a real proxy before it that can lose, delay or hold what passes."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.waiting import SECONDS_AT_MOST

Rule = Callable[[str, str], str]
"""From method and path to `pass`, `drop`, `late` or `hold`.

`drop` breaks the connection, `late` answers too late, `hold` never answers.
"""


class Proxy:
    """An address at which MLflow answers, except where the rule says otherwise."""

    def __init__(self, upstream: int, seconds_late: float) -> None:
        self.upstream, self.seconds_late = upstream, seconds_late
        self.rule: Rule = lambda _method, _path: "pass"
        self.is_holding = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def once(self, method: str, path_ends: str, what: str) -> None:
        """Do `what` to the first request of that kind, and let the others pass."""
        waiting = [what]
        self.is_holding.clear()
        self.rule = lambda asked, path: (
            waiting.pop()
            if waiting and (asked, path.endswith(path_ends)) == (method, True)
            else "pass"
        )

    def from_then_on(self, method: str, path_ends: str) -> None:
        """Drop the first request of that kind and everything after it."""
        requests: list[str] = []

        def rule(asked: str, path: str) -> str:
            if asked == method and path.endswith(path_ends):
                requests.append(path)
            return "drop" if requests else "pass"

        self.rule = rule

    def heal(self) -> None:
        """Let everything pass."""
        self.rule = lambda _method, _path: "pass"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                what = proxy.rule(self.command, self.path.partition("?")[0])
                if what in {"drop", "hold"}:
                    if what == "hold":
                        proxy.is_holding.set()
                        time.sleep(SECONDS_AT_MOST)
                    self.close_connection = True
                    return
                status, headers, answer = proxy.forward(
                    self.command, self.path, dict(self.headers), body
                )
                if what == "late":
                    time.sleep(proxy.seconds_late)
                self.send_response(status)
                for name, text in headers:
                    if name.lower() not in {
                        "transfer-encoding",
                        "connection",
                        "content-length",
                    }:
                        self.send_header(name, text)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the names that http.server calls

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(
                    BrokenPipeError, ConnectionResetError
                ):  # the client gave up, as it was made to
                    super().handle()

        return Handler

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.upstream, timeout=SECONDS_AT_MOST
        )
        connection.request(method, path, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content


@contextmanager
def mlflow_server(folder: Path, database: Path) -> Iterator[int]:
    """`mlflow server` on a free port, ended with the context."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{database}",
        "--workers",
        "1",
    ]
    command += [
        "--artifacts-destination",
        str(folder / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    try:
        wait_until_healthy(port)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)  # then it is killed
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_healthy(port: int) -> None:
    end = time.monotonic() + SECONDS_AT_MOST
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < end, "the MLflow server did not start"
            time.sleep(0.2)
