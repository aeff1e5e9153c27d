"""Another engine answers for the one that scored only where it gives the scored answers."""

import pytest

from pipelines.values.serving_spec import ServingSpec
from serving.endpoint.parity import may_show_parity
from tests.support.endpoint_system import Home, endpoint
from tests.support.waiting import wait_until

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


@pytest.mark.ci
def test_an_endpoint_that_asks_for_transformers_does_not_take_an_openvino_engine_over(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_ENGINE", "openvino")
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        wait_until(lambda: running.computed_by() == "openvino")
        running.kill()
    monkeypatch.setenv("ASSAY_ENGINE", "transformers")
    with endpoint(home) as running:
        home.wait(home.answers_with("1"))
        answer = running.ask().json()
        assert answer["system_fingerprint"] == home.specs["1"].fingerprint
        assert "is not taken over" in running.log.read_text()
