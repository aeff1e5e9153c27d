"""Somebody changes the ledger's database under a running endpoint.

The audit names it, `assay status` shows it, and what served goes on.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.endpoint_system import MODEL, Home, Running, endpoint, without_record
from tests.support.journey import Checkout, Package, invoke
from tests.support.ledgers import tamper
from tests.support.released import checkout_of, make_home

# Quick are the audit's own tests, and the endpoint's of a ledger that was put back or cut.
pytestmark = pytest.mark.ci

MOVE = "UPDATE entries SET generation = %d WHERE generation = %d"
EXCHANGED = tuple(
    move for places in ((99, 6), (6, 7), (7, 99)) for move in (MOVE % places,)
)
# What the endpoint has verified already it does not read again: a change there shows in the audit
# and in `assay status`.
TAMPERINGS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "edited": (
        ("UPDATE entries SET body = replace(body, 'ann', 'eve') WHERE generation = 3",),
        "Entry 3 ",
        False,
    ),
    "dropped": (("DELETE FROM entries WHERE generation = 4",), "Entry 4 ", False),
    "exchanged": (EXCHANGED, "Entry 6 ", False),
    "the last one edited": (
        (
            "UPDATE entries SET at = '2126-01-01T00:00:00.000000+00:00' WHERE generation = 9",
        ),
        "Entry 9 ",
        True,
    ),
    "tail cut": (
        ("DELETE FROM entries WHERE generation > 7",),
        "cut off or an old copy",
        True,
    ),
    "emptied": (("DELETE FROM entries",), "There was a ledger here", True),
}


@pytest.fixture(scope="module")
def home(
    tiny_base: Path,
    package: Package,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Home:
    made = make_home(tiny_base, package.folder, tmp_path_factory.mktemp("tampered"))
    shutil.copyfile(empty_mlflow, made.path / "mlflow.db")
    return made


@pytest.fixture(scope="module")
def running(home: Home) -> Iterator[Running]:
    """Version 1, then version 2, with an older copy of the ledger from before the second."""
    with endpoint(home) as running:
        home.release("1")
        _copy(home.path, home.path / "older")
        home.release("2")
        yield running


@pytest.fixture
def checkout(
    home: Home, running: Running, cloned: Path, tmp_path: Path
) -> Iterator[Checkout]:
    """The ledger is put back after each test, and then nothing is left of the alarm."""
    _copy(home.path, tmp_path)
    yield checkout_of(home, cloned)
    _copy(tmp_path, home.path)
    assert home.client.ring().alarms == ()


def _copy(home: Path, into: Path) -> None:
    into.mkdir(exist_ok=True)
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for left in into.glob("ledger.db*"):
        left.unlink()
    shutil.copyfile(home / "ledger.db", into / "ledger.db")


def _goes_on(home: Home, running: Running, checkout: Checkout, words: str) -> str:
    """The last good state answers.

    The audit ends with 1 and names the fault; gives what `assay status` warns about.
    """
    head = home.client.state().head
    assert head is not None
    assert home.client.ring().head == head
    assert head.generation == 9
    assert home.client.state().routes[MODEL].fingerprint == home.specs["2"].fingerprint
    assert running.ask().headers["x-assay-fingerprint"] == home.specs["2"].fingerprint
    audited = invoke(checkout, "audit", "verify")
    assert audited.code == 1, audited.out
    assert words in audited.out + audited.err
    status = invoke(checkout, "status")
    assert status.code == 0
    return status.out


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_ledger_that_was_changed_is_named_and_what_served_goes_on(
    home: Home, running: Running, checkout: Checkout, how: str
) -> None:
    statements, words, is_seen_by_the_endpoint = TAMPERINGS[how]
    tamper(home.path, *statements)
    shown = _goes_on(home, running, checkout, words)
    assert words in shown or is_seen_by_the_endpoint, shown
    assert bool(home.client.ring().alarms) is is_seen_by_the_endpoint
    for alarm in home.client.state().alarms:
        assert alarm in shown


def test_an_older_copy_that_was_put_back_is_refused(
    home: Home, running: Running, checkout: Checkout
) -> None:
    _copy(home.path / "older", home.path)
    shown = _goes_on(home, running, checkout, "cut off or an old copy")
    assert "The ledger is not obeyed" in shown
    assert "cut off or an old copy was put back" in shown


def test_an_older_copy_that_went_on_is_refused_as_another_history(
    home: Home, running: Running, checkout: Checkout
) -> None:
    _copy(home.path / "older", home.path)
    with without_record(home):
        for _ in range(3):
            home.serve_base()
            home.roll_back(3)
    shown = _goes_on(home, running, checkout, "remembers another one")
    assert "The ledger is not obeyed" in shown
