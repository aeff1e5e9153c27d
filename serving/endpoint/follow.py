"""Follow the ledger by reading it: at a ring, and on a timer, so that a lost ring costs a period.

A ledger that does not continue what is remembered, by the endpoint itself or by others (an older
copy, a cut tail, another ledger), causes an alarm and is not obeyed.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from core.errors import AssayError, BrokenLedger, IllegalEntry, LedgerError
from core.log import say
from registry.ledger.chain import check_remembered, follow
from registry.ledger.entries import Entry
from registry.ledger.heads import record_file
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from serving.endpoint.in_thread import run_in_thread
from serving.endpoint.limits import Limits
from serving.endpoint.memory import RecalledState, memory_file, recall, remember
from serving.endpoint.outside import (
    OutsideHeads,
    describe_unrecorded_revocations,
    drop_revoked,
)


class Follower:
    """The ledger as far as it was verified. `obey` is called with every state that is new."""

    def __init__(
        self, home: Path, limits: Limits, obey: Callable[[LedgerState], None]
    ) -> None:
        self.ledger_state: LedgerState | None = None
        self._home = home
        self._limits = limits
        self._obey = obey
        self._lock = asyncio.Lock()
        # A reading that the last look did not wait for to its end.
        self._reading: asyncio.Future[LedgerState] | None = None
        # When that began, and when the last one began that was obeyed.
        self._reading_since = self._followed_at = time.monotonic()
        self._obeyed: LedgerState | None = None
        # By their subject: one sentence for each.
        self._alarms: dict[str, str] = {}
        self._outside = OutsideHeads(home)
        self._has_seen_record = False
        # Whether the memory on disk is this state, signed.
        self._is_remembered = False
        self._recall()
        # Whether the memory was compared with the ledger's own entries since the start.
        self._is_checked = self.ledger_state is None

    @property
    def seconds_alone(self) -> float:
        """For how long nothing is known of the ledger: it could not be read, or not obeyed."""
        return time.monotonic() - self._followed_at

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the ledger or with the memory of it."""
        return tuple(self._alarms.values())

    async def keep_following(self) -> None:
        """Look at the ledger again and again, for as long as the endpoint runs."""
        while True:
            await asyncio.sleep(self._limits.seconds_between_looks)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the next look tries again
                fact = f"{type(error).__name__}: {str(error)[:300]}"
                self._set_alarm(
                    "following", f"What the ledger says could not be done: {fact}"
                )
            else:
                self._set_alarm("following", None)

    async def look(self) -> None:
        """Read what is new, remember it, then act on it.

        Whatever is wrong with the ledger, the state that was verified last stays obeyed.
        """
        # A ring and the timer may come together.
        async with self._lock:
            await self._read_news()
            if self.ledger_state is None:
                return
            state = drop_revoked(self.ledger_state, self._outside.revocations)
            unrecorded = describe_unrecorded_revocations(self.ledger_state, state)
            self._set_alarm("revoked", " ".join(unrecorded) or None)
            if state != self._obeyed:
                self._obey(state)
                self._obeyed = state

    def _recall(self) -> None:
        try:
            recalled = recall(self._home)
        except (AssayError, OSError) as error:
            self._set_alarm("memory", str(error))
            return
        self.ledger_state = recalled.ledger_state
        self._has_seen_record = recalled.has_seen_record
        self._is_remembered = recalled.is_signed

    async def _read_news(self) -> None:
        try:
            state = await self._read_in_time()
        # Nothing that a database does may stop what answers.
        except Exception as error:  # noqa: BLE001 - it becomes an alarm
            self._set_alarm("ledger", self._explain_error(error))
            return
        finally:
            self._set_alarm("outside", " ".join(self._outside.alarms) or None)
        self._set_alarm("ledger", None)
        # Its beginning: what was entered while it was read may not be in it.
        self._followed_at = self._reading_since
        path = memory_file(self._home)
        was_removed = self._is_remembered and not path.exists()
        if was_removed:
            self._set_alarm(
                "memory",
                f"The endpoint's memory {path} was removed. "
                "It is written again: find out who removed it.",
            )
        has_news = state != self.ledger_state or self._has_new_record()
        if has_news or was_removed or not self._is_remembered:
            self._remember(state)
            self.ledger_state = state

    def _has_new_record(self) -> bool:
        """Whether there is a head record for the first time."""
        if self._has_seen_record:
            return False
        return record_file(self._home).exists()

    async def _read_in_time(self) -> LedgerState:
        """Read the ledger; `TimeoutError` where that takes too long.

        Such a reading is waited for at the next look, and no second one begins beside it.
        """
        if self._reading is None:
            self._reading_since = time.monotonic()
            self._reading = run_in_thread(self._read)
        try:
            # Shielded: a thread cannot be cancelled.
            reading = asyncio.shield(self._reading)
            state = await asyncio.wait_for(reading, self._limits.seconds_for_the_ledger)
        except BaseException:
            if self._reading.done():
                self._reading = None
            raise
        self._reading = None
        return state

    def _read(self) -> LedgerState:
        from registry.ledger.ledger import read_ledger

        remembered = self.ledger_state
        # Before the ledger: what others knew by then it must hold.
        heads = self._outside.read(remembered, has_seen_record=self._has_seen_record)
        ledger = read_ledger(self._home)
        state = self._follow(ledger, remembered)
        if remembered is None:
            # Only after the ledger was read it is known whose seals count.
            heads = self._outside.read(state, has_seen_record=self._has_seen_record)
        self._outside.check(ledger, state, heads, has_memory=remembered is not None)
        return state

    def _follow(self, ledger: Ledger, remembered: LedgerState | None) -> LedgerState:
        if remembered is None or self._is_checked:
            return ledger.follow(remembered)
        try:
            state = self._check_memory(remembered, ledger.entries())
        except BrokenLedger:
            # An entry of the ledger may accept that what is remembered is lost.
            state = ledger.follow(remembered)
        self._is_checked = True
        return state

    def _check_memory(
        self, remembered: LedgerState, entries: tuple[Entry, ...]
    ) -> LedgerState:
        """Once after a start: what was remembered is what the ledger's own entries amount to.

        Where it is not, the entries count. `BrokenLedger` where they do not hold the head that
        is remembered.
        """
        head = remembered.head
        older = [entry for entry in entries if entry.generation <= head.generation]
        latest = older[-1] if older else None
        check_remembered(head, latest)
        ledger_state = follow(None, older)
        if ledger_state != remembered:
            self._alarms["memory"] = (
                "The endpoint's memory on disk was not what the ledger says: it was edited, "
                "or another version of Assay wrote it. The ledger was obeyed."
            )
        new = entries[len(older) :]
        return follow(ledger_state, new)

    def _remember(self, ledger_state: LedgerState) -> None:
        recalled = RecalledState(ledger_state, self._has_seen_record)
        try:
            self._has_seen_record = remember(self._home, recalled)
        except (LedgerError, OSError) as error:
            self._is_remembered = False
            # A rollback must work with a full disk, too. After a restart the ledger is read again.
            fact = str(error.strerror) if isinstance(error, OSError) else str(error)
            self._set_alarm(
                "disk",
                "The endpoint cannot write down how far it has followed "
                f"({fact}). Make room on its disk.",
            )
        else:
            self._is_remembered = True
            self._set_alarm("disk", None)

    def _explain_error(self, error: Exception) -> str | None:
        """What the alarm says; None where there is simply no ledger yet."""
        if isinstance(error, TimeoutError):
            return (
                f"The ledger did not answer within {self._limits.seconds_for_the_ledger:.0f} s. "
                "What was verified last is still served; look at its database."
            )
        if isinstance(error, BrokenLedger | IllegalEntry):
            return f"The ledger is not obeyed: {error}"
        if not isinstance(error, AssayError):
            fact = f"{type(error).__name__}: {str(error)[:300]}"
            return (
                "The ledger cannot be read, and what was verified last is still served: "
                f"{fact}"
            )
        if self.ledger_state is None:
            return None
        return (
            "The ledger is unreachable, and what was verified last is still served: "
            f"{error}"
        )

    def _set_alarm(self, subject: str, sentence: str | None) -> None:
        if sentence is None:
            self._alarms.pop(subject, None)
        # Once in the log, not at every look.
        elif self._alarms.get(subject) != sentence:
            self._alarms[subject] = sentence
            say(f"ALARM: {sentence}")
