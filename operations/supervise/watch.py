"""One service: started, watched, started again when it dies, given up when it dies five times in a row, named when it falls silent."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psutil

from core.errors import AssayError, OperationError
from core.loopback import HERE, answers
from core.project import Project
from core.ready import is_ready_line
from core.system_record import ServiceRecord, State
from operations.supervise.processes import kill_below
from operations.supervise.service import Service
from operations.supervise.silence import Silence

if TYPE_CHECKING:
    from socket import socket

DEATHS_IN_A_ROW = 5
A_SHORT_LIFE = 60.0
SECONDS_TO_START = 240.0
LONGEST_WAIT = 8.0
_LARGEST_LOG = 10_000_000


class Watched:
    """A service of the running system. `look` is called again and again, by one thread."""

    def __init__(self, service: Service, project: Project) -> None:
        """Nothing is started yet."""
        self.service = service
        self.log = project.home / "logs" / f"{service.name}.log"
        self.state: State = "waiting"
        self.detail = ""
        self.restarts = 0
        self._root = project.root
        self._guard: subprocess.Popen[bytes] | None = None
        self._socket: socket | None = None
        self._since = datetime.now(UTC)
        self._began = self._resume = time.monotonic()
        self._short_lives = 0
        self._from = 0
        self._was_ready = False
        self.is_silent = False
        self._silence = Silence(service.health)

    @property
    def guard_pid(self) -> int | None:
        """The process that holds the service's tree together."""
        return None if self._guard is None else self._guard.pid

    def start(self) -> None:
        """Start it. One that cannot even be started, on a full disk or without its password, has died like any other."""
        self._began = time.monotonic()
        try:
            self._guard = self._under_guard()
        except (AssayError, OSError) as error:
            self._note_death(f"it could not be started: {str(error).rstrip('.')}")
        else:
            self._become("starting")

    def _under_guard(self) -> "subprocess.Popen[bytes]":
        """Its guard, with a log of the service's own."""
        self._rotate()
        command = [
            sys.executable,
            "-m",
            "operations.supervise.guard",
            "--owner",
            str(os.getpid()),
            "--name",
            self.service.name,
        ]
        command += ["--seconds-to-stop", str(self.service.seconds_to_stop)]
        sockets = self._sockets()
        command += [word for number in sockets for word in ("--socket", str(number))]
        command += [
            "--",
            *self.service.command,
            *(word for number in sockets for word in ("--listen-on", str(number))),
        ]
        with self.log.open("ab") as log:
            self._from = log.tell()
            return subprocess.Popen(
                command,
                cwd=self._root,
                env=self.service.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=sockets,
                start_new_session=True,  # Ctrl-C reaches `assay up` alone, which ends the services in order
            )

    def _sockets(self) -> tuple[int, ...]:
        """Number of the socket that the service is to listen on, opened once; none where it opens its own."""
        if not self.service.is_given_its_socket or self.service.port is None:
            return ()
        from serving.listen import open_socket

        if self._socket is None:
            self._socket = open_socket(HERE, self.service.port)
        return (self._socket.fileno(),)

    def _close_socket(self) -> None:
        """Nobody will answer there: who connects is to hear so at once."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def look(self, others: dict[str, State]) -> bool:
        """Take the next step where there is one; whether anything changed."""
        before = (self.state, self.detail, self.restarts)
        if self._is_due(others):
            self.start()
        elif self.state in ("starting", "ready"):
            self._look_at_process()
        return before != (self.state, self.detail, self.restarts)

    def stop(self) -> None:
        """Tell it to end."""
        self._close_socket()
        if self._guard is not None and self._guard.poll() is None:
            self._guard.terminate()

    def has_ended(self) -> bool:
        """Nothing of it runs under its guard."""
        return self._guard is None or self._guard.poll() is not None

    def kill(self) -> None:
        """End it and all below it at once."""
        self._close_socket()
        if self._guard is not None and self._guard.poll() is None:
            kill_below(psutil.Process(self._guard.pid))
            self._guard.kill()
            self._guard.wait()

    def record(self) -> ServiceRecord:
        """How it stands."""
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

    def trouble(self) -> tuple[str, str] | None:
        """What to tell people who do not sit before it, as a title and a text; None where it can be left to this machine."""
        again = (
            f"Its log is {self.log}; `assay down`, then `assay up`, starts all anew."
        )
        if self.state == "given up":
            what = f"It died {DEATHS_IN_A_ROW} times in a row and is not started again; the rest goes on without it"
            return (
                f"{self.service.name} is given up",
                f"{what}. The last time {self.detail}. {again}",
            )
        if self.is_silent:
            return (
                f"{self.service.name} does not answer",
                f"It lives, but {self.detail}. {again}",
            )
        return None

    def _is_due(self, others: dict[str, State]) -> bool:
        if self.state == "waiting":
            return all(
                others.get(name, "ready") in ("ready", "done")
                for name in self.service.after
            )
        return self.state == "restarting" and time.monotonic() >= self._resume

    def _look_at_process(self) -> None:
        code = None if self._guard is None else self._guard.poll()
        if code is not None:
            self._note_end(code)
        elif self.state == "starting" and self._is_ready():
            self._was_ready = True
            self._silence = Silence(self.service.health)
            self._become("ready")
        elif self.state == "ready":
            self._look_for_answers()
        elif (
            self.state == "starting"
            and time.monotonic() - self._began > SECONDS_TO_START
        ):
            self.kill()
            self._note_end(code, f"it was not ready after {SECONDS_TO_START:.0f} s")

    def _look_for_answers(self) -> None:
        """Notice that it has fallen silent, and that it answers again. It is not ended for that: it may hold what nobody should cut off."""
        was_silent, self.is_silent = self.is_silent, self._silence.is_long()
        if self.is_silent and not was_silent:
            self.detail = (
                f"it has not answered since {self._silence.since:%Y-%m-%d %H:%M:%S} UTC"
            )
        elif was_silent and not self.is_silent:
            self.detail = ""

    def _note_end(self, code: int | None, why: str | None = None) -> None:
        """Ended as it should, or died."""
        if code == 0 and not self.service.lasts:
            self._become("done")
            return
        self._note_death(f"{why or f'it ended with code {code}'} ({self._last_line()})")

    def _note_death(self, fact: str) -> None:
        """Died at its first start, which ends everything, or later: then it is started again."""
        if not self._was_ready:
            raise OperationError(
                f"{self.service.name} did not start: {fact}. Its log is {self.log}."
            )
        self._short_lives = (
            self._short_lives + 1
            if time.monotonic() - self._began < A_SHORT_LIFE
            else 1
        )
        self.detail = fact
        if self._short_lives >= DEATHS_IN_A_ROW:
            self._close_socket()
            self._become("given up")
            return
        self.restarts += 1
        # Once at once: everything that waits for it waits for no good reason. Again and again, with longer and longer pauses.
        pause = 0.5 * 2 ** (self._short_lives - 1) if self._short_lives > 1 else 0.0
        self._resume = time.monotonic() + min(LONGEST_WAIT, pause)
        self._become("restarting")

    def _is_ready(self) -> bool:
        if self.service.health is not None:
            return answers(self.service.health, seconds=1)
        if self.service.shows_up is not None:
            return self.service.shows_up(self._since)
        return self.service.lasts and any(is_ready_line(line) for line in self._said())

    def _become(self, state: State) -> None:
        self.state = state
        self._since = datetime.now(UTC)
        self.is_silent = False

    def _pid(self) -> int | None:
        """The service's own process: the guard's first child."""
        with suppress(psutil.Error):
            if self._guard is not None and self._guard.poll() is None:
                below = sorted(
                    psutil.Process(self._guard.pid).children(),
                    key=lambda each: each.create_time(),
                )
                return below[0].pid if below else None
        return None

    def _said(self) -> list[str]:
        try:
            with self.log.open("rb") as log:
                log.seek(self._from)
                return (
                    log.read(1_000_000).decode("utf-8", errors="replace").splitlines()
                )
        except OSError:  # somebody has removed it
            return []

    def _last_line(self) -> str:
        lines = [line.strip() for line in self._said() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def _rotate(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.is_file() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
