"""A program that answers as vLLM's server does, or as a faulty one; it computes nothing.

    standin_vllm.py FAULT -m vllm.entrypoints.openai.api_server --uds SOCKET --served-model-name …

`standin_python` writes it as a Python that has vLLM. It runs by itself, without anything of ours.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

NO_FAULT = "none"
FAULTS = {
    "refuses": "its server did not say what it serves (HTTPStatusError)",
    "other": "its server did not say what it serves (KeyError)",
    "garbled": "its server did not say what it serves (JSONDecodeError)",
    "cuts": "its server did not say what it serves (RemoteProtocolError)",
    "renames": "its server has 1 models under other names",
}
"""By the fault: what whoever starts it is told."""
_TOKEN = 7
_SECONDS_A_TOKEN = 0.02


def standin_python(folder: Path, fault: str = NO_FAULT) -> Path:
    """A program in `folder` that is called as a Python with vLLM is."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {fault} "$@"\n')
    program.chmod(0o755)
    return program


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fault = NO_FAULT
    names: tuple[str, ...] = ()

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._list_models()
        else:
            self._send(json.dumps({"version": "0.0.0"}))

    def do_POST(self) -> None:
        """Stream tokens until whoever asked leaves."""
        length = int(self.headers["content-length"])
        body = json.loads(self.rfile.read(length))
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(body["max_tokens"]):
            scores = {"token_logprobs": [0.0], "top_logprobs": [{}]}
            choice = {"token_ids": [_TOKEN], "logprobs": scores}
            event = {"model": body["model"], "choices": [choice]}
            text = f"data: {json.dumps(event)}\n\n"
            self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
            self.wfile.flush()
            time.sleep(_SECONDS_A_TOKEN)
        self.wfile.write(b"0\r\n\r\n")

    def _list_models(self) -> None:
        if self.fault == "cuts":
            self.close_connection = True
            return
        if self.fault == "refuses":
            self._begin(500)
        elif self.fault == "garbled":
            self._send("<html>")
        elif self.fault == "other":
            self._send("{}")
        else:
            names = ("other",) if self.fault == "renames" else self.names
            self._send(json.dumps({"data": [{"id": name} for name in names]}))

    def _send(self, text: str) -> None:
        self._begin(200)
        self.wfile.write(text.encode())

    def _begin(self, status: int) -> None:
        self.send_response(status)
        # What is written ends with the connection.
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: a socket's client has no address."""


def main(fault: str, *words: str) -> None:
    """Serve until the process is ended."""
    options = dict(pairwise(words))
    names = [options["--served-model-name"]]
    if "--lora-modules" in options:
        names.append(json.loads(options["--lora-modules"])["name"])
    _Handler.fault, _Handler.names = fault, tuple(names)
    with _Server(options["--uds"], _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
