"""`assay up`: start everything, watch it, and end everything with one Ctrl-C."""

import signal
import threading
import time
import webbrowser
from contextlib import suppress
from dataclasses import dataclass, field

from core.environment import set_library_environment
from core.errors import LedgerError, OperationError, ServingError
from core.home import make_home
from core.locks import exclusive, lock_file
from core.loopback import HERE
from core.notify import notify
from core.project import Project, find_project
from core.settings import Settings
from core.system_record import own_record, read_record, record_file
from operations.down import end_system
from operations.services import Ports, services
from operations.start_display import Progress
from operations.supervise.processes import adopt_orphans, end_orphans, reap, sweep
from operations.supervise.watch import Watched
from registry.mlflow.moved import settle

SECONDS_BETWEEN_LOOKS = 0.2


class _Stop:
    """Ctrl-C, SIGTERM or a closed terminal: once to end in order, twice to end at once."""

    def __init__(self) -> None:
        self.times = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup` has it outlive its terminal. SIGINT, which a script's `&` ignores, is taken all the same: it still means Ctrl-C.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._count)

    def _count(self, *_: object) -> None:
        self.times += 1


@dataclass
class _System:
    """The services of one home while they run."""

    project: Project
    watched: tuple[Watched, ...]
    progress: Progress
    stop: _Stop = field(default_factory=_Stop)
    is_written: bool = True

    def run(self) -> None:
        """Start, watch until told to stop, and end everything however it went."""
        try:
            while not self.stop.times:
                has_changed = self._look()
                time.sleep(0 if has_changed else SECONDS_BETWEEN_LOOKS)
        finally:
            self.progress.stopping()
            self._end()

    def _look(self) -> bool:
        """Take the next step of each service; whether anything changed."""
        guards = frozenset(
            each.guard_pid for each in self.watched if each.guard_pid is not None
        )
        if any(
            each.state in ("starting", "ready") and each.has_ended()
            for each in self.watched
        ):
            end_orphans(besides=guards, outliving=self._lasting())
        states = {each.service.name: each.state for each in self.watched}
        changed = [each for each in self.watched if each.look(states)]
        reap(besides=guards)
        # A record that is lost or damaged is written anew: `assay status` and `assay down` go by it.
        if changed or not self.is_written or read_record(self.project.home) is None:
            self.write()
        if changed:
            self.progress.show([each.record() for each in self.watched])
        for each in changed:
            self._tell(each)
        if any(each.state == "given up" for each in changed):
            end_orphans(besides=guards, outliving=self._lasting())
        return bool(changed)

    def _lasting(self) -> tuple[str, ...]:
        """Services that will be there: what outlives another one has nobody to wait for."""
        return tuple(
            each.service.name for each in self.watched if each.state != "given up"
        )

    def write(self) -> None:
        """Say how it stands, for `assay status` and `assay down`. On a full disk that waits, and nothing else does."""
        could, path = self.is_written, record_file(self.project.home)
        try:
            own_record(tuple(each.record() for each in self.watched)).write(path)
            self.is_written = True
        except OSError as error:
            self.is_written = False
            if could:
                self.progress.warn(
                    f"{path} cannot be written ({error.strerror}). Until it can, `assay status` may be wrong."
                )

    def _tell(self, watched: Watched) -> None:
        """People who do not sit before it, beside the work: an address that does not answer takes its time."""
        if (trouble := watched.trouble()) is not None:
            with suppress(
                RuntimeError
            ):  # no thread is to be had, which must not end the rest
                threading.Thread(
                    target=notify, args=(self.project.home, *trouble)
                ).start()

    def _end(self) -> None:
        """Those that use others first, the others when the first are gone."""
        for wave in (
            tuple(each for each in self.watched if each.service.after),
            self.watched,
        ):
            for each in wave:
                each.stop()
            self._wait(wave)
        for each in self.watched:
            each.kill()
        sweep(self.project.home)
        record_file(self.project.home).unlink(missing_ok=True)

    def _wait(self, wave: tuple[Watched, ...]) -> None:
        deadline = (
            time.monotonic()
            + max((each.service.seconds_to_stop for each in wave), default=0)
            + 5
        )
        while (
            not all(each.has_ended() for each in wave)
            and time.monotonic() < deadline
            and self.stop.times < 2
        ):
            time.sleep(0.05)


def run_up(ports: Ports, *, opens_browser: bool) -> int:
    """Everything, in the foreground, until it is stopped."""
    set_library_environment()
    project = find_project(Settings().home)
    make_home(project.home)
    with exclusive(
        lock_file(project.home), wait=0, busy=lambda: _running_already(project)
    ):
        end_system(project.home)  # what an earlier one that was killed has left
        _check_ports(ports)
        moved = settle(
            project.home
        )  # MLflow's server would write where the home was before
        adopt_orphans()
        system = _System(
            project,
            tuple(Watched(each, project) for each in services(project, ports)),
            Progress(project.home),
        )
        system.progress.warn(moved)
        system.progress.warn(_open_ledger(project))
        if opens_browser:
            system.progress.when_ready(
                lambda: webbrowser.open(f"http://{HERE}:{ports.mlflow}")
            )
        system.write()
        system.run()
    return 0


def _running_already(project: Project) -> OperationError:
    record = read_record(project.home)
    number = "" if record is None else f" (process {record.pid})"
    return OperationError(
        f"assay up is running already for {project.home}{number}. `assay status` shows it, `assay down` ends it."
    )


def _check_ports(ports: Ports) -> None:
    """Found now, in one line, rather than by a server after ten seconds."""
    from serving.listen import open_socket

    taken: dict[int, str] = {}
    for option, port in ports.named():
        if port in taken:
            raise OperationError(
                f"{taken[port]} and {option} are both {port}. Give each its own."
            )
        taken[port] = option
        try:
            with open_socket(HERE, port):
                pass
        except ServingError as error:
            raise OperationError(
                f"Port {port} on {HERE} is taken. Stop what listens there, or give another with {option}."
            ) from error


def _open_ledger(project: Project) -> str | None:
    """The ledger exists before anything looks for it; one that is out of reach keeps nothing from starting."""
    from registry.ledger.ledger import open_ledger

    try:
        open_ledger(project.home)
    except LedgerError as error:
        return str(error)
    return None
