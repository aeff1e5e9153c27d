"""OpenVINO takes over what transformers serves: later, unnoticed, and only where it may."""

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.errors import ServingError
from core.settings import Settings
from pipelines.values.canary import CanaryPlan
from registry.ledger.entries import Frozen
from registry.ledger.state import RecordedRelease
from registry.release.known_answers import read_known_answers, write_known_answers
from serving.endpoint.engine_choice import EngineChoice, EngineWish, read_wish
from serving.endpoint.engine_record import (
    EngineContents,
    EngineRecord,
    read_records,
    write_record,
)
from serving.endpoint.limits import Limits
from serving.endpoint.loading import EngineContext
from serving.endpoint.need import Need
from serving.endpoint.release_engine import EngineStart, ReleaseEngine
from serving.endpoint.take_over import describe_lack
from tests.support.endpoint_system import (
    AllowedFingerprints,
    Home,
    Load,
    Running,
    endpoint,
    record_of,
)
from tests.support.fake_endpoint import release_of
from tests.support.in_int8 import score_in_int8
from tests.support.processes import words_of
from tests.support.waiting import wait_until

FAST, SCORING = "openvino", "transformers"


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by itself; most tests of the endpoint have transformers alone."""
    monkeypatch.delenv("ASSAY_ENGINE")


def wait_for(running: Running, engine: str) -> None:
    wait_until(lambda: running.computed_by() == engine, said=running.log.read_text)


def compiling(running: Running) -> list[psutil.Process]:
    """Processes that were started to take over, whatever they do by now."""
    return [each for each in running.engines() if "--no-stand-in" in words_of(each)]


def wait_for_compiling(running: Running) -> psutil.Process:
    wait_until(lambda: bool(compiling(running)), said=running.log.read_text)
    [process] = compiling(running)
    return process


def said_in(running: Running, *words: str) -> None:
    """Wait until the log has a line with all of them."""
    wait_until(
        lambda: any(
            all(word in line for word in words)
            for line in running.log.read_text().splitlines()
        ),
        said=running.log.read_text,
    )


@pytest.mark.ci
@pytest.mark.usefixtures("wanted")
def test_a_release_under_load_is_taken_over_and_no_client_notices(home: Home) -> None:
    own = home.specs["1"].in_engine(FAST, version(FAST))
    allowed = AllowedFingerprints()
    with endpoint(home) as running:
        with allowed.changing_to(home.specs["1"].fingerprint):
            home.release("1")
        assert running.computed_by() == SCORING
        before = running.ask().json()
        with (
            running.stream(max_tokens=200) as stream,
            Load(running.url).running() as load,
        ):
            load.wait_for_answer_of(home.specs["1"].fingerprint)
            wait_for(running, FAST)
            load.wait_for_answer_of(home.specs["1"].fingerprint)
            ends = [event.choices[0].finish_reason for event in stream if event.choices]
        after = running.ask().json()
        wait_until(lambda: len(running.engines()) == 1)
        metrics = httpx.get(f"{running.url}/metrics").text
        assert _computes(metrics) == {FAST: 1.0}
    assert load.failures == []
    assert all(allowed.holds(answer) for answer in load.answers)
    assert ends[-1] in ("stop", "length"), "it ends where it began"
    assert before["choices"] == after["choices"]
    assert before["system_fingerprint"] == home.specs["1"].fingerprint
    assert after["system_fingerprint"] == own.fingerprint
    said_in(running, "is taken over by openvino: 4 of 4 known answers by openvino")


@pytest.mark.ci
@pytest.mark.usefixtures("wanted")
def test_a_release_in_int8_is_taken_over_by_what_computes_the_same_numbers(
    home: Home,
) -> None:
    base_folder = home.path / "base-models" / home.specs["2"].base_digest
    spec = home.specs["2"].model_copy(update={"precision": "int8"})
    home = home.with_changed("2", lambda package: score_in_int8(package, base_folder))
    home = replace(home, specs={**home.specs, "2": spec})
    home.switch(home.begin("2"))
    with endpoint(home) as running:
        wait_for(running, FAST)
        answer = running.ask().json()
    own = spec.in_engine(FAST, version(FAST))
    assert answer["system_fingerprint"] == own.fingerprint
    said_in(running, "is taken over by openvino: 4 of 4 known answers by openvino")


def _computes(metrics: str) -> dict[str, float]:
    """How many engines answer, by what computes their answers."""
    counts = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "assay_engine_computes":
                counts[sample.labels["engine"]] = sample.value
    return counts


def forget(package: Path) -> None:
    """Known answers of which no engine gives one in four."""
    path = package / "known_answers.jsonl"
    first, *others = read_known_answers(path)
    write_known_answers(path, [first.model_copy(update={"text": "never"}), *others])


@pytest.mark.ci
@pytest.mark.usefixtures("wanted")
def test_where_scored_answers_do_not_come_back_what_answers_stays(home: Home) -> None:
    # Completed before this endpoint starts: transformers is not asked again.
    home = home.with_changed("2", forget)
    home.switch(home.begin("2"))
    with endpoint(home) as running:
        said_in(running, "is not taken over by openvino", "3 of 4 known answers")
        wait_until(lambda: compiling(running) == [])
        assert running.computed_by() == SCORING
        assert running.ask().status_code == 200
        home.client.ring()
        assert running.log.read_text().count("is started beside") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("wanted")
def test_a_library_that_ends_its_process_leaves_the_release_to_what_answers(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As where it meets a processor that it does not know.
    library = tmp_path / "library"
    library.mkdir()
    (library / "openvino.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(library))
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        said_in(running, "is not taken over by openvino", "ended with code -6")
        assert running.computed_by() == SCORING


@pytest.mark.slow
@pytest.mark.usefixtures("wanted")
def test_a_base_that_openvino_does_not_take_stays_and_the_log_says_why(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # It imports, and can do nothing.
    (tmp_path / "openvino.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        said_in(running, "is not taken over by openvino", "OpenVINO does not take")
        assert running.computed_by() == SCORING


@pytest.mark.ci
@pytest.mark.usefixtures("wanted")
def test_where_its_process_is_killed_transformers_is_back_and_at_last_for_good(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        for _ in range(2):
            wait_for(running, FAST)
            wait_until(lambda: len(running.engines()) == 1)
            record_of_process(home).kill()
            wait_for(running, SCORING)
            assert running.ask().status_code == 200
        said_in(running, "is not taken over by openvino", "ended 2 times soon")
        home.client.ring()
        assert running.log.read_text().count("is started beside") == 2


def record_of_process(home: Home) -> psutil.Process:
    return psutil.Process(record_of(home, "1").pid)


@pytest.mark.ci
@pytest.mark.usefixtures("wanted")
def test_a_release_on_its_way_ends_the_process_that_was_to_take_over(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        first = wait_for_compiling(running)
        home.release("2")
        wait_until(lambda: not first.is_running())
        assert running.ask().headers["x-assay-release"] == "2"
        # What has the traffic now is taken over in its turn.
        wait_for(running, FAST)
        assert running.ask().headers["x-assay-release"] == "2"
        end = compiling(running)
        assert str(home.package("2")) in words_of(end[0])


@pytest.mark.slow
@pytest.mark.usefixtures("wanted")
def test_during_a_freeze_nothing_is_taken_over(home: Home) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        process = wait_for_compiling(running)
        home.write(Frozen(by="ann", reason_sha256="0" * 64))
        home.client.ring()
        wait_until(lambda: not process.is_running())
        assert running.computed_by() == SCORING
        assert running.end() == 0
    assert "its process of openvino was ended again" in running.log.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("wanted")
@pytest.mark.parametrize("has_baseline", [True, False])
def test_a_canary_compares_processes_of_one_engine(
    home: Home, *, has_baseline: bool
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        wait_for(running, FAST)
        # The process that it took the place of has ended.
        wait_until(lambda: len(running.engines()) == 1)
        plan = CanaryPlan(weights=(50,), baseline=has_baseline)
        home.begin("2", canary=plan)
        # What serves, the candidate, and perhaps a baseline.
        count = 3 if has_baseline else 2
        home.wait(lambda _: len(read_records(home.path)) == count)
        records = read_records(home.path)
        of_candidate = record_of(home, "2").engine
        engines = sorted(record.engine for record in records)
    if has_baseline:
        assert (of_candidate, engines) == (SCORING, [FAST, SCORING, SCORING])
    else:
        assert (of_candidate, engines) == (FAST, [FAST, FAST])


@pytest.mark.slow
@pytest.mark.usefixtures("wanted")
def test_a_canary_that_wakes_what_serves_compares_it_as_it_wakes(home: Home) -> None:
    home.switch(home.begin("1"))
    with endpoint(home, "--seconds-until-unloaded", "5") as running:

        def is_taken_over() -> bool:
            # Whoever asks keeps it awake.
            return running.ask().is_success and running.computed_by() == FAST

        wait_until(is_taken_over, said=running.log.read_text)
        wait_until(lambda: not running.engines(), said=running.log.read_text)
        home.begin("2", canary=CanaryPlan(weights=(50,), baseline=False))
        home.wait(lambda _: len(read_records(home.path)) == 2)
        engines = {record.engine for record in read_records(home.path)}
    assert engines == {SCORING}


def test_what_will_compute_is_known_of_an_engine_that_sleeps_or_is_adopted() -> None:
    wish = EngineWish("vllm")
    context = EngineContext(Path("nowhere"), Limits(), lambda: None, engines=wish)
    recorded = RecordedRelease(
        begun=2,
        release=release_of("1"),
        judged=1,
        by="ann",
        reason_sha256="0" * 64,
        at=datetime.now(UTC),
    )
    contents = EngineContents.of(recorded.release, with_adapter=True)
    record = EngineRecord(
        pid=0, started="", port=1, token="token", loaded=contents, engine=FAST
    )
    left = EngineStart(leftover=record)

    async def look() -> list[str]:
        made = ReleaseEngine(Need(recorded), context)
        adopting = ReleaseEngine(Need(recorded), context, left)
        seen = [made.compute_engine, adopting.compute_engine]
        made.loaded_spec = recorded.release.spec.in_engine("vllm", "1")
        made.state, made.port = "ready", 1
        made.update(made.need)
        seen.append(made.compute_engine)
        made.state, made.port = "asleep", 0
        seen.append(made.compute_engine)
        for each in (made, adopting):
            each._keeping.cancel()
        return seen

    assert asyncio.run(look()) == ["vllm", FAST, "vllm", SCORING]


@pytest.mark.ci
@pytest.mark.usefixtures("wanted")
def test_the_next_endpoint_takes_over_what_had_taken_over(home: Home) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        wait_for(running, FAST)
        wait_until(lambda: len(running.engines()) == 1)
        record = record_of(home, "1")
        running.kill()
    assert record.engine == FAST
    with endpoint(home) as again:
        assert again.computed_by() == FAST
        assert [each.pid for each in read_records(home.path)] == [record.pid]
        assert again.ask().status_code == 200


def ask_long(package: Path) -> None:
    """Known answers that take a while to ask for."""
    path = package / "known_answers.jsonl"
    write_known_answers(path, read_known_answers(path) * 200)


@pytest.mark.ci
@pytest.mark.usefixtures("wanted")
def test_what_was_still_being_probed_is_not_adopted_in_the_place_of_what_answers(
    home: Home,
) -> None:
    home = home.with_changed("1", ask_long)
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        serving = record_of(home, "1")
        wait_until(lambda: len(read_records(home.path)) == 2)
        running.kill()
    with endpoint(home) as again:
        assert "is not needed any more" in again.log.read_text()
        # It is ended beside the start, which does not wait for that.
        wait_until(
            lambda: [each.pid for each in read_records(home.path)] == [serving.pid]
        )
        assert again.computed_by() == SCORING


@pytest.mark.slow
@pytest.mark.usefixtures("wanted")
@pytest.mark.parametrize("is_probed", [True, False])
def test_what_is_adopted_was_asked_drawn_answers_at_some_time(
    home: Home, *, is_probed: bool
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        wait_for(running, FAST)
        wait_until(lambda: len(running.engines()) == 1)
        record = record_of(home, "1")
        running.kill()
    assert record.is_probed
    # As where its endpoint was killed in the middle of the known answers.
    write_record(home.path, record.model_copy(update={"is_probed": is_probed}))
    # There are none to draw from: who has to be asked for some does not pass.
    home.switch(home.begin("1", drawn_answers=2))
    with endpoint(home) as again:
        wait_for(again, FAST if is_probed else SCORING)
        assert record.is_running() is is_probed


@pytest.mark.slow
@pytest.mark.usefixtures("wanted")
def test_an_endpoint_that_ends_leaves_no_process_that_was_to_take_over(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        process = wait_for_compiling(running)
        assert running.end() == 0
        assert not process.is_running()


def test_what_is_installed_takes_over_unless_another_engine_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def chosen(engine: str) -> EngineChoice:
        return read_wish(Settings(engine=engine)).choose(SCORING)

    assert chosen("") == EngineChoice(SCORING, FAST)
    assert chosen(FAST) == EngineChoice(SCORING, FAST)
    assert chosen(SCORING) == EngineChoice(SCORING)
    by_vllm = chosen("vllm")
    assert by_vllm == EngineChoice("vllm", "vllm")
    # It takes a minute to start: nobody waits for it twice.
    assert by_vllm.quickest == SCORING
    with pytest.raises(ServingError, match="ASSAY_ENGINE is 'onnx'"):
        chosen("onnx")
    # As where the import fails.
    monkeypatch.setitem(sys.modules, FAST, None)
    assert chosen("") == EngineChoice(SCORING)
    assert capsys.readouterr().err == ""
    assert chosen(FAST) == EngineChoice(SCORING)
    assert "openvino is not installed here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "scored", "first", "later"),
    [
        ("", FAST, FAST, ""),
        (FAST, FAST, FAST, ""),
        (SCORING, FAST, SCORING, ""),
        ("vllm", FAST, "vllm", "vllm"),
        ("", "vllm", "vllm", "vllm"),
        ("vllm", "vllm", "vllm", "vllm"),
        (FAST, "vllm", FAST, ""),
        (SCORING, "vllm", SCORING, ""),
    ],
)
def test_a_release_begins_in_the_engine_that_scored_it_unless_another_is_named(
    wanted: str, scored: str, first: str, later: str
) -> None:
    choice = EngineWish(wanted, has_openvino=True).choose(scored)
    assert choice == EngineChoice(first, later, scored)
    assert choice.stand_in == SCORING
    assert choice.allows(scored)
    assert not choice.allows("onnx")


def test_what_openvino_scored_wakes_in_openvino_where_vllm_is_to_answer() -> None:
    choice = EngineWish("vllm", has_openvino=True).choose(FAST)
    assert choice.quickest == FAST


def test_a_second_process_needs_room_for_both_of_its_copies_of_the_weights() -> None:
    assert describe_lack(free=2_200_000_000, resident=1_100_000_000) == ""
    lack = describe_lack(free=2_199_999_999, resident=1_100_000_000)
    assert lack.startswith("that needs 2.2 GB of memory for a while")
