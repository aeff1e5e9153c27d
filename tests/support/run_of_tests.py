"""What the processes of one run of the tests share: a Prefect server, and the run that was judged.

pytest-xdist starts those processes. The process that starts them has the server.
"""

import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from core.environment import set_library_environment
from core.files import write_text
from core.locks import exclusive
from tests.support.journey import Journey
from tests.support.waiting import SECONDS_AT_MOST, wait_until

FOLDER = "folder_of_the_run"
WITH_SERVERS = "with-servers"
"""How the name of each group begins whose tests use the servers."""


class SharedServer:
    """One Prefect server for all processes, as a plugin of the process that starts them.

    It starts when a process has collected a test that needs it.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    @cached_property
    def folder(self) -> Path:
        """What all processes see."""
        made: Path = self.config._tmp_path_factory.mktemp("run")  # type: ignore[attr-defined]
        return made

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[FOLDER] = str(self.folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        # Groups are part of the names where pytest-xdist goes by them.
        by_groups = self.config.getoption("dist") == "loadgroup"
        is_needed = any(f"@{WITH_SERVERS}" in name for name in ids) or not by_groups
        if is_needed and self._thread.ident is None:
            self._thread.start()

    def pytest_unconfigure(self) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _serve(self) -> None:
        address = _address_file(self.folder)
        try:
            with own_prefect(self.folder / "prefect"):
                write_text(address, os.environ["PREFECT_API_URL"])
                self._is_over.wait()
        finally:
            # Whoever waits for a server that did not start is told so.
            write_text(address, "")


@contextmanager
def own_prefect(folder: Path) -> Iterator[None]:
    """`PREFECT_API_URL` names a server of this process, however long its start takes."""
    set_library_environment()
    from flows.schedule.prefect_server import prefect_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.schedule.prefect_server.SECONDS_TO_START", SECONDS_AT_MOST)
        with prefect_server(folder):
            yield


@contextmanager
def shared_prefect(folder: Path) -> Iterator[None]:
    """`PREFECT_API_URL` names the server of the process that started this one."""
    file = _address_file(folder)
    wait_until(file.is_file)
    address = file.read_text(encoding="utf-8")
    assert address, "the Prefect server did not start"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", address)
        patch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")
        _refresh_prefect()
        yield
    _refresh_prefect()


def journey_of_all(folder: Path, make: Callable[[Path], Journey]) -> Journey:
    """What the first process made that asked; the others wait for it meanwhile."""
    kept = folder / "judged.pickle"
    with exclusive(folder / "judged.lock"):
        if not kept.is_file():
            kept.write_bytes(pickle.dumps(make(folder / "judged")))
    journey: Journey = pickle.loads(kept.read_bytes())  # noqa: S301 - written above
    return journey


def _refresh_prefect() -> None:
    """Where Prefect was imported before, it would start a server of its own otherwise."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _address_file(folder: Path) -> Path:
    return folder / "prefect_address"
