"""A real endpoint on this machine, in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openai import OpenAI

from pipelines.engines import Engine
from pipelines.values.base_manifest import BaseModelManifest
from serving.app import create_app
from serving.listen import create_server, open_socket
from serving.load import EngineConfig
from tests.support.openai_client import openai_client
from tests.support.waiting import SECONDS_AT_MOST


@dataclass(frozen=True)
class Served:
    """Folders of what is served."""

    base_folder: Path
    base_manifest: Path
    base: BaseModelManifest
    package: Path

    @property
    def config(self) -> EngineConfig:
        return EngineConfig(
            self.base_folder, self.base_manifest, self.package, default_max_tokens=24
        )


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint."""

    host: str
    port: int
    engine: Engine

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def client(self) -> OpenAI:
        return openai_client(f"{self.url}/v1")


@contextmanager
def running(engine: Engine) -> Iterator[Endpoint]:
    """Serve `engine` on a free port for as long as the block runs."""
    listener = open_socket("127.0.0.1", 0)
    server = create_server(create_app(engine))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Endpoint("127.0.0.1", listener.getsockname()[1], engine)
    finally:
        server.should_exit = True
        thread.join(SECONDS_AT_MOST)
        listener.close()


def stop_in(whole: str) -> str:
    """Two characters of an answer that, like the one before them, are a token each."""
    places = range(1, len(whole) - 1)
    plain = [
        place
        for place in places
        if whole[place - 1 : place + 2].isascii()
        and whole.index(whole[place : place + 2]) == place
    ]
    assert plain, whole
    return whole[plain[0] : plain[0] + 2]
