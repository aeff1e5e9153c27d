"""`screen` says of an adapter that it was trained elsewhere, and wants it to change the base."""

from typing import Any

import pytest

from pipelines.gates.screening.adapter_rules import check_training
from pipelines.values.elsewhere import UNCLAIMED, TrainedElsewhere
from pipelines.values.evidence import Adapter, DevLoss
from tests.support import trials

BROUGHT = TrainedElsewhere(
    weights_sha256="0" * 64, config_sha256="1" * 64, stated_base="somewhere/base"
)


def brought(**fields: Any) -> Adapter:
    # A file cannot hold a NaN; a value that is built without validation can.
    return trials.adapter().model_copy(
        update={"elsewhere": BROUGHT, "steps": 0, **fields}
    )


def test_one_that_changes_the_base_passes_and_the_finding_says_where_it_was_trained() -> (
    None
):
    losses = (DevLoss(step=0, loss=2.0), DevLoss(step=0, loss=2.5))
    finding = check_training(brought(dev_losses=losses))
    assert finding.outcome == "passed"
    assert finding.text.startswith(UNCLAIMED)
    assert "2 without it, 2.5 with it" in finding.text


@pytest.mark.parametrize("moved", [0.0, -1.0, float("nan"), float("inf")])
def test_one_that_changes_nothing_is_rejected(moved: float) -> None:
    assert check_training(brought(moved=moved)).outcome == "rejected"


def test_losses_that_are_no_numbers_are_rejected() -> None:
    assert check_training(brought(train_loss=float("nan"))).outcome == "rejected"


def test_a_record_of_an_adapter_that_was_trained_here_is_what_it_was() -> None:
    assert "elsewhere" not in trials.adapter().model_dump()
    assert "elsewhere" not in trials.adapter().model_dump(mode="json")
    assert Adapter.model_validate(brought().model_dump()).elsewhere == BROUGHT
