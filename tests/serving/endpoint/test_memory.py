"""Ten minutes of everything that clients do: the memory of endpoint and engine stays flat."""

import itertools
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from tests.support.endpoint_system import MODEL, QUESTION, Home, Running, endpoint
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.slow

CLIENTS = 8
SECONDS = 600.0
# Of answers that can be rated: the endpoint keeps so many, and grows until it has them.
ANSWERS_TO_WARM_UP = 20_000
SECONDS_BETWEEN_LOOKS = 2.0
MOST_GROWTH = 0.05
MEGABYTE = 1_000_000


def requests(chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and bodies without end: answered ones and refused ones."""
    prompts = ("list files", ["a", "b"], "x" * 200)
    for number in itertools.count():
        length = chance.randrange(1, 40)
        chat = {"model": MODEL, "messages": QUESTION, "max_tokens": length}
        text = {"model": MODEL, "prompt": prompts[number % 3], "max_tokens": length}
        drawn = {"temperature": 1.0, "n": chance.randrange(1, 4)}
        yield "/v1/chat/completions", chat
        yield "/v1/chat/completions", {**chat, "stream": True, **drawn}
        yield "/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 3}
        yield "/v1/completions", {**text, "echo": True, "logprobs": 2}
        yield "/v1/completions", {**text, "stream": True, "stop": ["e", "zz"]}
        yield "/v1/chat/completions", {**chat, "model": f"unknown-{number}"}
        yield "/v1/chat/completions", {**chat, "max_tokens": -number}


def ask_on(url: str, seed: int, stop: threading.Event, seen: Counter[str]) -> None:
    """Ask until told to stop; leave one answer in seven at its beginning."""
    chance = random.Random(seed)
    with httpx.Client(timeout=SECONDS_AT_MOST) as client:
        for path, body in requests(chance):
            if stop.is_set():
                return
            with client.stream("POST", f"{url}{path}", json=body) as response:
                seen[str(response.status_code)] += 1
                if chance.random() < 1 / 7:
                    seen["left"] += 1
                    continue
                response.read()


@contextmanager
def asking(url: str) -> Iterator[Counter[str]]:
    stop = threading.Event()
    seen: Counter[str] = Counter()
    clients = [
        threading.Thread(target=ask_on, args=(url, seed, stop, seen))
        for seed in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield seen
    finally:
        stop.set()
        for client in clients:
            client.join(SECONDS_AT_MOST)


def sizes_of(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Megabytes that each process has in memory."""
    return {
        name: process.memory_info().rss / MEGABYTE
        for name, process in processes.items()
    }


def processes_of(running: Running, home: Home) -> dict[str, psutil.Process]:
    return {
        "endpoint": psutil.Process(running.process.pid),
        "engine": running.engine_of(home.package("1")),
    }


def test_memory_is_flat_over_ten_minutes_of_eight_clients(home: Home) -> None:
    looks: list[dict[str, float]] = []
    with endpoint(home) as running:
        home.release("1")
        processes = processes_of(running, home)
        with asking(running.url) as seen:
            wait_until(lambda: seen["200"] > ANSWERS_TO_WARM_UP)
            began = time.monotonic()
            while time.monotonic() - began < SECONDS:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                looks.append(sizes_of(processes))
        assert processes_of(running, home) == processes
    minute = int(60 / SECONDS_BETWEEN_LOOKS)
    sys.stdout.write(f"{CLIENTS} clients for {SECONDS:.0f} s: {dict(seen)}\n")
    growth: dict[str, float] = {}
    for name in processes:
        sizes = [look[name] for look in looks]
        first = statistics.median(sizes[:minute])
        last = statistics.median(sizes[-minute:])
        sys.stdout.write(f"{name}: {first:.1f} MB, then {last:.1f} MB\n")
        growth[name] = last / first - 1
    assert max(growth.values()) < MOST_GROWTH
    assert set(seen) <= {"200", "400", "404", "left"}
