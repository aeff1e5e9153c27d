"""A connection that an event loop leaves open fails the test that closes the loop.

By itself the garbage collector would close it, and report it in whatever test runs then.
"""

import warnings
from asyncio import selector_events
from typing import Any
from weakref import WeakSet

_OF_LOOP = "connections_of_a_test"
"""An attribute of each loop: no other thread adds to it while it is read."""


def watch() -> None:
    """Have every loop of this process say what it leaves, from now on."""
    private: Any = selector_events
    transport, loops = private._SelectorTransport, private.BaseSelectorEventLoop
    begin, close = transport.__init__, loops.close

    def begin_noted(connection: Any, loop: Any, *rest: Any, **named: Any) -> None:
        # First: a server that closes at that moment leaves one half made, of which no loop knows.
        loop.__dict__.setdefault(_OF_LOOP, WeakSet()).add(connection)
        begin(connection, loop, *rest, **named)

    def close_and_look(loop: Any) -> None:
        close(loop)
        made = loop.__dict__.pop(_OF_LOOP, ())
        left = [connection for connection in made if connection._sock is not None]
        # Once: the garbage collector has nothing to say then.
        for connection in left:
            connection._sock.close()
            connection._sock = None
            connection._closing = True
        if left:
            warnings.warn(
                f"an event loop left {left} open", ResourceWarning, stacklevel=2
            )

    transport.__init__ = begin_noted
    loops.close = close_and_look
