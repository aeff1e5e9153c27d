"""Another engine answers for the one that scored only where it gives the scored answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from pipelines.values.serving_spec import ServingSpec
from registry.release.following import EndpointState
from registry.release.known_answers import read_known_answers, write_known_answers
from serving.endpoint.parity import may_show_parity
from tests.support.endpoint_system import Home, Running, endpoint

SCORED = ServingSpec(
    base_digest="1" * 64,
    adapter_sha256="2" * 64,
    chat_template_sha256="3" * 64,
    engine="transformers",
    engine_version="5.23.0",
    precision="float32",
    default_max_tokens=48,
)
OTHER = SCORED.in_engine("openvino", "2026.4.1")


def test_another_engine_may_show_that_it_answers_alike_where_it_is_asked_for() -> None:
    assert may_show_parity(SCORED, OTHER, wanted="openvino")
    assert not may_show_parity(SCORED, OTHER, wanted="transformers")


@pytest.mark.parametrize(
    "change",
    [
        {"base_digest": "9" * 64},
        {"adapter_sha256": "9" * 64},
        {"adapter_sha256": None},
        {"chat_template_sha256": None},
        {"precision": "bfloat16"},
        {"default_max_tokens": 49},
    ],
)
def test_what_differs_in_more_than_the_engine_may_not(
    change: dict[str, object],
) -> None:
    assert not may_show_parity(SCORED, OTHER.model_copy(update=change), "openvino")


def test_another_version_of_the_engine_that_scored_may_not() -> None:
    other = SCORED.in_engine("transformers", "5.24.0")
    assert not may_show_parity(SCORED, other, wanted="transformers")


@contextmanager
def serving(home: Home, patch: pytest.MonkeyPatch) -> Iterator[Running]:
    """An endpoint that asks for OpenVINO, and version 1 that it answers with."""
    patch.setenv("ASSAY_ENGINE", "openvino")
    with endpoint(home) as running:
        home.switch(home.begin("1"))
        home.wait(home.answers_with("1"))
        yield running


@pytest.mark.ci
def test_openvino_answers_for_a_release_once_its_scored_answers_came_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(home, monkeypatch) as running:
        own = home.specs["1"].in_engine("openvino", version("openvino"))
        answer = running.ask().json()
        assert answer["system_fingerprint"] == own.fingerprint
        assert "known answers by openvino" in running.log.read_text()


@pytest.mark.ci
def test_a_library_that_ends_its_process_leaves_the_release_to_the_engine_that_scored(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As where it meets a processor that it does not know.
    library = tmp_path / "library"
    library.mkdir()
    (library / "openvino.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(library))
    with serving(home, monkeypatch) as running:
        answer = running.ask().json()
        assert answer["system_fingerprint"] == home.specs["1"].fingerprint
        assert "is served by transformers, not by openvino" in running.log.read_text()


@pytest.mark.ci
def test_an_endpoint_that_asks_for_transformers_does_not_take_an_openvino_engine_over(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(home, monkeypatch) as running:
        running.kill()
    monkeypatch.setenv("ASSAY_ENGINE", "transformers")
    with endpoint(home) as running:
        home.wait(home.answers_with("1"))
        answer = running.ask().json()
        assert answer["system_fingerprint"] == home.specs["1"].fingerprint
        assert "is not taken over" in running.log.read_text()


def forget(package: Path) -> None:
    """Known answers that no engine gives."""
    path = package / "known_answers.jsonl"
    answers = read_known_answers(path)
    others = [answer.model_copy(update={"text": "never"}) for answer in answers]
    write_known_answers(path, others)


@pytest.mark.ci
def test_where_scored_answers_do_not_come_back_the_engine_that_scored_is_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_ENGINE", "openvino")
    with endpoint(home) as running:
        begun = home.with_changed("2", forget).begin("2")

        def has_failed(state: EndpointState) -> bool:
            engine = state.engine(begun)
            return engine is not None and engine.state == "failed"

        home.wait(has_failed)
        log = running.log.read_text()
    # Neither gives them, so that the second one says it again and the release gets no traffic.
    assert "is served by transformers, not by openvino: Version 2" in log
    assert log.count("gave 0 of 4 known answers") == 2
