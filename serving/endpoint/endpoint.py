"""The endpoint's life: begin, follow, answer, let answers finish, end."""

import asyncio
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from core.ready import ready_line
from registry.release.following import EndpointState
from serving.endpoint.admin import create_admin_app
from serving.endpoint.admin_address import (
    AdminAddress,
    publish_admin_address,
    withdraw_admin_address,
)
from serving.endpoint.fleet import Fleet
from serving.endpoint.follow import Follower
from serving.endpoint.lanes import Target
from serving.endpoint.limits import Limits
from serving.endpoint.routes import create_app
from serving.listen import open_socket, server_of, url_of
from serving.log import say


class Endpoint:
    """Fleet and follower of one home."""

    def __init__(self, home: Path, limits: Limits) -> None:
        self._home = home
        self._limits = limits
        self.fleet = Fleet(home, limits)
        self.follower = Follower(home, limits, self.fleet.match)

    def state(self) -> EndpointState:
        """How it stands."""
        ledger_state = self.follower.ledger_state
        return EndpointState(
            head=None if ledger_state is None else ledger_state.head,
            engines=self.fleet.engine_states(),
            routes=self.fleet.routes(),
            alarms=self.follower.alarms + self.fleet.alarms(),
        )

    async def serve(self, listener: socket.socket) -> None:
        """Answer until SIGTERM or Ctrl-C; then nothing new is taken, and what runs may finish."""
        ending = _told_to_end()
        await self.follower.look()
        with suppress(TimeoutError):
            # Who connects meanwhile waits in the socket's queue, where it would be told that nothing answers yet.
            await asyncio.wait_for(self.fleet.taken_over(), self._limits.to_take_over)
        with open_socket("127.0.0.1", 0) as behind:
            admin_address = AdminAddress.new(url_of(behind), f"{url_of(listener)}/v1")
            public = server_of(create_app(self.fleet.lanes, self._limits))
            admin = server_of(
                create_admin_app(admin_address.token, self.follower.look, self.state)
            )
            answering = asyncio.create_task(public.serve([listener]))
            lasting = (
                self.follower.keep_following(),
                self.fleet.keep_looking_at_packages(),
                self._say_ready(admin_address),
            )
            others = [asyncio.create_task(each) for each in lasting]
            listening = asyncio.create_task(admin.serve([behind]))
            try:
                publish_admin_address(self._home, admin_address)
                await ending.wait()
                public.should_exit = True
                await asyncio.wait({answering}, timeout=self._limits.to_finish)
            finally:
                await self._end(others)
                public.should_exit = admin.should_exit = True
                await asyncio.wait({answering, listening})

    async def _end(self, others: list[asyncio.Task[None]]) -> None:
        """An answer that still runs now ends in an error event."""
        withdraw_admin_address(self._home)
        for task in others:
            task.cancel()
        await self.fleet.close()

    async def _say_ready(self, admin_address: AdminAddress) -> None:
        """One line for whoever started it, once what is to answer does."""
        await self.fleet.settled()
        line = ready_line(self._what_answers(), admin_address.serves_at)
        say(line, sys.stdout)

    def _what_answers(self) -> str:
        ready, routes = self.fleet.lanes.ready(), self.fleet.routes()
        answering = [
            f"{name} {_version(ready[name])} ({route.fingerprint})"
            for name, route in routes.items()
        ]
        if self.fleet.lanes.table and not answering:
            return "nothing of what is released answers yet (`assay status` says why)"
        return (
            " and ".join(answering)
            or "nothing is released yet (`assay promote` releases a version)"
        )


def _version(target: Target) -> str:
    return "by its base" if target.serves_base else f"version {target.label}"


def _told_to_end() -> asyncio.Event:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(ValueError):
            loop.add_signal_handler(number, ending.set)
    return ending
