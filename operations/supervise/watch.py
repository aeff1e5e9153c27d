"""One service: started, watched, restarted when it dies, and given up after five deaths in a row.

A service that is alive and silent is reported and left alone.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from core.children import OWN_MODULE, ChildCommand, start_child
from core.errors import AssayError, OperationError
from core.loopback import answers
from core.ready import is_ready_line
from core.system_record import ServiceRecord, State
from operations.supervise.processes import kill_below
from operations.supervise.service import Service
from operations.supervise.silence import Silence

if TYPE_CHECKING:
    import subprocess
    from socket import socket

# A service that dies this often, each time within A_SHORT_LIFE seconds, is given up.
DEATHS_IN_A_ROW = 5
A_SHORT_LIFE = 60.0
# A busy machine of two cores takes long to import the servers' libraries.
SECONDS_TO_START = 240.0
# Seconds between two starts: the first after one death is at once, later pauses double.
LONGEST_WAIT = 8.0
_FIRST_PAUSE = 0.5
# Bytes, at which a log is set aside at the next start; one older log is kept.
_LARGEST_LOG = 10_000_000
# Bytes that are searched for `Ready:` and for the last line.
_MOST_READ_OF_A_LOG = 1_000_000
_LONGEST_LAST_LINE = 300


@dataclass(frozen=True)
class Trouble:
    """What people who do not watch the terminal should know of a service."""

    title: str
    text: str


@dataclass(frozen=True)
class Surroundings:
    """The folder that services are started in, and the one that their logs are in."""

    folder: Path
    logs: Path


class SupervisedService:
    """A service under supervision. One thread calls `look` again and again."""

    def __init__(self, service: Service, surroundings: Surroundings) -> None:
        """Nothing is started yet."""
        self.service = service
        self.log = surroundings.logs / f"{service.name}.log"
        self.state: State = "waiting"
        self.detail = ""
        self.restarts = 0
        self.is_silent = False
        self._folder = surroundings.folder
        self._guard: subprocess.Popen[bytes] | None = None
        self._socket: socket | None = None
        # The wall clock is for people; durations are measured on the monotonic clock.
        self._since = datetime.now(UTC)
        self._began = self._restarts_at = time.monotonic()
        self._short_lives = 0
        self._log_start = 0
        self._was_ready = False
        self._silence = Silence(service.health)

    @property
    def guard_pid(self) -> int | None:
        """The process that holds the service's tree together."""
        if self._guard is None:
            return None
        return self._guard.pid

    def start(self) -> None:
        """Start the service.

        A service that cannot be started, on a full disk or without its password, counts as dead:
        `OperationError` at the first start, and another attempt later on.
        """
        self._began = time.monotonic()
        try:
            # Reads passwords and opens the log, and so may fail in more than one way.
            self._guard = self._start_under_guard()
        except (AssayError, OSError) as error:
            reason = str(error).rstrip(".")
            self._note_death(f"it could not be started: {reason}")
        else:
            self._enter("starting")

    def look(self, others: dict[str, State]) -> bool:
        """Take the next step where there is one, and tell whether anything changed.

        `others` holds the states of all services by name. `OperationError` where the first start
        fails.
        """
        # The caller writes a record and prints a line only where something visible has changed.
        earlier = self._visible_facts()
        if self._is_due(others):
            self.start()
        elif self.state in ("starting", "ready"):
            self._look_at_process()
        later = self._visible_facts()
        return later != earlier

    def _visible_facts(self) -> tuple[State, str, int]:
        return (
            self.state,
            self.detail,
            self.restarts,
        )

    def stop(self) -> None:
        """Ask the service to end."""
        self._close_socket()
        if self._guard is not None and not self.has_ended():
            self._guard.terminate()

    def has_ended(self) -> bool:
        """Tell whether no process of the service runs under its guard."""
        if self._guard is None:
            return True
        return self._guard.poll() is not None

    def kill(self) -> None:
        """End the service and all its descendants at once."""
        self._close_socket()
        if self._guard is not None and not self.has_ended():
            kill_below(psutil.Process(self._guard.pid))
            self._guard.kill()
            self._guard.wait()

    def record(self) -> ServiceRecord:
        """Describe the service as it is now."""
        return ServiceRecord(
            name=self.service.name,
            state=self.state,
            since=self._since,
            pid=self._pid(),
            url=self.service.health,
            link=self.service.link,
            port=self.service.port,
            restarts=self.restarts,
            detail=self.detail,
            is_silent=self.is_silent,
        )

    def trouble(self) -> Trouble | None:
        """What people must be told; None where this machine can be left to itself."""
        if self.state == "given up":
            text = (
                f"It died {DEATHS_IN_A_ROW} times in a row and is not started again; the rest "
                f"continues without it. The last time {self.detail}."
            )
            return Trouble(f"{self.service.name} is given up", text)
        if self.is_silent:
            title = f"{self.service.name} does not answer"
            return Trouble(title, f"It is alive, but {self.detail}.")
        return None

    def _start_under_guard(self) -> "subprocess.Popen[bytes]":
        """Start the guard, which starts the service's command with a log of its own."""
        self._rotate_log()
        sockets = self._sockets()
        # What earlier lives have written must not count as a sign of readiness.
        self._log_start = self._log_size()
        command = ChildCommand(
            self._guard_command(sockets),
            self.service.environment(),
            self.log,
            self._folder,
            sockets,
        )
        return start_child(command)

    def _guard_command(self, sockets: tuple[int, ...]) -> tuple[str, ...]:
        command = [*OWN_MODULE, "operations.supervise.process_guard"]
        command += ["--owner", str(os.getpid())]
        command += ["--name", self.service.name]
        command += ["--seconds-to-stop", str(self.service.seconds_to_stop)]
        for number in sockets:
            command += ["--socket", str(number)]
        command += ["--", *self.service.command]
        for number in sockets:
            command += ["--listen-on", str(number)]
        return tuple(command)

    def _sockets(self) -> tuple[int, ...]:
        """Give the socket that the service listens on; empty where the service opens its own."""
        if self.service.open_socket is None:
            return ()
        # Opened once: it outlives the service, so that clients wait while that is restarted.
        if self._socket is None:
            self._socket = self.service.open_socket()
        number = self._socket.fileno()
        return (number,)

    def _close_socket(self) -> None:
        """Refuse clients at once, since nobody will answer them."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _is_due(self, others: dict[str, State]) -> bool:
        if self.state == "restarting":
            return time.monotonic() >= self._restarts_at
        if self.state != "waiting":
            return False
        needed_states = [others.get(name, "ready") for name in self.service.after]
        return all(state in ("ready", "done") for state in needed_states)

    def _look_at_process(self) -> None:
        code = None if self._guard is None else self._guard.poll()
        if code is not None:
            self._note_end(code)
        elif self.state == "ready":
            self._look_for_answers()
        elif self._is_ready():
            self._was_ready = True
            # Silence before readiness is not counted.
            self._silence = Silence(self.service.health)
            self._enter("ready")
        elif time.monotonic() - self._began > SECONDS_TO_START:
            # Half started, it would hold its port and its memory against the next attempt.
            self.kill()
            self._note_end(code, f"it was not ready after {SECONDS_TO_START:.0f} s")

    def _look_for_answers(self) -> None:
        """Notice when the service falls silent, and when it answers again.

        A silent service is not ended: it may be doing work that nobody should cut off.
        """
        was_silent = self.is_silent
        self.is_silent = self._silence.is_long()
        # Reported once at each change, not at every look.
        if self.is_silent == was_silent:
            return
        self.detail = ""
        if self.is_silent:
            since = f"{self._silence.since:%Y-%m-%d %H:%M:%S}"
            self.detail = f"it has not answered since {since} UTC"

    def _note_end(self, code: int | None, reason: str | None = None) -> None:
        """Tell a planned end from a death."""
        # A service that should last has died, even with exit code 0.
        if code == 0 and not self.service.lasts:
            self._enter("done")
            return
        reason = reason or f"it ended with code {code}"
        self._note_death(f"{reason} ({self._last_line()})")

    def _note_death(self, reason: str) -> None:
        """Plan the next start, or give the service up.

        `OperationError` where it was never ready: a system that cannot start should say so at once.
        """
        if not self._was_ready:
            raise OperationError(
                f"{self.service.name} did not start: {reason}. Its log is {self.log}."
            )
        # A service that ran for a while and then died has earned a fresh count.
        is_short_life = time.monotonic() - self._began < A_SHORT_LIFE
        self._short_lives = self._short_lives + 1 if is_short_life else 1
        self.detail = reason
        if self._short_lives >= DEATHS_IN_A_ROW:
            self._close_socket()
            self._enter("given up")
            return
        self.restarts += 1
        self._restarts_at = time.monotonic() + self._pause()
        self._enter("restarting")

    def _pause(self) -> float:
        """Seconds until the next start: none after one death, then twice as many after each."""
        if self._short_lives <= 1:
            # Clients and other services wait for it, and one death says nothing about the next.
            return 0.0
        pause: float = _FIRST_PAUSE * 2 ** (self._short_lives - 1)
        return min(LONGEST_WAIT, pause)

    def _is_ready(self) -> bool:
        if self.service.health is not None:
            return answers(self.service.health, seconds=1)
        if self.service.shows_up is not None:
            return self.service.shows_up(self._since)
        if not self.service.lasts:
            return False
        return any(is_ready_line(line) for line in self._log_lines())

    def _enter(self, state: State) -> None:
        self.state = state
        self._since = datetime.now(UTC)
        self.is_silent = False

    def _pid(self) -> int | None:
        """Process id of the service itself: the guard's oldest child."""
        if self._guard is None or self.has_ended():
            return None
        # The guard may end while its children are listed.
        with suppress(psutil.Error):
            children = psutil.Process(self._guard.pid).children()
            oldest = min(children, key=lambda child: child.create_time(), default=None)
            return None if oldest is None else oldest.pid
        return None

    def _log_lines(self) -> list[str]:
        """Lines that the service has written since its last start."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._log_start)
                text = log.read(_MOST_READ_OF_A_LOG)
        except OSError:  # somebody has removed the log
            return []
        return text.decode("utf-8", errors="replace").splitlines()

    def _last_line(self) -> str:
        stripped_lines = [line.strip() for line in self._log_lines()]
        lines = [line for line in stripped_lines if line]
        if not lines:
            return "it said nothing"
        return lines[-1][:_LONGEST_LAST_LINE]

    def _rotate_log(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # Only between two lives: a running service holds its log open.
        if self._log_size() > _LARGEST_LOG:
            older_log = self.log.with_suffix(".log.1")
            self.log.replace(older_log)

    def _log_size(self) -> int:
        if not self.log.is_file():
            return 0
        return self.log.stat().st_size
