"""Replicas as processes over one ledger on PostgreSQL, and clients that ask all of them."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest

from cli.status_text import status_lines
from core.project import Project
from operations.status import collect_status
from registry.ledger.ledger import open_ledger
from registry.release.context import Patience, ReleaseContext
from serving.replicated import following_endpoint
from tests.support.endpoint_system import MODEL, QUESTION, Home, Running, endpoint
from tests.support.waiting import SECONDS_AT_MOST, wait_until

NAMES = ("pod-1", "pod-2", "pod-3")


class Cable:
    """The way to PostgreSQL, which can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_cut = False
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_cut = True
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._is_cut:
                    near.close()
                else:
                    self._lay(near)

    def _lay(self, near: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", self._target))
        self._ends += [near, far]
        for ends in ((near, far), (far, near)):
            threading.Thread(target=_carry, args=ends, daemon=True).start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Asked:
    """One request to one replica, by the clock of the day, as entries of the ledger are."""

    name: str
    since: float
    until: float
    fingerprint: str = ""
    """What answered; empty where the request was lost."""
    failure: str = ""


@dataclass
class Balancer:
    """Clients behind a load balancer: where a replica loses a request, they ask another one."""

    urls: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def answers(self) -> list[Asked]:
        return [each for each in self.asked if each.fingerprint]

    @property
    def lost(self) -> list[Asked]:
        return [each for each in self.asked if not each.fingerprint]

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask_on) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(SECONDS_AT_MOST)

    def wait_for_answers(
        self, number: int, name: str = "", fingerprint: str = ""
    ) -> None:
        """Wait for so many answers to requests that are sent from now on."""
        now = time.time()

        def are_there() -> bool:
            new = [each for each in self.answers if each.since > now]
            named = [each for each in new if name in {"", each.name}]
            wanted = [each for each in named if fingerprint in {"", each.fingerprint}]
            return len(wanted) >= number

        wait_until(are_there, said=lambda: self.asked[-10:])

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            self.asked.append(self._ask(random.choice(NAMES)))

    def _ask(self, name: str) -> Asked:
        body = {"model": MODEL, "messages": QUESTION, "max_tokens": 4}
        url = f"{self.urls[name]}/v1/chat/completions"
        since = time.time()
        try:
            reply = httpx.post(url, json=body, timeout=SECONDS_AT_MOST)
        except httpx.HTTPError as error:
            time.sleep(0.05)
            return Asked(name, since, time.time(), failure=type(error).__name__)
        if reply.status_code != 200:
            return Asked(name, since, time.time(), failure=reply.text)
        fingerprint = reply.headers["x-assay-fingerprint"]
        return Asked(name, since, time.time(), fingerprint)


@dataclass
class Replicas:
    """Replicas by name, each with a home and a port of its own."""

    home: Home
    stack: ExitStack
    monkeypatch: pytest.MonkeyPatch
    ledger_urls: dict[str, str]
    balancer: Balancer = field(default_factory=Balancer)
    running: dict[str, Running] = field(default_factory=dict)
    killed: dict[str, float] = field(default_factory=dict)
    """When each that was killed was there last."""
    back: dict[str, float] = field(default_factory=dict)

    def start(self, name: str, *options: str) -> None:
        folder = self.home.path.parent / name
        home = Home(folder) if folder.exists() else self.home.copy(folder)
        port = self.balancer.urls.get(name, ":0").rpartition(":")[2]
        with self.monkeypatch.context() as patch:
            patch.setenv("ASSAY_REPLICA", name)
            patch.setenv("ASSAY_LEDGER_URL", self.ledger_urls[name])
            patch.setenv("ASSAY_UNREADY_AFTER", "5")
            started = endpoint(home, "--port", port, *options)
            self.running[name] = self.stack.enter_context(started)
        self.balancer.urls[name] = self.running[name].url
        self.back[name] = time.time()

    def kill(self, name: str) -> None:
        self.killed[name] = time.time()
        self.running[name].kill()

    def was_killed(self, asked: Asked) -> bool:
        """Whether a request was sent to a process that was killed, and not back before its end."""
        if asked.name not in self.killed:
            return False
        return asked.until >= self.killed[asked.name] and (
            asked.since <= self.back[asked.name]
        )

    def ready(self, name: str) -> httpx.Response:
        return httpx.get(f"{self.running[name].url}/readyz", timeout=SECONDS_AT_MOST)

    def answers_with(self, name: str) -> str | None:
        """The fingerprint by which a replica says that it answers; None where it is unready."""
        reply = self.ready(name)
        if reply.status_code != 200:
            return None
        return str(reply.json()["fingerprints"].get(MODEL, ""))

    @property
    def context(self) -> ReleaseContext:
        patience = Patience(
            to_load=SECONDS_AT_MOST,
            to_switch=SECONDS_AT_MOST,
            to_brake=SECONDS_AT_MOST,
            to_brake_several=SECONDS_AT_MOST,
        )
        ledger = open_ledger(self.home.path)
        return ReleaseContext(ledger, following_endpoint(self.home.path), patience)

    @property
    def status(self) -> list[str]:
        root = self.home.path.parent / "project"
        root.mkdir(exist_ok=True)
        return status_lines(collect_status(Project(root, self.home.path)))
