"""A server of a few lines in a test's own event loop, which leaves no connection open."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from serving.listen import stop_accepting

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handle: Handle) -> AsyncIterator[int]:
    """The port of this machine on which `handle` answers each connection.

    One whose client leaves in the middle is no fault. What is still open at the end is cut: a
    connection that outlives its loop would be reported in whatever test runs then.
    """
    writers: list[asyncio.StreamWriter] = []
    answering: set[asyncio.Task[None]] = set()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        try:
            await handle(reader, writer)
        # Cancelled: the server ends. asyncio reports a task of a server that says so itself.
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            answering.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await stop_accepting(server)
        server.close()
        left = tuple(answering)
        for task in left:
            task.cancel()
        await asyncio.gather(*left)
        for writer in writers:
            writer.transport.abort()
        # The loop closes what was cut in its next round.
        await asyncio.sleep(0)
