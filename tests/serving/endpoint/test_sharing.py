"""Several models on one base in one engine process."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from core.files import digest_of_files, folder_digests
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter
from pipelines.values.verdict import Finalist, read_screen_verdict
from registry.release.known_answers import read_known_answers, write_known_answers
from serving.endpoint.engine_record import EngineRecord, read_records
from tests.support.endpoint_system import Home, Running, endpoint
from tests.support.processes import words_of
from tests.support.tiny import scored_answers
from tests.support.waiting import wait_until
from tests.support.watching_clients import WHOLE, WatchingClients

MODELS = {"letters-a": "1", "letters-b": "2", "letters-c": "3"}
"""Each model's version; their bytes differ."""
FIRST, SECOND, THIRD = MODELS
MAY_BE_TOLD = {WHOLE, "engine_lost", "not_ready", "overloaded"}


def model_of(home: Home, name: str) -> Home:
    return replace(home, model=name)


def switch(home: Home, *names: str) -> None:
    """Released and completed, before an endpoint looks."""
    for name in names or MODELS:
        of_model = model_of(home, name)
        of_model.switch(of_model.begin(MODELS[name]))


def records_of(home: Home, name: str) -> list[EngineRecord]:
    return [each for each in read_records(home.path) if each.loaded.model == name]


def shared_records(home: Home, name: str) -> list[EngineRecord]:
    return [each for each in records_of(home, name) if each.is_shared]


def shared_pids(home: Home) -> set[tuple[str, int]]:
    """Models and the shared processes in which they are."""
    records = [record for record in read_records(home.path) if record.is_shared]
    return {(record.loaded.model, record.pid) for record in records}


def all_in(process: psutil.Process) -> set[tuple[str, int]]:
    return {(name, process.pid) for name in MODELS}


def shared_process(running: Running) -> psutil.Process:
    [process] = [each for each in running.engines() if "--shared" in words_of(each)]
    return process


def ask(running: Running, name: str) -> httpx.Response:
    return running.ask(name, max_tokens=24, temperature=0)


def answers(running: Running, *names: str) -> dict[str, object]:
    return {name: ask(running, name).json()["choices"] for name in names or MODELS}


def ask_process(record: EngineRecord, path: str) -> int:
    """The status by which a shared process answers its endpoint."""
    address = record.address
    url = f"http://127.0.0.1:{address.port}{address.prefix}{path}"
    return httpx.get(
        url, headers={"authorization": f"Bearer {address.token}"}
    ).status_code


@contextmanager
def clients_of(running: Running, *names: str) -> Iterator[dict[str, WatchingClients]]:
    """Two clients of each model, which ask all the time."""
    fields = {"max_tokens": 8, "temperature": 0}
    watching = {
        name: WatchingClients(running.url, 2, {**fields, "model": name})
        for name in names
    }
    with ExitStack() as stack:
        for clients in watching.values():
            stack.enter_context(clients.running())
        yield watching


@pytest.mark.ci
def test_three_models_on_one_base_are_in_one_process_and_answer_as_alone(
    home: Home,
) -> None:
    alone: dict[str, object] = {}
    for name in MODELS:
        by_itself = home.copy(home.path.parent / name)
        switch(by_itself, name)
        with endpoint(by_itself) as running:
            [process] = running.engines()
            assert "--shared" not in words_of(process)
            alone |= answers(running, name)
    switch(home)
    with endpoint(home) as running:
        [process] = running.engines()
        assert shared_pids(home) == all_in(process)
        together = answers(running)
        metrics = httpx.get(f"{running.url}/metrics").text
    assert together == alone
    assert len({str(given) for given in together.values()}) == len(MODELS)
    # One process is counted once.
    shown = [line for line in metrics.splitlines() if "_resident_bytes{" in line]
    assert Counter('process="shared engine"' in line for line in shown)[True] == 1


@pytest.mark.ci
def test_a_release_begins_alone_and_moves_to_where_its_predecessor_is_not(
    home: Home,
) -> None:
    switch(home)
    of_first = model_of(home, FIRST)
    with endpoint(home) as running:
        process = shared_process(running)
        before = answers(running)
        [predecessor] = records_of(home, FIRST)
        with clients_of(running, FIRST, SECOND) as clients:
            of_first.release("2")
            wait_until(
                lambda: {each.is_shared for each in records_of(home, FIRST)} == {True},
                said=running.log.read_text,
            )
            pids = {record.pid for record in records_of(home, FIRST)}
            assert len(pids) == 2, "they never end together"
            assert ask(running, FIRST).headers["x-assay-release"] == "2"
            of_first.roll_back(of_first.ledger_state.models[FIRST].served[0].begun)
            of_first.client.ring()
            assert of_first.answers_with("1")(of_first.client.state())
            wait_until(lambda: len(running.engines()) == 1)
        assert answers(running) == before
        assert shared_pids(home) == all_in(process)
    assert predecessor.pid == process.pid
    for each in clients.values():
        assert set(each.ends()) == {WHOLE}
    log = running.log.read_text()
    assert f"version 2 of {FIRST} is ready: 4 of 4 known answers" in log
    assert f"version 2 of {FIRST} is taken over by a shared process" in log


@pytest.mark.ci
def test_openvino_takes_over_all_of_them_by_one_process(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As by itself; most tests have transformers alone.
    monkeypatch.delenv("ASSAY_ENGINE")
    switch(home)
    with endpoint(home) as running:
        before = answers(running)
        with clients_of(running, *MODELS) as clients:
            wait_until(
                lambda: {running.computed_by(name) for name in MODELS} == {"openvino"},
                said=running.log.read_text,
            )
            wait_until(lambda: len(running.engines()) == 1)
        assert shared_pids(home) == all_in(shared_process(running))
        assert answers(running) == before
    for each in clients.values():
        assert set(each.ends()) == {WHOLE}


@pytest.mark.ci
def test_a_shared_process_that_is_killed_is_back_for_all_and_the_second_time_for_each(
    home: Home,
) -> None:
    switch(home)
    with endpoint(home) as running:
        before = answers(running)
        with clients_of(running, *MODELS) as clients:
            killed = shared_process(running)
            kill_under_load(killed, clients)
            [process] = running.engines()
            assert process.pid != killed.pid
            assert shared_pids(home) == all_in(process)
            assert answers(running) == before
            kill_under_load(process, clients)
        wait_until(lambda: len(running.engines()) == len(MODELS))
        assert shared_pids(home) == set()
        assert answers(running) == before
        said = "does not share a process: a process that it shared ended 2 times soon"
        assert running.log.read_text().count(said) == len(MODELS)
    for each in clients.values():
        assert set(each.ends()) <= MAY_BE_TOLD


def kill_under_load(
    process: psutil.Process, clients: dict[str, WatchingClients]
) -> None:
    """Kill -9, and wait until every model answers again."""
    for each in clients.values():
        each.wait_for(4)
    process.kill()
    killed = time.monotonic()
    for name, each in clients.items():
        each.wait_for_whole(killed, MODELS[name])


@pytest.mark.ci
def test_the_next_endpoint_adopts_each_and_ends_what_nobody_wants(home: Home) -> None:
    switch(home)
    with endpoint(home) as running:
        process = shared_process(running)
        before = answers(running)
        running.kill()
    model_of(home, THIRD).revoke(MODELS[THIRD])
    [revoked] = records_of(home, THIRD)
    with endpoint(home) as again:
        assert answers(again, FIRST, SECOND) == {
            name: before[name] for name in (FIRST, SECOND)
        }
        wait_until(lambda: shared_records(home, THIRD) == [])
        assert shared_pids(home) == {(FIRST, process.pid), (SECOND, process.pid)}
        assert ask_process(revoked, "/readyz") == 404
        assert process.is_running()
        assert again.end() == 0
        wait_until(lambda: not process.is_running())


@pytest.mark.slow
def test_a_release_that_came_while_its_endpoint_was_killed_is_asked_everything_again(
    home: Home,
) -> None:
    home = home.with_changed("3", ask_long)
    switch(home, FIRST, SECOND)
    with endpoint(home) as running:
        process = shared_process(running)
        # Between its beginning and its completion it would be loaded by itself.
        with stopped(running):
            switch(home, THIRD)
        home.client.ring()
        wait_until(lambda: len(shared_records(home, THIRD)) == 1)
        running.kill()
    [record] = shared_records(home, THIRD)
    assert not record.is_probed
    with endpoint(home) as again:
        assert shared_pids(home) == all_in(process)
        assert "is ready: 400 of 400 known answers" in again.log.read_text()
        assert ask(again, THIRD).status_code == 200


@contextmanager
def stopped(running: Running) -> Iterator[None]:
    """The endpoint sees nothing of what happens meanwhile."""
    running.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        running.process.send_signal(signal.SIGCONT)


def ask_long(package: Path) -> None:
    """Known answers that take a while to ask for."""
    path = package / "known_answers.jsonl"
    write_known_answers(path, read_known_answers(path) * 100)


@pytest.mark.ci
def test_a_revoked_release_leaves_and_the_others_notice_nothing(home: Home) -> None:
    switch(home)
    with endpoint(home) as running:
        process = shared_process(running)
        [record] = records_of(home, FIRST)
        assert ask_process(record, "/readyz") == 200
        with clients_of(running, SECOND, THIRD) as clients:
            of_first = model_of(home, FIRST)
            of_first.revoke(MODELS[FIRST])
            of_first.serve_base()
            of_first.client.ring()
            wait_until(lambda: shared_records(home, FIRST) == [])
            assert ask_process(record, "/readyz") == 404
            for each in clients.values():
                each.wait_for(4)
        assert shared_process(running).pid == process.pid
    for each in clients.values():
        assert set(each.ends()) == {WHOLE}


@pytest.mark.ci
def test_one_release_sleeps_and_the_process_ends_once_all_of_them_do(
    home: Home,
) -> None:
    switch(home)
    with endpoint(home, "--seconds-until-unloaded", "3") as running:
        process = shared_process(running)
        before = answers(running)
        with clients_of(running, FIRST) as clients:
            wait_until(lambda: shared_pids(home) == {(FIRST, process.pid)})
            # It comes back into the process that runs.
            assert answers(running, SECOND) == {SECOND: before[SECOND]}
            assert [each.pid for each in running.engines()] == [process.pid]
        wait_until(lambda: not running.engines())
        assert answers(running) == before
        assert set(clients[FIRST].ends()) == {WHOLE}


@pytest.mark.ci
def test_what_does_not_answer_beside_others_as_it_was_scored_is_alone(
    home: Home,
) -> None:
    home = home.with_changed("1", forget)
    switch(home)
    with endpoint(home) as running:
        wait_until(lambda: len(shared_pids(home)) == 2)
        [record] = records_of(home, FIRST)
        assert not record.is_shared
        log = running.log.read_text()
        assert f"version 1 of {FIRST} is not served by a shared process" in log
        assert "3 of 4 known answers" in log
        assert {ask(running, name).status_code for name in MODELS} == {200}


def forget(package: Path) -> None:
    """Known answers of which no engine gives one in four."""
    path = package / "known_answers.jsonl"
    first, *others = read_known_answers(path)
    write_known_answers(path, [first.model_copy(update={"text": "never"}), *others])


@pytest.mark.ci
def test_a_release_that_the_process_refuses_is_alone_and_the_log_says_why(
    home: Home,
) -> None:
    home = narrowed(home, "1")
    switch(home, FIRST)
    with endpoint(home) as running:
        # It is what a process is started for, with places for nothing else than it changes.
        of_second = model_of(home, SECOND)
        of_second.release(MODELS[SECOND])
        wait_until(
            lambda: (
                f"version 2 of {SECOND} does not share a process: The adapter changes"
                in running.log.read_text()
            ),
            said=running.log.read_text,
        )
        # The process that the first one left completes what it has begun.
        wait_until(lambda: len(running.engines()) == 2)
        assert {name for name, _ in shared_pids(home)} == {FIRST}
        assert {ask(running, name).status_code for name in (FIRST, SECOND)} == {200}


def narrowed(home: Home, version: str) -> Home:
    """A version whose adapter changes one kind of layer alone."""
    base = BaseModelManifest.read(home.package(version) / "base_model.json")
    base_folder = home.path / "base-models" / base.digest

    def keep_queries(package: Path) -> None:
        files = narrow_adapter(package / "adapter")
        record = Adapter.read(package / "adapter.json")
        assert record.lora is not None
        lora = record.lora.model_copy(update={"target_modules": ("q_proj",)})
        sha256 = digest_of_files(files)
        fields = {"files": files, "sha256": sha256, "lora": lora}
        adapter = record.model_copy(update=fields)
        adapter.write(package / "adapter.json")
        verdict = finalist_of(package)
        spec = verdict.spec.with_adapter(sha256)
        narrowed = verdict.model_copy(update={"adapter": adapter, "spec": spec})
        narrowed.write(package / "verdict.json")
        known = scored_answers(base_folder, base, package / "adapter")
        write_known_answers(package / "known_answers.jsonl", known)

    changed = home.with_changed(version, keep_queries)
    spec = finalist_of(changed.package(version)).spec
    return replace(changed, specs={**home.specs, version: spec})


def finalist_of(package: Path) -> Finalist:
    verdict = read_screen_verdict(package / "verdict.json")
    assert isinstance(verdict, Finalist)
    return verdict


def narrow_adapter(folder: Path) -> dict[str, str]:
    """Take all layers but the queries out of it; gives the digests of its files."""
    from safetensors.torch import load_file, save_file

    weights = folder / "adapter_model.safetensors"
    loaded = load_file(weights)
    save_file({name: loaded[name] for name in loaded if "q_proj" in name}, weights)
    config_file = folder / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config_file.write_text(json.dumps({**config, "target_modules": ["q_proj"]}))
    return folder_digests(folder)
