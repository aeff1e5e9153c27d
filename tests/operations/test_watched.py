"""A service that dies is started again, and given up when it dies five times in a row."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import OperationError
from core.project import Project
from core.ready import ready_line
from operations.supervise import silence
from operations.supervise.processes import end_marked
from operations.supervise.service import Service
from operations.supervise.watch import DEATHS_IN_A_ROW, SupervisedService
from operations.system_mark import system_mark
from operations.up import surroundings
from tests.support.running_system import DIES_LATER
from tests.support.waiting import SECONDS_AT_MOST

_LASTS = f"print({ready_line('now')!r}); import time; time.sleep(600)"


_ANSWERS = """
import http.server, pathlib, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
pathlib.Path(sys.argv[1]).write_text(str(server.server_port))
server.serve_forever()
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield Project(Path.cwd(), tmp_path)
    end_marked(system_mark(tmp_path))


def watched(project: Project, code: str, *, lasts: bool = True) -> SupervisedService:
    environment = {
        **os.environ,
        **system_mark(project.home).environment,
        "PYTHONUNBUFFERED": "1",
    }
    return SupervisedService(
        Service(
            "thing",
            (sys.executable, "-c", code, str(project.home / "first")),
            lambda: environment,
            lasts=lasts,
        ),
        surroundings(project),
    )


def failing_once(
    error: Exception, environment: Callable[[], dict[str, str]]
) -> Callable[[], dict[str, str]]:
    """An environment that cannot be had at the first time."""
    errors = [error]

    def found() -> dict[str, str]:
        if errors:
            raise errors.pop()
        return environment()

    return found


def look_until(thing: SupervisedService, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_AT_MOST
    while not is_so():
        assert time.monotonic() < deadline, (thing.state, thing.detail)
        thing.look({})
        time.sleep(0.05)


def test_a_service_is_ready_when_its_log_says_so(project: Project) -> None:
    thing = watched(project, _LASTS)
    look_until(thing, lambda: thing.state == "ready")
    assert thing.record().pid is not None
    thing.stop()
    look_until(thing, thing.has_ended)


def test_a_service_that_ends_at_its_first_start_is_named_with_its_last_line_and_its_log(
    project: Project,
) -> None:
    thing = watched(project, "print('one'); raise SystemExit('the disk is on fire')")
    with pytest.raises(
        OperationError, match="thing did not start: it ended with code 1"
    ) as raised:
        look_until(thing, lambda: False)
    assert "the disk is on fire" in str(raised.value)
    assert str(project.home / "logs/thing.log") in str(raised.value)


def test_a_service_that_is_killed_is_started_again(project: Project) -> None:
    thing = watched(project, _LASTS)
    look_until(thing, lambda: thing.state == "ready")
    before = thing.record().pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    look_until(
        thing,
        lambda: thing.state == "ready" and thing.record().pid not in (before, None),
    )
    assert thing.record().restarts == 1
    thing.kill()


@pytest.mark.slow
def test_a_service_that_dies_five_times_in_a_row_is_given_up(project: Project) -> None:
    thing = watched(project, DIES_LATER)
    look_until(thing, lambda: thing.state == "ready")
    thing.kill()
    look_until(thing, lambda: thing.state == "given up")
    assert thing.record().restarts == DEATHS_IN_A_ROW - 1
    assert "no more" in thing.detail
    assert not thing.look({})


@pytest.mark.parametrize(
    "error",
    [
        OperationError("There is no passwords.json."),
        OSError(28, "No space left on device"),
    ],
)
def test_a_start_that_fails_is_a_death_and_the_next_one_may_go_well(
    project: Project, error: Exception
) -> None:
    thing = watched(project, _LASTS)
    look_until(thing, lambda: thing.state == "ready")
    well, environment = thing.service, failing_once(error, thing.service.environment)
    thing.service = Service("thing", well.command, environment)
    thing.kill()
    look_until(thing, lambda: "could not be started" in thing.detail)
    assert thing.state == "restarting"
    look_until(thing, lambda: thing.state == "ready")
    assert thing.record().restarts == 2
    thing.kill()


def test_a_first_start_that_fails_is_named(project: Project) -> None:
    thing = watched(project, _LASTS)
    (project.home / "logs").write_text("no folder", encoding="utf-8")
    with pytest.raises(
        OperationError, match="thing did not start: it could not be started: "
    ):
        thing.look({})


def test_a_log_that_somebody_removed_ends_nothing(project: Project) -> None:
    thing = watched(project, _LASTS)
    look_until(thing, lambda: thing.state == "ready")
    thing.log.unlink()
    thing.kill()
    look_until(thing, lambda: thing.state == "restarting")
    assert "it said nothing" in thing.detail


def test_a_service_that_lives_and_answers_no_more_is_named_until_it_answers_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SECONDS_BETWEEN_QUESTIONS", 0.1)
    monkeypatch.setattr(silence, "SECONDS_OF_SILENCE", 0.2)
    monkeypatch.setattr(silence, "QUESTIONS_WITHOUT_ANSWER", 2)
    thing, first = watched(project, _ANSWERS), project.home / "first"
    look_until(
        thing, lambda: first.is_file() and first.read_text(encoding="utf-8") != ""
    )
    health = f"http://127.0.0.1:{first.read_text(encoding='utf-8')}"
    thing.service = Service(
        "thing", thing.service.command, thing.service.environment, health=health
    )
    look_until(thing, lambda: thing.state == "ready")
    pid = thing.record().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    look_until(thing, lambda: thing.is_silent)
    assert thing.state == "ready"
    assert "it has not answered since" in thing.record().detail
    trouble = thing.trouble()
    assert trouble is not None
    assert trouble.title == "thing does not answer"
    assert "not answered since" in trouble.text
    os.kill(pid, signal.SIGCONT)
    look_until(thing, lambda: not thing.is_silent)
    assert (thing.trouble(), thing.record().pid) == (None, pid)
    thing.kill()


def test_what_is_not_to_last_is_done_when_it_has_ended_well(project: Project) -> None:
    thing = watched(project, f"print({ready_line('no')!r})", lasts=False)
    look_until(thing, lambda: thing.state == "done")


def test_a_service_waits_for_the_ones_that_it_needs(project: Project) -> None:
    thing = watched(project, _LASTS)
    thing.service = Service(
        "thing", thing.service.command, thing.service.environment, after=("other",)
    )
    assert not thing.look({"other": "starting"})
    assert thing.look({"other": "ready"})
    thing.kill()


def test_a_long_log_is_set_aside_at_the_next_start(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.supervise.watch._LARGEST_LOG", 10)
    log = project.home / "logs/thing.log"
    log.parent.mkdir()
    log.write_text("far too long a log", encoding="utf-8")
    thing = watched(project, "print('new')", lasts=False)
    look_until(thing, lambda: thing.state == "done")
    assert (log.read_text(), log.with_suffix(".log.1").read_text()) == (
        "new\n",
        "far too long a log",
    )
