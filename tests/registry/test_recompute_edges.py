"""Evidence that was edited in a way that no other test of recomputing tries."""

import pytest

from pipelines.scoring.evidence_file import Evidence
from registry.release.recompute import statistics_differences
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
