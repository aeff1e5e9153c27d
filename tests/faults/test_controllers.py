"""The controller killed, stopped and doubled while a release is on its way.

Whoever is left ends it, and nothing is written twice.
"""

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from core.project import Project
from core.ready import ready_line
from operations.reconcile import Reconciler
from registry.ledger.entries import ReleaseSwitched
from registry.ledger.ledger import open_ledger
from registry.release.brakes import freeze, unfreeze
from registry.release.context import ChangeRequest, ReleaseContext
from registry.release.release import drive_release
from tests.support.endpoint_system import MODEL, Home, Running, endpoint
from tests.support.journey import Checkout, Package, invoke
from tests.support.released import (
    Controller,
    at_rest,
    checkout_of,
    controller,
    kinds,
    make_home,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ci

WHOLE = ["judged", "release_begun", "release_switched", "release_completed"]
WHY = ChangeRequest("ann", "a test")
READY = ready_line("the controller")


@pytest.fixture(scope="module")
def packed(
    tiny_base: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Home:
    return make_home(tiny_base, package.folder, tmp_path_factory.mktemp("controllers"))


@pytest.fixture
def home(packed: Home, empty_mlflow: Path, tmp_path: Path) -> Home:
    """Both versions are packed and nothing is released."""
    home = packed.copy(tmp_path / "home")
    shutil.copyfile(empty_mlflow, home.path / "mlflow.db")
    return home


@pytest.fixture
def running(home: Home) -> Iterator[Running]:
    with endpoint(home) as running:
        yield running


@pytest.fixture
def checkout(home: Home, cloned: Path) -> Iterator[Checkout]:
    """Where `assay` is typed; whatever a test does, the ledger is whole afterwards."""
    checkout = checkout_of(home, cloned)
    yield checkout
    audit = invoke(checkout, "audit", "verify")
    assert audit.code == 0, audit.out


def serves(home: Home, running: Running, version: str) -> None:
    """Ledger and endpoint agree that it does, and the ledger is whole."""
    current = home.ledger_state.model(MODEL).current
    assert current is not None
    assert (current.release.version, current.is_completed) == (version, True)
    assert (
        running.ask().headers["x-assay-fingerprint"] == home.specs[version].fingerprint
    )


def stop_while_it_drives(sleeper: Controller, home: Home) -> None:
    """Between two looks of its release.

    Who is stopped inside a transaction keeps SQLite from everybody, which is another fault.
    """

    def is_caught() -> bool:
        sleeper.process.send_signal(signal.SIGSTOP)
        if _is_locked(home.path) and _is_writable(home.path):
            return True
        sleeper.process.send_signal(signal.SIGCONT)
        return False

    wait_until(is_caught, said=sleeper.log.read_text)
    assert not at_rest(home)


def _is_locked(path: Path) -> bool:
    try:
        with FileLock(path / "leases" / "release.lock", timeout=0):
            return False
    except Timeout:
        return True


def _is_writable(path: Path) -> bool:
    with closing(
        sqlite3.connect(path / "ledger.db", timeout=0, isolation_level=None)
    ) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def context(home: Home) -> ReleaseContext:
    return ReleaseContext(open_ledger(home.path), home.client)


def test_of_two_controllers_one_stands_by_and_takes_over_a_release_when_the_first_is_killed(
    home: Home, running: Running, checkout: Checkout
) -> None:
    with controller(checkout) as first:
        first.says(READY)
        with controller(checkout) as second:
            second.says("Standing by:")
            before = home.ledger_state.head.generation
            home.begin("1")
            first.process.kill()
            first.process.wait()
            wait_until(lambda: at_rest(home), said=second.log.read_text)
            second.says(READY)
    assert kinds(home, before) == WHOLE
    serves(home, running, "1")


@pytest.mark.parametrize(
    "cut",
    [
        "begun",
        pytest.param("ready", marks=pytest.mark.slow),
        pytest.param("switched", marks=pytest.mark.slow),
    ],
)
def test_killed_between_any_two_entries_of_a_release_the_next_controller_finishes_it(
    home: Home, running: Running, checkout: Checkout, cut: str
) -> None:
    home.release("1")
    before = home.ledger_state.head.generation
    begun = home.begin("2")
    if cut != "begun":
        home.wait(
            lambda state: any(
                (each.begun, each.state) == (begun, "ready") for each in state.engines
            )
        )
    if cut == "switched":
        home.write(ReleaseSwitched(begun=begun))
    assert not at_rest(home)
    (sentence,) = Reconciler(Project(checkout.root, home.path)).finish_releases()
    assert (
        sentence
        == f"A release of {MODEL} that was left on its way was carried to its end: version 2 "
        "serves."
    )
    assert kinds(home, before) == WHOLE
    serves(home, running, "2")


@pytest.mark.slow
@pytest.mark.parametrize("meanwhile", ["finished", "frozen"])
def test_a_controller_that_slept_through_what_another_wrote_writes_nothing_wrong(
    home: Home, running: Running, checkout: Checkout, meanwhile: str
) -> None:
    """It is stopped while it holds the release lock: only the ledger's generation holds it back."""
    home.release("1")
    with controller(checkout) as sleeper:
        sleeper.says(READY)
        before = home.ledger_state.head.generation
        home.begin("2")
        stop_while_it_drives(sleeper, home)
        if meanwhile == "finished":
            drive_release(MODEL, context(home))
        else:
            freeze(WHY, context(home))
            unfreeze(WHY, context(home))
        advanced = home.ledger_state.head
        sleeper.process.send_signal(signal.SIGCONT)
        sleeper.says("was left on its way was carried to its end")
        assert sleeper.process.poll() is None
    assert home.ledger_state.head == advanced
    assert kinds(home, before)[:2] == WHOLE[:2]
    assert kinds(home, before)[2:] == (
        WHOLE[2:] if meanwhile == "finished" else ["frozen", "unfrozen"]
    )
    serves(home, running, "2" if meanwhile == "finished" else "1")
