"""A filter of the project's own may be slow or stuck: nothing passes by it, and nobody waits."""

import asyncio
import sys
import threading
from types import SimpleNamespace

import pytest

from serving.guardrails.hook import Hook


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
