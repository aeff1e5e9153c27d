"""No answer waits while Python searches all that a process has imported and loaded for garbage."""

import gc
import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.garbage import leave_out_of_search, without_search
from tests.support.endpoint_system import Home, endpoint
from tests.support.waiting import wait_until

LOOK = """
import gc, os, signal

def look(*_):
    folder = os.environ["LOOKS"]
    file = f"{folder}/{os.getpid()}"
    with open(f"{file}.new", "w") as new:
        new.write(f"{len(gc.get_objects())} {gc.get_freeze_count()}")
    os.rename(f"{file}.new", file)

signal.signal(signal.SIGUSR1, look)
"""
"""What Python runs at the start of each process: it counts its objects whenever it is told to."""


class Link:
    """Something that can be part of a circle."""

    def __init__(self) -> None:
        self.next: Link | None = None


def is_searched(thing: object) -> bool:
    """Whether the next full search looks at it."""
    return any(each is thing for each in gc.get_objects())


@pytest.fixture
def little_to_search() -> Iterator[None]:
    """Only what a test makes itself is searched in it."""
    gc.freeze()
    yield
    # Of the process of the tests nothing is to be kept for ever.
    gc.unfreeze()


@pytest.mark.usefixtures("little_to_search")
def test_what_is_made_without_a_search_is_not_searched_later() -> None:
    with without_search():
        assert not gc.isenabled()
        made = Link()
    assert gc.isenabled()
    assert not is_searched(made)


@pytest.mark.usefixtures("little_to_search")
def test_a_module_that_cannot_be_imported_ends_no_later_search() -> None:
    with pytest.raises(ImportError), without_search():
        raise ImportError
    assert gc.isenabled()


@pytest.mark.usefixtures("little_to_search")
def test_what_is_garbage_is_freed_before_the_rest_is_left_out() -> None:
    link = Link()
    link.next = link
    found = weakref.ref(link)
    kept = Link()
    del link
    assert is_searched(kept)
    leave_out_of_search()
    assert found() is None
    assert not is_searched(kept)


@pytest.mark.ci
def test_endpoint_and_engine_search_little_while_they_answer(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOOK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LOOKS", str(tmp_path))
    with endpoint(home) as running:
        home.release("1")
        assert running.ask().status_code == 200
        engine = running.engine_of(home.package("1"))
        for pid in (running.process.pid, engine.pid):
            os.kill(pid, signal.SIGUSR1)
            counts = tmp_path / str(pid)
            wait_until(counts.exists)
            searched, kept = map(int, counts.read_text().split())
            assert 10 * searched < kept
