"""Tests see neither what was done in the checkout nor what its developer has set.

What the processes of a run share is made once.
"""

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.environment import isolate
from tests.support.journey import (
    IDENTITY,
    Checkout,
    CommandResult,
    Journey,
    clone_tracked_files,
    git,
)
from tests.support.run_of_tests import journey_of_all


def test_a_clone_for_tests_holds_tracked_files_as_they_are_now_and_nothing_else(
    tmp_path: Path,
) -> None:
    used = tmp_path / "used"
    used.mkdir()
    git(used, "init", "--quiet")
    (used / "dvc.yaml").write_text("before")
    git(used, "add", "dvc.yaml")
    git(used, *IDENTITY, "commit", "--quiet", "--message", "one file")
    (used / "dvc.yaml").write_text("now")
    (used / "dvc.lock").write_text("what `dvc repro` left")
    clone = clone_tracked_files(tmp_path / "clone", used)
    assert {path.name for path in clone.iterdir()} == {".git", "dvc.yaml"}
    assert git(clone, "show", "HEAD:dvc.yaml") == "now"


def test_no_database_that_a_test_or_a_command_left_is_part_of_the_checkout() -> None:
    tracked = git(Path(__file__).parents[1], "ls-files").splitlines()
    assert tracked
    assert [
        name for name in tracked if name.endswith((".db", ".sqlite", ".db-wal"))
    ] == []


def test_what_a_developer_has_set_reaches_no_test() -> None:
    set_by_developer = {
        "ASSAY_HOME": "/",
        "MLFLOW_TRACKING_URI": "a",
        "PREFECT_API_URL": "b",
        "GIT_DIR": "c",
    }
    environment = {**set_by_developer, "OMP_NUM_THREADS": "64", "HOME": "/home/ann"}
    isolate(environment)
    assert not set_by_developer.keys() & environment.keys()
    assert (environment["OMP_NUM_THREADS"], environment["HOME"]) == ("1", "/home/ann")


def test_a_test_whose_event_loop_leaves_a_connection_open_fails_itself() -> None:
    async def leave_one(client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        client.connect(server.sockets[0].getsockname())
        # Accepted, and then begun.
        for _ in range(4):
            await asyncio.sleep(0)
        server.close()

    with (
        socket.socket() as client,
        pytest.raises(ResourceWarning, match=r"left .* open"),
    ):
        asyncio.run(leave_one(client))


def test_tests_and_the_processes_that_they_start_count_with_one_thread() -> None:
    import torch

    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_the_judged_run_is_made_once_for_all_who_ask(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(root: Path) -> Journey:
        made.append(root)
        result = CommandResult(0, "passed", "")
        return Journey(Checkout(root, {"A": "1"}), root / "rows", root / "base", result)

    def ask(_: int) -> str:
        return repr(journey_of_all(tmp_path, make))

    with ThreadPoolExecutor(3) as asking:
        journeys = set(asking.map(ask, range(3)))
    assert made == [tmp_path / "judged"]
    assert len(journeys) == 1
