"""A release takes the spare engine process, and one that is of no use fails no release."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from core.children import OWN_MODULE
from core.errors import ServingError
from core.settings import Settings
from registry.release.known_answers import read_known_answers, write_known_answers
from serving.endpoint.engine_process import EngineOrder
from serving.endpoint.spare_engines import SpareEngines, count_wanted
from serving.spare import BEGINS, WARM
from tests.support.endpoint_system import (
    Home,
    Running,
    endpoint,
    record_of,
)
from tests.support.processes import children_of, words_of
from tests.support.waiting import SECONDS_AT_MOST, wait_until

ORDER = EngineOrder(["--base-folder", "none", "--base-manifest", "none"], "none", 1.0)


@pytest.fixture(autouse=True)
def one_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", "1")


def spares(running: Running) -> list[psutil.Process]:
    """Processes of that endpoint that wait to be told what to load."""
    children = children_of(running.process.pid)
    engines = {path.stem for path in (running.home / "endpoint/engines").glob("*")}
    return [
        child
        for child in children
        if "--spare" in words_of(child) and str(child.pid) not in engines
    ]


def warm_spare(running: Running) -> psutil.Process:
    """The spare process, once it has imported everything."""
    wait_until(lambda: f"{_pids(running)} is ready" in running.log.read_text())
    [spare] = spares(running)
    return spare


def _pids(running: Running) -> str:
    return " ".join(str(spare.pid) for spare in spares(running)) or "none"


def test_a_release_takes_the_spare_process_and_the_next_one_is_started(
    home: Home,
) -> None:
    with endpoint(home) as running:
        spare = warm_spare(running)
        home.release("1")
        assert record_of(home, "1").pid == spare.pid
        assert (
            running.ask().headers["x-assay-fingerprint"] == home.specs["1"].fingerprint
        )
        wait_until(lambda: len(spares(running)) == 1)
        [following] = spares(running)
        assert running.end() == 0
    assert spare.pid != following.pid
    assert "is ready: 4 of 4 known answers" in running.log.read_text()
    assert not following.is_running()


@pytest.mark.ci
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_spare_process_that_died_or_hangs_fails_no_release(
    home: Home, number: signal.Signals
) -> None:
    with endpoint(home) as running:
        spare = warm_spare(running)
        begun = home.begin("1")
        spare.send_signal(number)
        home.wait(lambda state: getattr(state.engine(begun), "state", "") == "ready")
        assert record_of(home, "1").pid != spare.pid
        assert not spare.is_running()
    # Whichever is seen first: that it is gone, or that it does not answer the release.
    log = running.log.read_text()
    is_missed = f"Spare engine process {spare.pid} ended by itself" in log
    assert is_missed or "does not load in a spare engine process" in log


@pytest.mark.ci
def test_a_spare_process_is_probed_like_any_other(home: Home) -> None:
    home = home.with_changed("1", _with_another_answer)
    with endpoint(home) as running:
        warm_spare(running)
        begun = home.begin("1")
        state = home.wait(
            lambda state: getattr(state.engine(begun), "state", "") == "failed"
        )
    assert "known answers" in state.engine(begun).detail  # type: ignore[union-attr]


def _with_another_answer(package: Path) -> None:
    path = package / "known_answers.jsonl"
    answers = read_known_answers(path)
    changed = [answer.model_copy(update={"text": "no"}) for answer in answers]
    write_known_answers(path, changed)


@pytest.mark.parametrize(
    "is_stopped", [False, pytest.param(True, marks=pytest.mark.ci)]
)
def test_a_spare_process_ends_at_once_with_a_killed_endpoint(
    home: Home, *, is_stopped: bool
) -> None:
    with endpoint(home) as running:
        wait_until(lambda: len(spares(running)) == 1)
        [spare] = spares(running)
        if is_stopped:
            warm_spare(running)
            spare.suspend()
        running.kill()
        spare.wait(SECONDS_AT_MOST)
    assert not spare.is_running()


def test_none_is_kept_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", "0")
    engines = SpareEngines(count_wanted(Settings()))
    asyncio.run(asyncio.wait_for(engines.keep(lambda: True), SECONDS_AT_MOST))
    assert engines.pids == ()


@pytest.mark.parametrize("text", ["9", "-1", "1.5", "many", "²", "٣"])
def test_another_number_than_0_to_8_is_an_error(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", text)
    with pytest.raises(ServingError, match=r"ASSAY_SPARE_ENGINES is .* 0 to 8"):
        count_wanted(Settings())


def test_none_is_started_while_an_engine_loads() -> None:
    assert asyncio.run(_pids_after_looks(is_quiet=False)) == ()


async def _pids_after_looks(*, is_quiet: bool) -> tuple[int, ...]:
    engines = SpareEngines(1)
    has_looked = asyncio.Event()
    looks: list[None] = []

    def look() -> bool:
        looks.append(None)
        # Enough for a quiet endpoint to have started one.
        if len(looks) == 8:
            has_looked.set()
        return is_quiet

    keeping = asyncio.create_task(engines.keep(look))
    await has_looked.wait()
    keeping.cancel()
    pids = engines.pids
    await engines.close()
    return pids


def test_one_is_started_once_no_engine_has_loaded_for_a_while() -> None:
    assert len(asyncio.run(_pids_after_looks(is_quiet=True))) == 1


@contextmanager
def spare_process(**environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A spare process whose endpoint is the test; it says that it is warm."""
    process = subprocess.Popen(
        [*OWN_MODULE, "serving", "--spare", "--owned"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{WARM}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def instructions() -> str:
    ownership = {"token": "secret", "owner": os.getpid(), "seconds_without_owner": 1}
    return f"{json.dumps({'arguments': ORDER.words, 'ownership': ownership})}\n"


def test_a_spare_process_whose_code_changed_loads_nothing(tmp_path: Path) -> None:
    # Python imports a module of that name by itself.
    module = tmp_path / "sitecustomize.py"
    module.write_text("")
    with spare_process(PYTHONPATH=str(tmp_path)) as process:
        module.write_text("changed = True")
        out, errors = process.communicate(instructions(), SECONDS_AT_MOST)
    assert process.returncode == 1
    assert out == ""
    assert f"{module} changed since this process imported it" in errors


@pytest.mark.ci
def test_code_that_only_another_environment_linked_is_the_same_code(
    tmp_path: Path,
) -> None:
    module = tmp_path / "sitecustomize.py"
    module.write_text("")
    with spare_process(PYTHONPATH=str(tmp_path)) as process:
        # As uv does for each environment that it makes.
        (tmp_path / "linked.py").hardlink_to(module)
        process.stdin.write(instructions())  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert process.stdout is not None
        assert process.stdout.readline() == f"{BEGINS}\n"


@pytest.mark.ci
def test_a_spare_process_that_is_told_nonsense_ends_and_repeats_nothing_of_it() -> None:
    line = instructions().replace("arguments", "argument")
    with spare_process() as process:
        out, errors = process.communicate(line, SECONDS_AT_MOST)
    assert process.returncode == 1
    assert out == ""
    assert "needs an endpoint" in errors
    assert "secret" not in errors


@pytest.mark.ci
def test_a_spare_process_knows_no_package_and_holds_no_token_until_it_is_told(
    home: Home,
) -> None:
    with endpoint(home) as running:
        home.switch(home.begin("1"))
        home.wait(home.answers_with("1"))
        spare = warm_spare(running)
        token = record_of(home, "1").token
        files = [file.path for file in spare.open_files()]
        assert token not in f"{words_of(spare)} {spare.environ()}"
        assert not [file for file in files if str(home.path) in file]
        assert spare.net_connections() == []


def test_without_a_spare_process_a_fresh_one_says_why_it_ended() -> None:
    with pytest.raises(ServingError, match="ended with code 1"):
        asyncio.run(SpareEngines(0).start_engine(ORDER))
