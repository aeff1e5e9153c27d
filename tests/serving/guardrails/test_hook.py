"""A filter of the project's own may be slow or stuck: nothing passes by it, and nobody waits."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving.guardrails.hook import Hook
from serving.guardrails.threads import AbandonableThreads
from tests.support.waiting import SECONDS_AT_MOST

ROOT = Path(__file__).parents[3]


def test_a_function_that_hangs_refuses_and_takes_no_thread_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_free = threading.Event()

    def hang(side: str, text: str) -> bool:
        return is_free.wait(60)

    monkeypatch.setitem(sys.modules, "stuck_filter", SimpleNamespace(judge=hang))
    hook = Hook("stuck_filter:judge", 0.05)

    async def test() -> None:
        # More than the event loop has threads.
        verdicts = await asyncio.gather(*(hook.ask("request", "a") for _ in range(40)))
        assert {each.action for each in verdicts} == {"fail"}
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(str.upper, "a") == "A"

    try:
        asyncio.run(test())
    finally:
        is_free.set()


STUCK = """
import asyncio, sys, threading, types
from serving.guardrails.hook import Hook

def judge(side, text):
    threading.Event().wait()

sys.modules["stuck"] = types.SimpleNamespace(judge=judge)
hook = Hook("stuck:judge", 0.01)
print(asyncio.run(hook.ask("request", "a")).action)
"""


@pytest.mark.ci
def test_a_function_that_hangs_does_not_keep_the_process_from_ending() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_AT_MOST,
        check=True,
    )
    assert ended.stdout.split() == ["fail"]


def test_what_a_function_raises_is_its_callers_and_the_threads_go_on() -> None:
    threads = AbandonableThreads(1, "test")

    def fail() -> None:
        raise ZeroDivisionError

    async def test() -> None:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await threads.call(fail)
        assert await threads.call(str.upper, "a") == "A"

    asyncio.run(test())


def test_what_nobody_waits_for_any_more_is_not_called() -> None:
    threads = AbandonableThreads(1, "test")
    is_free = threading.Event()
    called: list[str] = []

    async def test() -> None:
        first = asyncio.create_task(threads.call(is_free.wait, 60))
        second = asyncio.create_task(threads.call(called.append, "second"))
        third = asyncio.create_task(threads.call(called.append, "third"))
        # All of them stand in the queue.
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        is_free.set()
        await asyncio.gather(first, third)

    asyncio.run(test())
    assert called == ["third"]
