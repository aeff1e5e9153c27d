"""An OpenAI-compatible address on this machine, with a stand-in for a model that rates pairs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from pipelines.rating.model_judge import ModelJudge

Reply = Callable[[str, str], str]
"""What a stand-in model says of the answers at the first and at the second place."""


def scores(first: int, second: int) -> str:
    return json.dumps({"A": first, "B": second})


class Server:
    """An OpenAI-compatible address with a stand-in for a model."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        # What is sent in the place of a reply, where a test sets it.
        self.status = 200
        self.raw: bytes | None = None
        self.seconds = 0.0
        self.seconds_a_byte = 0.0
        self.encoding = ""
        self.url = ""

    def judge(self, **settings: Any) -> ModelJudge:
        return ModelJudge(self.url, "stand-in", **settings)

    def answer(self, body: dict[str, Any]) -> bytes:
        self.bodies.append(body)
        shown = body["messages"][1]["content"]
        mark = shown.split(" ", 1)[0]
        _, _, first, second, _ = (
            part.partition("\n")[2].strip("\n") for part in shown.split(mark)
        )
        return self.spoken(self.reply(first, second))

    def spoken(self, text: str) -> bytes:
        """A reply as OpenAI's API has it."""
        message = {"role": "assistant", "content": text}
        return json.dumps({"choices": [{"message": message}]}).encode()


class ItemServer(Server):
    """One that is asked about one answer at a time: the reply is to question and answer."""

    def answer(self, body: dict[str, Any]) -> bytes:
        self.bodies.append(body)
        shown = body["messages"][1]["content"]
        mark = shown.split(" ", 1)[0]
        _, question, answer, _ = (
            part.partition("\n")[2].strip("\n") for part in shown.split(mark)
        )
        return self.spoken(self.reply(question, answer))


def opinion(score: int, *, is_safe: bool = True) -> str:
    """What a model says of one answer."""
    return json.dumps({"score": score, "safe": is_safe})


@contextmanager
def serving_items(reply: Reply) -> Iterator[Server]:
    """An address that is asked about single answers."""
    with serving(reply, ItemServer) as server:
        yield server


@contextmanager
def serving(reply: Reply, kind: type[Server] = Server) -> Iterator[Server]:
    server = kind(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            server.keys.append(self.headers.get("Authorization"))
            time.sleep(server.seconds)
            content = server.answer(body) if server.raw is None else server.raw
            self.send_response(server.status)
            if server.status == 302:
                self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", str(len(content)))
            # Who asked may have hung up, which is what some tests are about.
            with suppress(OSError):
                if server.encoding:
                    self.send_header("Content-Encoding", server.encoding)
                self.end_headers()
                if not server.seconds_a_byte:
                    self.wfile.write(content)
                    return
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(server.seconds_a_byte)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
