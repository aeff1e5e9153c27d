"""Wishes at a real controller and a real endpoint, with rings lost and controllers killed.

Both versions were released; going back and stopping need neither MLflow nor Prefect.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.project import Project
from core.ready import ready_line
from flows.wishes import LONGEST_OPEN, answer_wish
from registry.ledger.enrolment import enrol
from registry.ledger.entries import Wished
from registry.ledger.ledger import open_ledger
from registry.release.context import ChangeRequest
from registry.release.doorbell import ring
from registry.release.wishing import Subject, WishDesk
from tests.support.endpoint_system import MODEL, Home, Running, endpoint
from tests.support.journey import Checkout, Package
from tests.support.released import checkout_of, controller, kinds, make_home
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.ci
READY = ready_line("the controller")
MANAGER = ChangeRequest("manager", "the newer one is worse", "mlflow:manager")
EVE = ChangeRequest("eve", "let mine serve", "mlflow:eve")


@pytest.fixture(scope="module")
def served(
    tiny_base: Path,
    package: Package,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Home, Running]]:
    """Version 2 answers, and version 1 did before."""
    home = make_home(tiny_base, package.folder, tmp_path_factory.mktemp("wishes"))
    shutil.copyfile(empty_mlflow, home.path / "mlflow.db")
    enrol(open_ledger(home.path), "admission", "assay")
    with endpoint(home) as running:
        home.release("1")
        home.release("2")
        yield home, running


@pytest.fixture
def home(served: tuple[Home, Running]) -> Home:
    return served[0]


@pytest.fixture
def running(served: tuple[Home, Running]) -> Running:
    return served[1]


@pytest.fixture
def checkout(home: Home, cloned: Path) -> Checkout:
    return checkout_of(home, cloned)


def desk(home: Home, *, rings: bool = True) -> WishDesk:
    """As MLflow's server has it."""
    ledger = open_ledger(home.path, role="admission")
    return WishDesk(ledger, lambda: rings and ring(home.path), SECONDS_AT_MOST)


def other_than_serves(home: Home) -> str:
    current = home.ledger_state.model(MODEL).current
    assert current is not None
    return "1" if current.release.version == "2" else "2"


def answers(running: Running, home: Home, version: str) -> bool:
    fingerprint = home.specs[version].fingerprint
    return running.ask().headers["x-assay-fingerprint"] == fingerprint


@contextmanager
def at_work(checkout: Checkout) -> Iterator[None]:
    with controller(checkout) as working:
        working.says(READY)
        yield


@pytest.mark.parametrize("rings", [True, False])
def test_a_wish_for_what_served_before_goes_back_to_it_though_every_ring_is_lost(
    home: Home, running: Running, checkout: Checkout, *, rings: bool
) -> None:
    version = other_than_serves(home)
    before = home.ledger_state.head.generation
    with at_work(checkout):
        answer = desk(home, rings=rings).hand_in(Subject(MODEL, version), MANAGER)
    assert answer.is_granted, answer.text
    assert kinds(home, before) == ["wished", "rolled_back"]
    wait_until(lambda: answers(running, home, version), SECONDS_AT_MOST, str)
    current = home.ledger_state.model(MODEL).current
    assert current is not None
    # The release has its own author; going back has its own, in its entry.
    entry = open_ledger(home.path).entries()[-1].body
    assert (getattr(entry, "by", ""), getattr(entry, "account", "")) == (
        "manager",
        "mlflow:manager",
    )


def test_a_wish_that_a_killed_controller_left_open_is_answered_by_the_next(
    home: Home, running: Running, checkout: Checkout
) -> None:
    version = other_than_serves(home)
    with at_work(checkout):
        pass
    ledger = open_ledger(home.path, role="admission")
    why = ledger.remember("it is late")
    wish = Wished(
        by=MANAGER.by,
        account=MANAGER.account,
        reason_sha256=why,
        model=MODEL,
        version=version,
    )
    ledger.append(wish, ledger.state())
    with at_work(checkout):
        wait_until(
            lambda: home.ledger_state.model(MODEL).wish is None, SECONDS_AT_MOST, str
        )
    wait_until(lambda: answers(running, home, version), SECONDS_AT_MOST, str)


def test_a_wish_for_what_nobody_registered_is_refused_and_the_rest_goes_on(
    home: Home, running: Running, checkout: Checkout
) -> None:
    serving = "1" if other_than_serves(home) == "2" else "2"
    with at_work(checkout):
        answer = desk(home).hand_in(Subject(MODEL, "7"), MANAGER)
    assert not answer.is_granted
    assert "There is no version 7 of" in answer.text
    assert kinds(home)[-2:] == ["wished", "wish_closed"]
    assert answers(running, home, serving)


def test_a_wish_of_somebody_without_the_role_is_refused_whoever_signed_it(
    home: Home, checkout: Checkout
) -> None:
    version = other_than_serves(home)
    with at_work(checkout):
        answer = desk(home).hand_in(Subject(MODEL, version), EVE)
    assert not answer.is_granted
    assert answer.text == "eve is no release manager in the controller's people.yaml"
    assert other_than_serves(home) == version


def test_a_wish_that_nobody_waits_for_any_more_is_closed_and_not_granted(
    home: Home, checkout: Checkout
) -> None:
    version = other_than_serves(home)
    ledger = open_ledger(home.path, role="admission")
    wish = Wished(
        by=MANAGER.by,
        account=MANAGER.account,
        reason_sha256=ledger.remember("it is late"),
        model=MODEL,
        version=version,
    )
    ledger.append(wish, ledger.state())
    recorded = home.ledger_state.model(MODEL).wish
    assert recorded is not None
    # The ledger's clock never goes back: the wish is aged on its way to the controller.
    aged = recorded.model_copy(update={"at": recorded.at - 2 * LONGEST_OPEN})
    project = Project(checkout.root, home.path)
    answered = answer_wish(project, MODEL, aged, open_ledger(project.home))
    assert "nobody waits for it any more" in answered.sentence
    assert home.ledger_state.model(MODEL).wish is None
    assert other_than_serves(home) == version
