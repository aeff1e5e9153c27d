"""Following the ledger by reading it: at a ring, and on a timer, so that a lost ring costs a timer's period.

What does not continue what is remembered, by the endpoint itself or by others (an older copy, a cut tail, another ledger), is told in an
alarm and not obeyed.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.errors import AssayError, BrokenLedger, IllegalEntry, LedgerError
from registry.ledger.chain import check_remembered, follow
from registry.ledger.entries import Entry
from registry.ledger.heads import record_file
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from serving.endpoint.limits import Limits
from serving.endpoint.memory import Recalled, memory_file, recall, remember
from serving.endpoint.outside import Outside, not_in_ledger, without_revoked
from serving.log import say


class Follower:
    """The ledger as far as it was verified. `obey` is called with every standing that is new."""

    def __init__(
        self, home: Path, limits: Limits, obey: Callable[[LedgerState], None]
    ) -> None:
        self.ledger_state: LedgerState | None = None
        self._home = home
        self._limits = limits
        self._obey = obey
        self._turn = asyncio.Lock()
        self._reading: asyncio.Future[LedgerState] | None = None
        self._obeyed: LedgerState | None = None
        self._alarms: dict[str, str] = {}
        self._outside = Outside(home)
        self._has_seen_record = self._is_kept = False
        try:
            recalled = recall(home)
            self.ledger_state, self._has_seen_record = (
                recalled.ledger_state,
                recalled.has_seen_record,
            )
            self._is_kept = recalled.is_signed
        except (AssayError, OSError) as error:
            self._set_alarm("memory", str(error))
        self._is_checked = self.ledger_state is None

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the ledger or with the memory of it."""
        return tuple(self._alarms.values())

    async def keep_following(self) -> None:
        """For as long as the endpoint runs."""
        while True:
            await asyncio.sleep(self._limits.between_looks)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the next look tries again; following must not end
                self._set_alarm(
                    "following",
                    f"What the ledger says could not be done: {type(error).__name__}: {str(error)[:300]}",
                )
            else:
                self._set_alarm("following", None)

    async def look(self) -> None:
        """Read what is new, remember it, then act on it. Whatever is wrong, what is known already goes on."""
        async with self._turn:
            await self._take_in()
            if self.ledger_state is None:
                return
            wanted = without_revoked(self.ledger_state, self._outside.revocations)
            self._set_alarm(
                "revoked", " ".join(not_in_ledger(self.ledger_state, wanted)) or None
            )
            if wanted != self._obeyed:
                self._obey(wanted)
                self._obeyed = wanted

    async def _take_in(self) -> None:
        try:
            found = await self._read_in_time()
        except Exception as error:  # noqa: BLE001 - nothing that a database does may stop what answers
            self._set_alarm("ledger", self._sentence(error))
            return
        finally:
            self._set_alarm("outside", " ".join(self._outside.alarms) or None)
        self._set_alarm("ledger", None)
        is_gone = self._is_kept and not memory_file(self._home).exists()
        if is_gone:
            self._set_alarm(
                "memory",
                f"The endpoint's memory {memory_file(self._home)} was removed. It is written anew: find out who did.",
            )
        sees_record = not self._has_seen_record and record_file(self._home).exists()
        if found != self.ledger_state or not self._is_kept or is_gone or sees_record:
            self._keep(found)
            self.ledger_state = found

    async def _read_in_time(self) -> LedgerState:
        """A reading that takes too long is waited for at the next look; a second one is not begun beside it."""
        if self._reading is None:
            self._reading = in_thread(self._read)
        try:
            found = await asyncio.wait_for(
                asyncio.shield(self._reading), self._limits.for_the_ledger
            )
        except BaseException:
            if self._reading.done():
                self._reading = None
            raise
        self._reading = None
        return found

    def _read(self) -> LedgerState:
        from registry.ledger.ledger import read_ledger

        remembered = self.ledger_state
        known = self._outside.read(remembered, has_seen_record=self._has_seen_record)
        ledger = read_ledger(self._home)
        found = self._followed(ledger, remembered)
        if remembered is None:  # only now it is known whose seals count
            known = self._outside.read(found, has_seen_record=self._has_seen_record)
        self._outside.check(ledger, found, known, has_memory=remembered is not None)
        return found

    def _followed(self, ledger: Ledger, remembered: LedgerState | None) -> LedgerState:
        if remembered is None or self._is_checked:
            return ledger.follow(remembered)
        try:
            found = self._check_memory(remembered, ledger.entries())
        except BrokenLedger:
            found = ledger.follow(
                remembered
            )  # an entry of the ledger may accept that what is remembered is lost
        self._is_checked = True
        return found

    def _check_memory(
        self, remembered: LedgerState, entries: tuple[Entry, ...]
    ) -> LedgerState:
        """Once after a start: what was remembered is what the ledger's own entries amount to; where it is not, they count."""
        known = [
            entry for entry in entries if entry.generation <= remembered.head.generation
        ]
        check_remembered(remembered.head, known[-1] if known else None)
        ledger_state = follow(None, known)
        if ledger_state != remembered:
            fact = "The endpoint's memory on disk was not what the ledger says: it was edited, or another version of Assay wrote it."
            self._alarms["memory"] = f"{fact} The ledger was obeyed."
        return follow(ledger_state, entries[len(known) :])

    def _keep(self, ledger_state: LedgerState) -> None:
        try:
            self._has_seen_record = remember(
                self._home, Recalled(ledger_state, self._has_seen_record)
            )
        except (LedgerError, OSError) as error:
            self._is_kept = False
            # Going back must work with a full disk, too. After a restart the ledger is asked again.
            self._set_alarm(
                "disk",
                f"The endpoint cannot write down how far it has followed ({_fact(error)}). Make room on its disk.",
            )
        else:
            self._is_kept = True
            self._set_alarm("disk", None)

    def _sentence(self, error: Exception) -> str | None:
        """None where there is simply no ledger yet."""
        if isinstance(error, TimeoutError):
            return f"The ledger did not answer within {self._limits.for_the_ledger:.0f} s. What was known goes on; look at its database."
        if isinstance(error, BrokenLedger | IllegalEntry):
            return f"The ledger is not obeyed: {error}"
        if isinstance(error, AssayError):
            return (
                None
                if self.ledger_state is None
                else f"The ledger is out of reach, and what was known goes on: {error}"
            )
        return f"The ledger cannot be read, and what was known goes on: {type(error).__name__}: {str(error)[:300]}"

    def _set_alarm(self, of: str, sentence: str | None) -> None:
        if sentence is None:
            self._alarms.pop(of, None)
        elif self._alarms.get(of) != sentence:
            self._alarms[of] = sentence
            say(f"ALARM: {sentence}")


def _fact(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) else str(error)


def in_thread(call: Callable[[], LedgerState]) -> "asyncio.Future[LedgerState]":
    """Run it in a thread of its own, which does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[LedgerState] = loop.create_future()

    def settle(outcome: LedgerState | Exception) -> None:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def run() -> None:
        outcome: LedgerState | Exception
        try:
            outcome = call()
        except Exception as error:  # noqa: BLE001 - it is raised again where it is awaited
            outcome = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="ledger", daemon=True).start()
    return future
