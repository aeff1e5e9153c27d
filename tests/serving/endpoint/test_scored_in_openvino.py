"""A release that OpenVINO scored is served by OpenVINO, and by another engine as that may be."""

from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
import pytest

from pipelines.engines import OPENVINO, TRANSFORMERS
from pipelines.values.canary import CanaryPlan
from registry.release.known_answers import read_known_answers, write_known_answers
from serving.endpoint.engine_record import read_records
from tests.support.endpoint_system import Home, Running, endpoint, record_of
from tests.support.in_engine import in_openvino, say_engine
from tests.support.processes import words_of
from tests.support.waiting import wait_until

SECONDS = 60.0
BY_STAND_IN = (
    f"4 of 4 known answers by transformers {version(TRANSFORMERS)}, "
    f"scored by openvino {version(OPENVINO)}"
)


@pytest.fixture(scope="session")
def scored(packed: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Versions 1 and 2 were scored by OpenVINO, and version 3 by transformers."""
    copy = packed.copy(tmp_path_factory.mktemp("scored") / "home")
    return in_openvino(copy, "1", "2")


@pytest.fixture
def home(scored: Home, tmp_path: Path) -> Home:
    return scored.copy(tmp_path / "home")


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by itself: no engine is asked for."""
    monkeypatch.delenv("ASSAY_ENGINE")


def wait_for(running: Running, engine: str, model: str = "letters-tiny") -> None:
    wait_until(
        lambda: running.computed_by(model) == engine, SECONDS, running.log.read_text
    )


def said_in(running: Running, *words: str) -> None:
    """Wait until the log has a line with all of them."""
    wait_until(
        lambda: any(
            all(word in line for word in words)
            for line in running.log.read_text().splitlines()
        ),
        SECONDS,
        running.log.read_text,
    )


@pytest.mark.ci
def test_it_begins_in_openvino_and_needs_no_report(home: Home) -> None:
    with endpoint(home) as running:
        home.release("1")
        assert running.computed_by() == OPENVINO
        answer = running.ask()
        metrics = httpx.get(f"{running.url}/metrics").text.splitlines()
        [engine] = running.engines()
        assert OPENVINO in words_of(engine)
        log = running.log.read_text()
    own = home.specs["1"].fingerprint
    assert answer.json()["system_fingerprint"] == own
    assert answer.headers["x-assay-fingerprint"] == own
    [computes] = [line for line in metrics if line.startswith("assay_engine_computes{")]
    assert 'engine="openvino"' in computes
    assert "version 1 of letters-tiny is ready: 4 of 4 known answers\n" in log
    assert "scored by" not in log


@pytest.mark.ci
def test_it_is_back_after_a_kill_and_after_two_transformers_answers_as_scored(
    home: Home,
) -> None:
    with endpoint(home) as running:
        home.release("1")
        before = running.ask(temperature=0).json()["choices"]
        for _ in range(2):
            wait_for(running, OPENVINO)
            psutil.Process(record_of(home, "1").pid).kill()
            wait_until(lambda: running.computed_by() == "", SECONDS)
        wait_for(running, TRANSFORMERS)
        said_in(running, "is left to transformers", "ended 2 times soon")
        said_in(running, f"is ready: {BY_STAND_IN}")
        answer = running.ask(temperature=0)
        assert answer.json()["choices"] == before
        assert answer.headers["x-assay-fingerprint"] == home.specs["1"].fingerprint
        assert answer.json()["system_fingerprint"] != home.specs["1"].fingerprint
        left = record_of(home, "1")
        running.kill()
    with endpoint(home) as again:
        # It answers on, and what scored takes over.
        said_in(again, f"is taken over from engine process {left.pid}")
        wait_for(again, OPENVINO)
        said_in(again, "is taken over by openvino: 4 of 4 known answers")


@pytest.mark.ci
def test_where_openvino_does_not_take_the_base_transformers_stands_in_as_scored(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # It imports, and can do nothing.
    (tmp_path / "openvino.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with endpoint(home) as running:
        home.release("1")
        assert running.computed_by() == TRANSFORMERS
        said_in(
            running, "is served by transformers, not by openvino", "does not take tiny"
        )
        said_in(running, f"is ready: {BY_STAND_IN}")
        answer = running.ask()
        assert answer.headers["x-assay-fingerprint"] == home.specs["1"].fingerprint
        [alarm] = home.client.state().alarms
        assert alarm.startswith("Version 1 of letters-tiny is answered by transformers")
        assert alarm.endswith("set ASSAY_ENGINE=transformers if it is to stay so.")


KILLED_ONCE = """
import os
from pathlib import Path
words = Path("/proc/self/cmdline").read_bytes().split(b"\\0")
marker = Path(__file__).with_name("marker")
if b"--no-stand-in" in words and b"transformers" in words and marker.exists():
    marker.unlink()
    os.kill(os.getpid(), 9)
"""


@pytest.mark.ci
def test_what_stands_in_is_started_again_where_it_was_killed_and_what_scored_is_asked_later(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "openvino.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(KILLED_ONCE)
    (tmp_path / "marker").write_text("")
    home.switch(home.begin("1"))
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        with endpoint(home) as running:
            wait_for(running, TRANSFORMERS)
            said_in(running, f"is ready: {BY_STAND_IN}")
            assert "ended with code -9" in running.log.read_text()
            assert not (tmp_path / "marker").exists()
    # Nobody has asked it on this machine yet.
    with endpoint(home) as again:
        assert again.computed_by() == OPENVINO
        said_in(again, "version 1 of letters-tiny is ready: 4 of 4 known answers")


@pytest.mark.slow
def test_another_version_of_openvino_than_the_one_that_scored_does_not_answer(
    home: Home,
) -> None:
    older = partial(say_engine, engine=OPENVINO, engine_version="2025.0.0")
    home = home.with_changed("1", older)
    spec = home.specs["1"].in_engine(OPENVINO, "2025.0.0")
    home = replace(home, specs={**home.specs, "1": spec})
    with endpoint(home) as running:
        home.release("1")
        assert running.computed_by() == TRANSFORMERS
        said_in(running, "is served by transformers, not by openvino", "not 2025.0.0")


def forget(package: Path) -> None:
    """Known answers of which no engine gives one in four."""
    path = package / "known_answers.jsonl"
    first, *others = read_known_answers(path)
    write_known_answers(path, [first.model_copy(update={"text": "never"}), *others])


@pytest.mark.ci
def test_what_openvino_answers_otherwise_than_it_was_scored_nothing_else_answers(
    home: Home,
) -> None:
    home = home.with_changed("1", forget)
    with endpoint(home) as running:
        begun = home.begin("1")
        state = home.wait(
            lambda state: (
                state.engine(begun) is not None
                and state.engine(begun).state == "failed"  # type: ignore[union-attr]
            )
        )
        assert running.ask().status_code == 404
        assert "served by transformers" not in running.log.read_text()
    engine = state.engine(begun)
    assert engine is not None
    assert "gave 3 of 4 known answers" in engine.detail


@pytest.mark.ci
def test_transformers_answers_where_it_is_asked_for_and_scored_answers_come_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_ENGINE", TRANSFORMERS)
    with endpoint(home) as running:
        home.release("1")
        assert running.computed_by() == TRANSFORMERS
        said_in(running, f"is ready: {BY_STAND_IN}")
        assert home.client.state().alarms == ()
        running.kill()
    monkeypatch.setenv("ASSAY_ENGINE", OPENVINO)
    with endpoint(home) as again:
        wait_for(again, OPENVINO)
        assert again.ask().json()["system_fingerprint"] == home.specs["1"].fingerprint


@pytest.mark.ci
def test_models_that_either_engine_scored_share_a_process_of_openvino(
    home: Home,
) -> None:
    versions = {"letters-a": "1", "letters-b": "2", "letters-c": "3"}
    for name, number in versions.items():
        of_model = replace(home, model=name)
        of_model.switch(of_model.begin(number))
    with endpoint(home) as running:
        for name in versions:
            wait_for(running, OPENVINO, name)
        wait_until(lambda: len(running.engines()) == 1, SECONDS, running.log.read_text)
        [process] = running.engines()
        assert {each.pid for each in read_records(home.path)} == {process.pid}
        fingerprints = {
            name: running.ask(name).json()["system_fingerprint"] for name in versions
        }
        running.kill()
    computed = home.specs["3"].in_engine(OPENVINO, version(OPENVINO))
    specs = {**home.specs, "3": computed}
    assert fingerprints == {
        name: specs[number].fingerprint for name, number in versions.items()
    }
    # What another engine scored is there for the answers that it gave, known and drawn.
    said_in(running, "version 3 of letters-c", "scored by transformers")
    with endpoint(home) as again:
        assert {again.computed_by(name) for name in versions} == {OPENVINO}
        assert {each.pid for each in read_records(home.path)} == {process.pid}


@pytest.mark.ci
def test_going_back_to_what_another_engine_scored_has_that_engine_answer(
    home: Home,
) -> None:
    with endpoint(home) as running:
        first = home.release("1")
        home.release("3")
        assert running.ask().headers["x-assay-release"] == "3"
        home.roll_back(first)
        home.client.ring()
        answer = running.ask()
        assert answer.headers["x-assay-release"] == "1"
        assert answer.json()["system_fingerprint"] == home.specs["1"].fingerprint


@pytest.mark.ci
def test_it_sleeps_and_wakes_in_openvino(home: Home) -> None:
    with endpoint(home, "--seconds-until-unloaded", "1") as running:
        home.release("1")
        wait_until(lambda: not running.engines(), SECONDS, running.log.read_text)
        answer = running.ask().json()
        assert answer["system_fingerprint"] == home.specs["1"].fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("has_baseline", [True, False])
def test_a_canary_after_what_another_engine_scored_compares_one_kind_of_process(
    home: Home, *, has_baseline: bool
) -> None:
    home.switch(home.begin("3"))
    with endpoint(home) as running:
        wait_for(running, OPENVINO)
        wait_until(lambda: len(running.engines()) == 1, SECONDS)
        home.begin("1", canary=CanaryPlan(weights=(50,), baseline=has_baseline))
        count = 3 if has_baseline else 2
        home.wait(lambda _: len(read_records(home.path)) == count, SECONDS)
        engines = [each.engine for each in read_records(home.path)]
    assert engines == [OPENVINO] * count


@pytest.mark.slow
def test_a_canary_of_what_transformers_scored_has_its_baseline_in_transformers(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        assert running.computed_by() == OPENVINO
        home.begin("3", canary=CanaryPlan(weights=(50,)))
        home.wait(lambda _: len(read_records(home.path)) == 3, SECONDS)
        engines = sorted(each.engine for each in read_records(home.path))
        said_in(
            running, f"the baseline, version 1 of letters-tiny is ready: {BY_STAND_IN}"
        )
    assert engines == [OPENVINO, TRANSFORMERS, TRANSFORMERS]


@pytest.mark.slow
def test_a_spare_process_loads_it_in_openvino(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", "1")
    with endpoint(home) as running:
        said_in(running, "Spare engine process", "is ready")
        [spare] = running.engines()
        home.release("1")
        assert record_of(home, "1").pid == spare.pid
        assert running.computed_by() == OPENVINO


@pytest.mark.slow
def test_its_base_is_answered_by_openvino_where_its_versions_are_revoked(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    home.revoke("1")
    home.serve_base()
    with endpoint(home) as running:
        wait_for(running, OPENVINO)
        answer = running.ask()
        assert answer.headers["x-assay-release"] == "base"
    own = home.specs["1"].with_adapter(None)
    assert answer.json()["system_fingerprint"] == own.fingerprint


@pytest.mark.ci
def test_what_vllm_scored_is_answered_by_transformers_where_there_is_no_vllm(
    home: Home,
) -> None:
    home = home.with_changed(
        "3", partial(say_engine, engine="vllm", engine_version="1")
    )
    spec = home.specs["3"].in_engine("vllm", "1")
    home = replace(home, specs={**home.specs, "3": spec})
    with endpoint(home) as running:
        home.release("3")
        assert running.computed_by() == TRANSFORMERS
        said_in(running, "by transformers, not by vllm", "does not name a Python")
        said_in(running, "is ready: 4 of 4 known answers", "scored by vllm 1")
        assert running.ask().headers["x-assay-fingerprint"] == spec.fingerprint
        assert "is started beside" not in running.log.read_text()
