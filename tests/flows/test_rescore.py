"""The champion on today's data.

The same gate, no training, nothing registered, and nothing taken out of service.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from core.notify import notices
from flows.run.request import TrainRequest
from pipelines.values.params import parse_assignment
from registry.mlflow.recorded import CHAMPION, VERDICT
from tests.support.journey import (
    SETTINGS,
    Checkout,
    Journey,
    learnable_rows,
    shuffled,
    write_rows,
)

MODEL = "letters-tiny"
Rescore = Callable[[Path], Any]


@pytest.fixture
def served(judged: Journey, tmp_path: Path) -> Checkout:
    """A copy of the judged run's checkout, in which its version is champion."""
    root = Path(shutil.copytree(judged.checkout.root, tmp_path / "assay"))
    checkout = Checkout(root, judged.checkout.environment)
    checkout.store.move_alias(MODEL, CHAMPION, "1")
    return checkout


@pytest.fixture
def rescored(served: Checkout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rescore]:
    """The flow's last state.

    Base and decoding are the champion's own: the request names only data and how it is read.
    """
    from flows.rescore import rescore

    data_settings = dict(
        parse_assignment(setting)
        for setting in SETTINGS
        if setting.startswith(("bias", "score", "few_shot"))
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with chdir(served.root):
        yield lambda data: rescore(
            TrainRequest(model=MODEL, data=data, settings=data_settings),
            return_state=True,
        )


@pytest.mark.ci
def test_a_champion_that_still_passes_is_recorded_without_training_or_registering(
    served: Checkout, judged: Journey, rescored: Rescore
) -> None:
    state = rescored(judged.data)
    assert (state.type, state.name) == ("COMPLETED", "Passed"), state.message
    assert state.message.startswith(
        "Version 1 of letters-tiny: Verdict of screen: PASSED; nothing was registered"
    )
    (run,) = [
        run for run in served.runs() if run.data.tags.get("assay.kind") == "rescore"
    ]
    assert (
        run.data.tags[VERDICT],
        run.data.tags["assay.version"],
        run.info.status,
    ) == ("passed", "1", "FINISHED")
    assert len(served.versions()) == 1
    assert notices(served.home)[-1].title == "Assay: champion of letters-tiny passes"
    assert served.store.runs.find_last_training(MODEL).run_id != run.info.run_id  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_champion_that_no_longer_passes_is_told_and_goes_on_serving(
    served: Checkout, rescored: Rescore, tmp_path: Path
) -> None:
    state = rescored(write_rows(tmp_path / "letters.jsonl", shuffled(learnable_rows())))
    assert (state.type, state.name) == ("COMPLETED", "Rejected"), state.message
    told = notices(served.home)[-1]
    assert told.title == "Assay: champion of letters-tiny needs a look"
    assert "version 1, no longer passes (rejected); it goes on serving" in told.text
    assert served.store.get_version(MODEL, f"@{CHAMPION}").version == "1"


def test_without_a_champion_there_is_nothing_to_score(checkout: Checkout) -> None:
    from flows.rescore import rescore

    with chdir(checkout.root):
        state = rescore(TrainRequest(model=MODEL), return_state=True)
    assert (state.name, state.message) == (
        "NoChampion",
        "letters-tiny has no champion: there is nothing to score again.",
    )
    assert checkout.runs() == []
