"""Releases and rollbacks under constant load: `python -m benchmarks.promote [--short]`.

Clients without retries ask all the time while one version is released over another and rolled
back, again and again. Requests that were not answered whole are counted, and answers whose
fingerprint the ledger did not allow at that time. The model has two layers: the release is
measured, not the engine. Nobody publishes such a number, so the peer is the goal itself.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.ready import parse_ready

ROOT = Path(__file__).resolve().parents[1]
MODEL = "letters-tiny"
GOAL_ROLLBACK = 1.0
"""Seconds from the order to the route.

For as long after a change, and no longer, an answer of what served before counts as allowed.
"""
CLIENTS = 4


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent and answered, and by what; `fault` where it was lost."""

    sent: datetime
    got: datetime
    fingerprint: str = ""
    fault: str = ""


@dataclass
class Load:
    """Clients that ask until they are told to stop."""

    port: int
    answers: list[Answer] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """One client: a connection of its own for each request, and no second try."""
        while not self.done.is_set():
            self.answers.append(self._once())

    def _once(self) -> Answer:
        sent = datetime.now(UTC)
        body = json.dumps(
            {
                "model": MODEL,
                "max_tokens": 4,
                "messages": [{"role": "user", "content": "12 a"}],
            }
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                "POST",
                "/v1/chat/completions",
                body,
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            content = json.loads(answer.read())
            if answer.status != http.client.OK:
                return Answer(
                    sent,
                    datetime.now(UTC),
                    fault=f"{answer.status}: {str(content)[:200]}",
                )
            return Answer(
                sent, datetime.now(UTC), fingerprint=content["system_fingerprint"]
            )
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            return Answer(
                sent, datetime.now(UTC), fault=f"{type(error).__name__}: {error}"
            )
        finally:
            connection.close()


@dataclass(frozen=True)
class Site:
    """A checkout with two judged versions, and what to run in it."""

    checkout: Path
    environment: dict[str, str]

    def assay(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`assay WORDS`, which must succeed."""
        command = [sys.executable, "-m", "cli", *words]
        done = subprocess.run(
            command,
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(
                f"assay {' '.join(words[:3])} ended with {done.returncode}: "
                f"{(done.stderr or done.stdout).strip()[-800:]}"
            )
        return done


def main(arguments: list[str]) -> int:
    """Measure, print one JSON line last, and fail where a goal is missed."""
    rounds = 10 if "--short" in arguments else 50
    with tempfile.TemporaryDirectory(prefix="assay-benchmark-") as scratch:
        site = _prepare(Path(scratch))
        with _endpoint(site) as port:
            _first_releases(site)
            os.chdir(site.checkout)
            os.environ.update(site.environment)
            load = Load(port)
            with _asking(load):
                timings = [_round(load) for _ in range(rounds)]
                _release(load)
                by_command = _timed(
                    lambda: site.assay(
                        "rollback", "--model", MODEL, "--reason", "benchmark"
                    )
                )
        line = _judged(load, timings, by_command)
    print(json.dumps(line))
    return 0 if line["met"] else 1


def _round(load: Load) -> tuple[float, float]:
    """Release version 2 over 1 and go back.

    Gives the seconds from wish to first answer, and from order to the route.
    """
    from core.project import find_project
    from core.settings import Settings
    from flows.promote import open_release_context
    from registry.release.brakes import roll_back
    from registry.release.context import ChangeRequest

    to_answer = _release(load)
    context = open_release_context(find_project(Settings().home).home)
    context.ledger.state()
    to_route = _timed(
        lambda: roll_back(MODEL, None, ChangeRequest("benchmark", "benchmark"), context)
    )
    time.sleep(0.5)
    sys.stderr.write(
        f"wish to first answer {to_answer:.2f} s, rollback {to_route:.3f} s, "
        f"{len(load.answers)} requests\n"
    )
    return to_answer, to_route


def _release(load: Load) -> float:
    from core.project import find_project
    from core.settings import Settings
    from flows.promote import Promotion, promote
    from registry.release.context import ChangeRequest

    wished = datetime.now(UTC)
    done = promote(
        find_project(Settings().home),
        MODEL,
        "2",
        ChangeRequest("benchmark", "benchmark"),
    )
    if not isinstance(done, Promotion) or done.released is None:
        raise SystemExit("version 2 did not pass judge")
    return _first_answer(load, done.released.release.fingerprint, wished)


def _first_answer(load: Load, fingerprint: str, wished: datetime) -> float:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for answer in load.answers[-200:]:
            if answer.fingerprint == fingerprint and answer.got > wished:
                return (answer.got - wished).total_seconds()
        time.sleep(0.02)
    raise SystemExit("the released version did not answer within 30 s")


def _judged(
    load: Load, timings: list[tuple[float, float]], by_command: float
) -> dict[str, Any]:
    from core.project import find_project
    from core.settings import Settings
    from registry.ledger.ledger import read_ledger

    allowed = _allowed(read_ledger(find_project(Settings().home).home).entries())
    lost = [answer.fault for answer in load.answers if answer.fault]
    foreign = [
        answer
        for answer in load.answers
        if not answer.fault and not _is_allowed(answer, allowed)
    ]
    wishes, rollbacks = zip(*timings, strict=True)
    for fault in lost[:5]:
        sys.stderr.write(f"lost: {fault}\n")
    met = (
        not lost
        and not foreign
        and max(rollbacks) <= GOAL_ROLLBACK
        and len(load.answers) > len(timings) * 2
    )
    runs = {
        "releases": len(timings) + 1,
        "rollbacks": len(timings) + 1,
        "requests": len(load.answers),
        "lost": len(lost),
        "not_in_the_ledger": len(foreign),
        "rollback_p50_s": round(statistics.median(rollbacks), 3),
        "rollback_by_command_s": round(by_command, 3),
        "wish_to_first_answer_p50_s": round(statistics.median(wishes), 2),
    }
    goal = f"<= {GOAL_ROLLBACK}, 0 lost, 0 not in the ledger"
    line = {
        "name": "promote",
        "value": round(max(rollbacks), 3),
        "unit": "s, slowest rollback from order to route",
        "goal": goal,
        "met": met,
    }
    return {**line, "peer": "none publishes one", "runs": runs}


def _allowed(entries: Any) -> list[tuple[datetime, datetime, str]]:
    """From when to when each fingerprint had full traffic by the ledger."""
    from registry.ledger.rules import apply_entry, start_state

    spans: list[tuple[datetime, datetime, str]] = []
    ledger_state = None
    for entry in entries:
        ledger_state = (
            start_state(entry)
            if ledger_state is None
            else apply_entry(ledger_state, entry)
        )
        current = ledger_state.model(MODEL).current
        fingerprint = "" if current is None else current.release.fingerprint
        if not spans or spans[-1][2] != fingerprint:
            if spans:
                spans[-1] = (spans[-1][0], entry.at, spans[-1][2])
            spans.append((entry.at, datetime.max.replace(tzinfo=UTC), fingerprint))
    return spans


def _is_allowed(answer: Answer, spans: list[tuple[datetime, datetime, str]]) -> bool:
    """Some moment of the request, or the second before it, lies in a span of its fingerprint."""
    return any(
        fingerprint == answer.fingerprint
        and begin <= answer.got
        and (answer.sent - end).total_seconds() <= GOAL_ROLLBACK
        for begin, end, fingerprint in spans
    )


def _first_releases(site: Site) -> None:
    """Version 1 is released, version 2 is trained against it and passes."""
    from tests.support.waivers import waive_as_others

    # Who trains waives nothing: two people who are not there do.
    rules = ("human_rating", "approvals")
    waive_as_others(site.checkout / ".assay", MODEL, rules, hours=24)
    site.assay("promote", "1", "--model", MODEL, "--reason", "benchmark")
    _train(site, steps=160)


def _train(site: Site, steps: int) -> None:
    from tests.support.journey import SETTINGS

    settings = [
        *(each for each in SETTINGS if "max_steps" not in each),
        f"train.max_steps={steps}",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    scratch = site.checkout.parent
    site.assay(
        "run",
        "--data",
        str(scratch / "letters.jsonl"),
        "--base-model",
        str(scratch / "tiny"),
        *words,
    )


def _prepare(scratch: Path) -> Site:
    from tests.support.journey import learnable_rows, write_rows
    from tests.support.tiny import make_tiny_base

    checkout = scratch / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    make_tiny_base(scratch / "tiny")
    write_rows(scratch / "letters.jsonl", learnable_rows())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "ASSAY_HOME": str(scratch / "home"),
        "OMP_NUM_THREADS": "1",
    }
    site = Site(checkout, environment)
    _train(site, steps=85)
    return site


@contextmanager
def _endpoint(site: Site) -> Iterator[int]:
    home = site.environment["ASSAY_HOME"]
    command = [sys.executable, "-m", "serving.endpoint", "--home", home, "--port", "0"]
    environment = {**site.environment, "ASSAY_RUN_PID": str(os.getpid())}
    with subprocess.Popen(
        command, cwd=site.checkout, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            port = urlsplit(parse_ready(line) or "").port
            assert port is not None, line
            yield port
        finally:
            process.terminate()


@contextmanager
def _asking(load: Load) -> Iterator[None]:
    threads = [threading.Thread(target=load.ask, daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.done.set()
        for thread in threads:
            with suppress(RuntimeError):
                thread.join(60)


def _timed(act: Callable[[], object]) -> float:
    started = time.monotonic()
    act()
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
