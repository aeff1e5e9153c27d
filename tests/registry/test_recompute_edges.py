"""Evidence that was edited in a way that no other test of recomputing tries."""

from pathlib import Path

import pytest

from pipelines.scoring.evidence_file import Evidence
from pipelines.values.champion import ChampionInput
from pipelines.values.dataset import ValidationReport
from registry.release.recompute import (
    is_older,
    maker_differences,
    recompute,
    statistics_differences,
)
from tests.support import trials


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return trials.evidence()


def edited(evidence: Evidence, **changes: object) -> Evidence:
    """The evidence with the adapter's first row changed."""
    first, *others = evidence.rows["adapter"]
    rows = (first.model_copy(update=changes), *others)
    return evidence.model_copy(update={"rows": evidence.rows | {"adapter": rows}})


def test_losses_that_are_not_one_for_each_reference_are_named(
    evidence: Evidence,
) -> None:
    row = evidence.rows["adapter"][0].row
    without = row.model_copy(update={"losses": ()})
    (found,) = statistics_differences(edited(evidence, row=without))
    assert "its losses are not one for each reference" in found


def test_a_control_that_is_no_prompt_of_the_evidence_is_named(
    evidence: Evidence,
) -> None:
    (found,) = statistics_differences(edited(evidence, control_prompt_id="elsewhere"))
    prompt = evidence.rows["adapter"][0].row.prompt_id
    expected = (
        f"evidence.{prompt}: its control, elsewhere, is no prompt of the evidence"
    )
    assert found == expected


def test_a_scorecard_that_lacks_one_of_the_newer_facts_is_not_older(
    tmp_path: Path,
) -> None:
    """Otherwise an editor could drop one fact and be spared the checks that need it."""
    card = trials.write_folder(tmp_path)
    for dropped in ("contents", "named_answers"):
        assert getattr(card, dropped) is not None
        assert not is_older(card.model_copy(update={dropped: None}))
    both = {"contents": None, "named_answers": None}
    assert is_older(card.model_copy(update=both))


def test_data_that_were_not_admitted_are_a_difference_under_their_own_policy_alone(
    tmp_path: Path,
) -> None:
    trials.write_folder(tmp_path)
    path = tmp_path / "validation_report.json"
    report = ValidationReport.read(path)
    report.model_copy(update={"passed": False}).write(path)
    own = recompute(tmp_path).differences
    other = recompute(tmp_path, tmp_path / "policy.yaml").differences
    said = "admission: validation is rejected"
    assert any(each.startswith(said) for each in own)
    assert not any(each.startswith("admission") for each in other)


def test_answers_of_another_adapter_are_named_with_both_digests(
    evidence: Evidence, tmp_path: Path
) -> None:
    card = trials.write_folder(tmp_path)
    made_by = {
        "adapter": card.spec.with_adapter("f" * 64),
        "base": card.spec.with_adapter("f" * 64),
        "few_shot": card.spec.with_adapter(None),
    }
    other = evidence.model_copy(update={"made_by": made_by})
    found = set(maker_differences(card, ChampionInput(champion=None), other))
    own = card.adapter.sha256[:12]
    told = "answered, the files beside it name"
    assert f"evidence.adapter: adapter ffffffffffff {told} {own}" in found
    assert f"evidence.base: adapter ffffffffffff {told} none" in found
