"""The fingerprint of a configuration covers every field that decides an answer."""

import pytest

from pipelines.values.serving_spec import ServingSpec
from tests.support import trials

CHANGES = {
    "base_digest": "c" * 64,
    "adapter_sha256": None,
    "chat_template_sha256": "c" * 64,
    "engine": "other",
    "engine_version": "2",
    "precision": "bfloat16",
    "default_max_tokens": 49,
}


def test_every_field_is_changed_below() -> None:
    assert set(CHANGES) == set(ServingSpec.model_fields)


@pytest.mark.parametrize(("field", "setting"), CHANGES.items())
def test_another_setting_is_another_fingerprint_and_is_named_with_both(
    field: str, setting: object
) -> None:
    spec = trials.spec()
    other = ServingSpec.model_validate(spec.model_dump() | {field: setting})
    assert other.fingerprint != spec.fingerprint
    assert spec.differences(other) == (
        f"{field} is {setting}, not {getattr(spec, field)}",
    )


def test_the_same_settings_are_the_same_fingerprint_and_differ_in_nothing() -> None:
    assert trials.spec().fingerprint == trials.spec().fingerprint
    assert trials.spec().differences(trials.spec()) == ()


def test_an_adapter_goes_on_and_off() -> None:
    assert trials.spec("base").with_adapter("a" * 64) == trials.spec()
    assert trials.spec().with_adapter(None) == trials.spec("base")
