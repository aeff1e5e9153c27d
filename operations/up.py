"""`assay up`: start everything, watch it, and end everything with one Ctrl-C."""

import os
import signal
import threading
import time
import webbrowser
from contextlib import suppress
from dataclasses import dataclass, field

from core.environment import mlflow_address, set_library_environment
from core.errors import LedgerError, OperationError, ServingError
from core.home import make_home
from core.locks import exclusive, up_lock
from core.loopback import LOOPBACK
from core.notify import notify
from core.project import Project, find_project
from core.settings import Settings
from core.supported import describe_untried_system
from core.system_record import own_record, read_record, record_file
from flows.servers import SECONDS_BEFORE_A_RUN
from operations.down import end_system
from operations.services import Ports, services
from operations.start_display import StartDisplay
from operations.supervise.processes import adopt_orphans, end_marked, end_orphans, reap
from operations.supervise.watch import SupervisedService, Surroundings
from operations.system_mark import system_mark
from registry.mlflow.desk import Desk, prepare_desk
from registry.mlflow.examine import examine_mlflow
from registry.mlflow.moved import settle
from registry.mlflow.own_database import own_database

SECONDS_BETWEEN_LOOKS = 0.2
# Shorter: a person who pressed Ctrl-C is waiting.
_SECONDS_BETWEEN_LOOKS_AT_THE_END = 0.05
_SECONDS_FOR_A_GUARD = 5
"""What a guard may take after its service's own time to stop."""


class StopSignals:
    """How often it was asked to stop: once to end in order, twice to end at once.

    Ctrl-C, SIGTERM and a closed terminal count.
    """

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup` ignores SIGHUP so that the process outlives its terminal.
            # A script's `&` ignores SIGINT, which still means Ctrl-C here.
            is_ignored = signal.getsignal(number) == signal.SIG_IGN
            if number != signal.SIGHUP or not is_ignored:
                signal.signal(number, self._count_one)

    def _count_one(self, *_: object) -> None:
        self.count += 1


@dataclass
class RunningServices:
    """The services of one home while they run."""

    project: Project
    services: tuple[SupervisedService, ...]
    display: StartDisplay
    stop: StopSignals = field(default_factory=StopSignals)
    is_recorded: bool = True

    def run(self) -> None:
        """Start the services, watch them until asked to stop, and end them whatever happens.

        `OperationError` where a service does not start.
        """
        try:
            while not self.stop.count:
                has_changed = self.look()
                time.sleep(0 if has_changed else SECONDS_BETWEEN_LOOKS)
        finally:
            # Also after an error: a service that did not start ends the others in order.
            self.display.stopping()
            self._end()

    def look(self) -> bool:
        """Take the next step of each service, and tell whether anything changed.

        `OperationError` where a service does not start.
        """
        guards = frozenset(
            service.guard_pid
            for service in self.services
            if service.guard_pid is not None
        )
        if any(_has_died(service) for service in self.services):
            self._end_orphans(guards)
        # All services see the same states, whatever their order in the list.
        states = {service.service.name: service.state for service in self.services}
        changed = [service for service in self.services if service.look(states)]
        reap(besides=guards)
        # `assay status` and `assay down` read it, so a record that is lost or damaged is replaced.
        if changed or not self.is_recorded or read_record(self.project.home) is None:
            self.write_record()
        if changed:
            self.display.show([service.record() for service in self.services])
        for service in changed:
            self._notify_people(service)
        if any(service.state == "given up" for service in changed):
            self._end_orphans(guards)
        return bool(changed)

    def write_record(self) -> None:
        """Record the state of each service for `assay status` and `assay down`.

        On a full disk the record waits for a later look, and the services keep running.
        """
        was_recorded = self.is_recorded
        path = record_file(self.project.home)
        try:
            records = tuple(service.record() for service in self.services)
            own_record(records).write(path)
            self.is_recorded = True
        except OSError as error:
            self.is_recorded = False
            # Said once, since a full disk fails at every look.
            if was_recorded:
                self.display.warn(
                    f"{path} cannot be written ({error.strerror}). "
                    "Until it can, `assay status` may be wrong."
                )

    def _end_orphans(self, guards: frozenset[int]) -> None:
        end_orphans(
            system_mark(self.project.home),
            besides=guards,
            outliving=self._continuing(),
        )

    def _continuing(self) -> tuple[str, ...]:
        """Names of the services that run or will run again.

        A process that outlives a service which is given up waits for nobody, and is ended.
        """
        return tuple(
            service.service.name
            for service in self.services
            if service.state != "given up"
        )

    def _notify_people(self, service: SupervisedService) -> None:
        """Tell people who do not watch the terminal; in a thread, since an address may be slow."""
        trouble = service.trouble()
        if trouble is None:
            return
        advice = (
            f"Its log is {service.log}; "
            "`assay down`, then `assay up`, starts everything again."
        )
        message = (self.project.home, trouble.title, f"{trouble.text} {advice}")
        # Where no thread can be started, the services keep running without the notice.
        with suppress(RuntimeError):
            threading.Thread(target=notify, args=message).start()

    def _end(self) -> None:
        """End the services that use others first, and then the rest."""
        dependent = tuple(service for service in self.services if service.service.after)
        # A worker that loses its server first would report a failure that is none.
        for wave in (dependent, self.services):
            for service in wave:
                service.stop()
            self._wait_for_end(wave)
        # Whatever has not ended in time, or was not waited for after a second Ctrl-C.
        for service in self.services:
            service.kill()
        end_marked(system_mark(self.project.home))
        record_file(self.project.home).unlink(missing_ok=True)

    def _wait_for_end(self, wave: tuple[SupervisedService, ...]) -> None:
        longest = max((service.service.seconds_to_stop for service in wave), default=0)
        deadline = time.monotonic() + longest + _SECONDS_FOR_A_GUARD
        while time.monotonic() < deadline and self.stop.count < 2:
            if all(service.has_ended() for service in wave):
                return
            time.sleep(_SECONDS_BETWEEN_LOOKS_AT_THE_END)


def describe_unused_servers(*, is_mlflow_used: bool = False) -> str | None:
    """What a person should know who has set addresses of the team's servers; None without any.

    The ledger's is used: there is one ledger, whoever asks it.
    """
    settings = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")
    unused = [name for name in settings if os.environ.get(name)]
    if is_mlflow_used and "MLFLOW_TRACKING_URI" in unused:
        unused.remove("MLFLOW_TRACKING_URI")
    if not unused:
        return None
    names = " and ".join(unused)
    return (
        f"`assay up` does not use {names}: it runs servers of its own, and what runs by "
        "itself is recorded there. docs/how-to/team-servers.md says what follows."
    )


def _check_system() -> None:
    """`OperationError` where a service whose guard dies could not be found and ended."""
    problem = describe_untried_system()
    if problem is not None:
        raise OperationError(problem)


def run_up(ports: Ports, *, opens_browser: bool) -> None:
    """Run everything in the foreground until it is stopped.

    `OperationError` where another `assay up` has the home, a port is taken, or a service does not
    start, and on a system that is not Linux.
    """
    _check_system()
    set_library_environment()
    project = find_project(Settings().home)
    if ports.is_mlflow_the_teams:
        _check_team_mlflow()
    # Before the lock, whose file is in the home.
    make_home(project.home)
    lock = up_lock(project.home)
    with exclusive(lock, wait=0, busy=lambda: _already_running(project)):
        end_system(project.home)  # processes that a killed `assay up` has left
        _check_ports(ports)
        # MLflow's server would otherwise begin empty records beside the home's.
        own_database(project.home)
        # MLflow's server would otherwise write where the home was before.
        moved = settle(project.home)
        # A service whose guard is killed becomes this process's child, and can be ended.
        adopt_orphans()
        display = StartDisplay(project.home)
        supervised = _supervised(project, ports)
        system = RunningServices(project, supervised, display)
        # Warnings come first, so that the list of services below them stays in one piece.
        display.warn(moved)
        is_the_teams = ports.is_mlflow_the_teams
        unused = describe_unused_servers(is_mlflow_used=is_the_teams)
        display.warn(unused)
        display.warn(_open_ledger(project))
        if is_the_teams:
            # Its key is copied to that MLflow's host: docs/how-to/add-to-your-mlflow.md.
            prepare_desk(Desk(project.home, project.root))
        elif opens_browser:
            display.when_ready(
                lambda: webbrowser.open(f"http://{LOOPBACK}:{ports.mlflow}")
            )
        system.write_record()
        system.run()


def surroundings(project: Project) -> Surroundings:
    """Give the folders that the services of a project run in and log to."""
    return Surroundings(
        folder=project.root,
        logs=project.home / "logs",
    )


def _supervised(project: Project, ports: Ports) -> tuple[SupervisedService, ...]:
    return tuple(
        SupervisedService(service, surroundings(project))
        for service in services(project, ports)
    )


def _has_died(service: SupervisedService) -> bool:
    should_run = service.state in ("starting", "ready")
    return should_run and service.has_ended()


def _already_running(project: Project) -> OperationError:
    record = read_record(project.home)
    number = "" if record is None else f" (process {record.pid})"
    return OperationError(
        f"assay up is running already for {project.home}{number}. "
        "`assay status` shows it, `assay down` ends it."
    )


def _check_team_mlflow() -> None:
    """`OperationError` where no server is named, or the one that is cannot be used."""
    address = mlflow_address() or ""
    if not address.lower().startswith(("http://", "https://")):
        raise OperationError(
            "--team-mlflow uses the server at MLFLOW_TRACKING_URI, which names none. "
            "Set it to that server's address."
        )
    # As patient as a run: a server that hashes each password takes its time.
    examine_mlflow(SECONDS_BEFORE_A_RUN)


def _check_ports(ports: Ports) -> None:
    """Refuse ports that are taken, in one line; a server would take ten seconds to fail on them."""
    from serving.listen import open_socket

    options: dict[int, str] = {}
    for option, port in ports.named():
        if port in options:
            raise OperationError(
                f"{options[port]} and {option} are both {port}. Give each its own."
            )
        # Two services on one port would be found only when the second one fails to start.
        options[port] = option
        try:
            with open_socket(LOOPBACK, port):
                pass
        except ServingError as error:
            raise OperationError(
                f"Port {port} on {LOOPBACK} is taken. "
                f"Stop what listens there, or give another with {option}."
            ) from error


def _open_ledger(project: Project) -> str | None:
    """Have a ledger before anything looks for it; a sentence where it cannot be reached."""
    from registry.ledger.ledger import open_ledger

    try:
        open_ledger(project.home)
    except LedgerError as error:
        return str(error)
    return None
