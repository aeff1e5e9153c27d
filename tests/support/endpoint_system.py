"""A home with a real ledger and packages, and the real endpoint over it as a process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil
from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from core.ready import parse_ready
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import read_screen_verdict
from registry.ledger.entries import (
    BaseServed,
    Body,
    Release,
    ReleaseAborted,
    ReleaseCompleted,
    ReleaseSwitched,
    Revoked,
    RolledBack,
)
from registry.ledger.heads import record_file
from registry.ledger.ledger import open_ledger
from registry.ledger.state import LedgerState
from registry.release.following import EndpointState
from registry.release.package_signature import digest_of_package
from serving.client import EndpointClient, endpoint_client
from serving.endpoint.engine_record import EngineRecord, read_records
from tests.support.ledgers import begin_release, complete_release, write
from tests.support.openai_client import openai_client
from tests.support.processes import children_of, find_process, words_of
from tests.support.tiny import pack
from tests.support.waiting import SECONDS_AT_MOST, wait_until

ROOT = Path(__file__).parents[2]
MODEL = "letters-tiny"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "How do I list files?"}
]


@dataclass(frozen=True)
class Home:
    """A home folder, and the versions of one model whose packages lie in it."""

    path: Path
    specs: dict[str, ServingSpec] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    model: str = MODEL

    def copy(self, path: Path) -> "Home":
        """The same packages without ledger and memory."""
        shutil.copytree(self.path / "packages", path / "packages")
        shutil.copytree(self.path / "base-models", path / "base-models", symlinks=True)
        return Home(path, self.specs, self.digests)

    def package(self, version: str) -> Path:
        return self.path / "packages" / self.digests[version]

    def with_changed(
        self, version: str, change: Callable[[Path], None], *, packs: bool = True
    ) -> "Home":
        """A changed copy of a package under its own digest: as if these bytes had been judged."""
        scratch = self.path / "packages" / "changed"
        shutil.copytree(self.package(version), scratch)
        change(scratch)
        if packs:
            pack(scratch)
        digest = digest_of_package(scratch)
        scratch.rename(self.path / "packages" / digest)
        return Home(self.path, self.specs, {**self.digests, version: digest})

    @cached_property
    def client(self) -> EndpointClient:
        return endpoint_client(self.path)

    @property
    def ledger_state(self) -> LedgerState:
        return open_ledger(self.path).state()

    def write(self, *bodies: Body) -> int:
        """Append, and give the last generation."""
        return write(open_ledger(self.path), *bodies)

    def begin(self, version: str, share: float = 1.0, **more: Any) -> int:
        """Judge and begin, with more fields; gives the generation at which it began."""
        release = Release(
            model=self.model,
            version=version,
            package_sha256=self.digests[version],
            spec=self.specs[version],
            known_answers_share=share,
            **more,
        )
        return begin_release(open_ledger(self.path), release)

    def switch(self, begun: int) -> None:
        complete_release(open_ledger(self.path), begun)

    def abort(self, begun: int) -> None:
        self.write(ReleaseAborted(begun=begun, reason_sha256="0" * 64))

    def release(self, version: str) -> int:
        """Begin, wait until the endpoint has it ready, switch and complete, as a release does."""
        begun = self.begin(version)
        state = self.wait(
            lambda state: (
                state.engine(begun) is not None
                and state.engine(begun).state != "loading"  # type: ignore[union-attr]
            )
        )
        engine = state.engine(begun)
        assert engine is not None
        assert engine.state == "ready", engine
        self.write(ReleaseSwitched(begun=begun))
        self.client.ring()
        self.write(ReleaseCompleted(begun=begun))
        self.client.ring()
        return begun

    def roll_back(self, to: int) -> None:
        self.write(
            RolledBack(model=self.model, to=to, by="ann", reason_sha256="0" * 64)
        )

    def revoke(self, version: str) -> None:
        self.write(
            Revoked(model=self.model, version=version, by="ann", reason_sha256="0" * 64)
        )

    def serve_base(self) -> None:
        self.write(BaseServed(model=self.model, by="ann", reason_sha256="0" * 64))

    def wait(
        self,
        until: Callable[[EndpointState], bool],
        seconds: float = SECONDS_AT_MOST,
        *,
        rings: bool = True,
    ) -> EndpointState:
        """Ask the endpoint how it stands until it is so."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.client.ring() if rings else self.client.state()
            if until(state):
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.1)

    def answers_with(self, version: str) -> Callable[[EndpointState], bool]:
        fingerprint = self.specs[version].fingerprint
        return lambda state: (
            self.model in state.routes
            and state.routes[self.model].fingerprint == fingerprint
        )


def home_with(path: Path, packages: dict[str, Path], base_folder: Path) -> Home:
    """A home in which packages and their base model lie where releases look for them."""
    specs, digests = {}, {}
    for version, package in packages.items():
        verdict = read_screen_verdict(package / "verdict.json")
        specs[version] = verdict.spec  # type: ignore[union-attr]
        digests[version] = digest_of_package(package)
        shutil.copytree(package, path / "packages" / digests[version])
        shutil.copytree(
            base_folder,
            path / "base-models" / specs[version].base_digest,
            dirs_exist_ok=True,
        )
    return Home(path, specs, digests)


@dataclass(frozen=True)
class Running:
    """The endpoint as a process."""

    process: "subprocess.Popen[str]"
    url: str
    ready: str
    log: Path
    home: Path

    def kill(self) -> None:
        """Kill -9 of the endpoint alone."""
        self.process.kill()
        self.process.wait(SECONDS_AT_MOST)

    @property
    def client(self) -> OpenAI:
        return openai_client(f"{self.url}/v1")

    def ask(self, model: str = MODEL, **fields: object) -> httpx.Response:
        body = {"model": model, "messages": QUESTION, "max_tokens": 8, **fields}
        return httpx.post(
            f"{self.url}/v1/chat/completions", json=body, timeout=SECONDS_AT_MOST
        )

    def computed_by(self, model: str = MODEL) -> str:
        """The engine that computes its answers at this moment; empty while none does."""
        report = httpx.get(f"{self.url}/readyz", timeout=SECONDS_AT_MOST).json()
        return str(report.get("engines", {}).get(model, ""))

    def stream(self, max_tokens: int) -> Stream[ChatCompletionChunk]:
        return self.client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=max_tokens, stream=True
        )

    def engines(self) -> list[psutil.Process]:
        """Its engine processes: those that it started, and those that it took over."""
        processes = set(children_of(self.process.pid))
        for record in read_records(self.home):
            taken_over = find_process(record.pid)
            if taken_over is not None:
                processes.add(taken_over)
        return [each for each in processes if "serving" in words_of(each)]

    def engine_of(self, package: Path) -> psutil.Process:
        return self._engines_of(package)[0]

    def kill_engine_of(self, package: Path) -> None:
        """Kill -9, and wait until the endpoint has seen it.

        It has started another one, and answers with none meanwhile.
        """
        killed = self.engine_of(package)
        killed.send_signal(signal.SIGKILL)
        wait_until(
            lambda: any(each.pid != killed.pid for each in self._engines_of(package))
        )

    def _engines_of(self, package: Path) -> list[psutil.Process]:
        return [child for child in self.engines() if str(package) in words_of(child)]

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS_AT_MOST)


@contextmanager
def without_record(home: Home) -> Iterator[None]:
    """Whoever writes on an older copy of the ledger takes the head record away first.

    Afterwards it is back.
    """
    aside = home.path / "head.json"
    record_file(home.path).rename(aside)
    try:
        yield
    finally:
        aside.replace(record_file(home.path))


def record_of(home: Home, version: str) -> EngineRecord:
    [record] = [
        each
        for each in read_records(home.path)
        if each.loaded.package_sha256 == home.digests[version]
    ]
    return record


def command(home: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "serving.endpoint",
        "--home",
        str(home),
        "--port",
        "0",
        *options,
    ]


@contextmanager
def endpoint(home: Home, *options: str) -> Iterator[Running]:
    """The endpoint of that home, once it says that it is ready."""
    log = home.path / f"endpoint-{time.monotonic_ns()}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command(home.path, *options),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    children: list[psutil.Process] = []
    running = None
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        url = parse_ready(ready)
        assert url, f"{ready}\n{log.read_text()}"
        running = Running(process, url.removesuffix("/v1"), ready, log, home.path)
        yield running
    finally:
        # The engines of an endpoint that was killed outlive it: a test that kills it ends them.
        if process.poll() is None:
            children = (
                children_of(process.pid) if running is None else running.engines()
            )
            process.terminate()
            try:
                process.wait(SECONDS_AT_MOST)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()
        _gone, alive = psutil.wait_procs(children, timeout=SECONDS_AT_MOST)
        assert not alive, alive


@dataclass(frozen=True)
class TimedAnswer:
    """When a request was sent and its answer whole, and what answered."""

    since: float
    until: float
    fingerprint: str


@dataclass
class AllowedFingerprints:
    """What the ledger allowed to answer, from when on.

    While an entry is being written and rung for, it is both.
    """

    since: list[tuple[float, frozenset[str]]] = field(default_factory=list)

    @contextmanager
    def changing_to(self, fingerprint: str) -> Iterator[None]:
        before = self.since[-1][1] if self.since else frozenset()
        self.since.append((time.monotonic(), before | {fingerprint}))
        yield
        self.since.append((time.monotonic(), frozenset({fingerprint})))

    def holds(self, answered: TimedAnswer) -> bool:
        ends = [since for since, _ in self.since[1:]] + [float("inf")]
        spans = zip(self.since, ends, strict=True)
        return any(
            answered.fingerprint in which
            for (since, which), end in spans
            if since <= answered.until and end >= answered.since
        )


@contextmanager
def asking(
    ask_on: Callable[[bool], None], count: int, stop: threading.Event
) -> Iterator[None]:
    """So many threads that ask until the end, and are waited for; every second one streams."""
    threads = [
        threading.Thread(target=ask_on, args=(number % 2 == 0,))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS_AT_MOST)


@dataclass
class Load:
    """Clients that ask all the time, without retries."""

    url: str
    model: str = MODEL
    threads: int = 6
    answers: list[TimedAnswer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def wait_for_answer_of(self, fingerprint: str) -> None:
        """Wait for an answer of it to a question that is asked from now on."""
        now = time.monotonic()
        while not any(
            answer.fingerprint == fingerprint and answer.since > now
            for answer in self.answers[-50:]
        ):
            assert time.monotonic() < now + SECONDS_AT_MOST, fingerprint
            time.sleep(0.01)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        with asking(self._ask_on, self.threads, self._stop):
            yield self

    def _ask_on(self, stream: bool) -> None:
        body = {
            "model": self.model,
            "messages": QUESTION,
            "max_tokens": 4,
            "stream": stream,
        }
        with httpx.Client(timeout=SECONDS_AT_MOST) as client:
            while not self._stop.is_set():
                started = time.monotonic()
                try:
                    self._take(
                        started,
                        client.post(f"{self.url}/v1/chat/completions", json=body),
                        stream=stream,
                    )
                except httpx.HTTPError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")

    def _take(self, started: float, response: httpx.Response, *, stream: bool) -> None:
        ended = (
            response.text.endswith("data: [DONE]\n\n")
            if stream
            else response.text.endswith("}")
        )
        if response.status_code == 200 and ended and '"error"' not in response.text:
            self.answers.append(
                TimedAnswer(
                    started, time.monotonic(), response.headers["x-assay-fingerprint"]
                )
            )
        else:
            self.failures.append(f"{response.status_code}: {response.text[-300:]}")


def events(text: str) -> list[dict[str, object]]:
    """The JSON events of a stream."""
    return [
        json.loads(line.removeprefix("data: "))
        for line in text.splitlines()
        if line.startswith("data: {")
    ]
