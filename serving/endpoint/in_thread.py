"""A call that may block, beside the event loop, and that nobody has to wait for to its end."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


def run_in_thread(call: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run it in a thread of its own, which does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def succeed(result: _T) -> None:
        if not future.done():
            future.set_result(result)

    def fail(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        # RuntimeError: the loop is closed, so nobody waits any more.
        with suppress(RuntimeError):
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - it is raised again where it is awaited
                loop.call_soon_threadsafe(fail, error)
            else:
                loop.call_soon_threadsafe(succeed, result)

    threading.Thread(target=run, name="ledger", daemon=True).start()
    return future
