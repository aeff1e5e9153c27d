"""A replica says again and again that it lives and how it stands, for whoever drives a release."""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from core.errors import ServingError
from core.log import say
from core.settings import Settings
from registry.release.following import EndpointState
from registry.release.replica_table import ReplicaId, ReplicaTable, Reported
from registry.release.replicas import LEASE
from serving.endpoint.in_thread import run_in_thread

SECONDS_BETWEEN_REPORTS = 1.0
_SECONDS_FOR_A_CALL = 5.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_T = TypeVar("_T")


def registration_of(seconds_ready_alone: int) -> "Registration | None":
    """That of `ASSAY_REPLICA`; None where this endpoint is no replica.

    `LedgerError` where it is to be one, and its ledger is a file of this machine.
    """
    settings = Settings()
    if not settings.replica:
        return None
    if not _NAME.fullmatch(settings.replica):
        raise ServingError(
            f"ASSAY_REPLICA is {settings.replica[:100]!r}. "
            "Give a name of letters, digits, dots and dashes."
        )
    # A replica that says no after a while counts until it has certainly said so, and a load
    # balancer has heard it.
    replica = ReplicaId(
        settings.replica,
        instance=secrets.token_hex(8),
        lease=LEASE + seconds_ready_alone,
    )
    table = ReplicaTable(settings.ledger_url or "sqlite:///ledger.db")
    return Registration(replica, table)


class Registration:
    """The row of one replica. A fault of the database is an alarm, and stops nothing."""

    def __init__(self, replica: ReplicaId, table: ReplicaTable) -> None:
        self.alarm: str | None = None
        self.is_taken = False
        """Whether another process reports under this name."""
        self._replica = replica
        self._table = table
        self._is_created = False
        # When the last report began that arrived; None before the first.
        self._reported_at: float | None = None
        # A thread cannot be cancelled: no second one begins beside one that hangs.
        self._call: asyncio.Future[Any] | None = None

    @property
    def name(self) -> str:
        """Under which name it reports."""
        return self._replica.name

    @property
    def seconds_alone(self) -> float:
        """Since the last report that arrived; without one, for ever."""
        if self._reported_at is None:
            return float("inf")
        return time.monotonic() - self._reported_at

    async def keep(
        self,
        serves_at: str,
        state: Callable[[], EndpointState],
        look: Callable[[], Awaitable[None]],
    ) -> None:
        """Report for as long as the endpoint runs, and look at the ledger where it has news.

        Nobody rings a replica: so it follows a second after an entry, and says so at once.
        """
        self._replica = replace(self._replica, serves_at=serves_at)
        while True:
            reported = state()
            newest = await self._report(reported)
            followed = 0 if reported.head is None else reported.head.generation
            if newest > followed:
                # What is wrong with the ledger the endpoint's own timer finds and says.
                with suppress(Exception):
                    await look()
                await self._report(state())
            await asyncio.sleep(SECONDS_BETWEEN_REPORTS)

    async def leave(self) -> None:
        """Say that this replica ends, so that no release waits for it."""
        if self._reported_at is None:
            return
        leaving = partial(self._table.leave, self._replica)
        try:
            await self._run(leaving)
        except Exception as error:  # noqa: BLE001 - its lease ends by itself
            say(f"Releases wait for this replica for a while: {error}")

    async def _report(self, state: EndpointState) -> int:
        """Report once; gives the ledger's last entry, 0 where the database does not answer."""
        began = time.monotonic()
        try:
            reported = await self._run(partial(self._write, state))
        # Whatever the database does, the next report tries again.
        except Exception as error:  # noqa: BLE001 - it becomes an alarm
            fact = str(error) or "the database is silent."
            # Where somebody dropped the table, it is made again.
            self._is_created = False
            self._set_alarm(f"Releases do not see this replica: {fact}")
            return 0
        self.is_taken = not reported.is_ours
        if self.is_taken:
            self._set_alarm(
                f"Another process reports as {self.name}, so releases do not see this one. "
                "Give each replica a name of its own in ASSAY_REPLICA."
            )
        else:
            self._reported_at = began
            self._set_alarm(None)
        return reported.newest

    def _write(self, state: EndpointState) -> Reported:
        if not self._is_created:
            self._table.create()
            self._is_created = True
        is_first = self._reported_at is None and not self.is_taken
        return self._table.report(self._replica, state, is_first=is_first)

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._call is not None:
            await asyncio.wait({self._call}, timeout=_SECONDS_FOR_A_CALL)
        if self._call is not None and not self._call.done():
            raise TimeoutError
        self._call = run_in_thread(work)
        return await asyncio.wait_for(asyncio.shield(self._call), _SECONDS_FOR_A_CALL)

    def _set_alarm(self, sentence: str | None) -> None:
        # Once in the log, not at every report.
        if sentence is not None and sentence != self.alarm:
            say(f"ALARM: {sentence}")
        self.alarm = sentence
