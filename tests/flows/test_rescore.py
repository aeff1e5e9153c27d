"""The champion on today's data.

The same gate, no training, nothing registered, and nothing taken out of service.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from core.notify import notices
from flows.run.request import TrainRequest
from pipelines.values.params import parse_assignment
from registry.ledger.entries import Registered, Rescored
from registry.ledger.ledger import open_ledger
from registry.mlflow.recorded import CHAMPION, VERDICT
from tests.support.journey import (
    SETTINGS,
    Checkout,
    Journey,
    learnable_rows,
    shuffled,
    write_rows,
)
from tests.support.ledgers import WHY, begun, complete_release, write
from tests.support.ledgers import judged as judged_entry

MODEL = "letters-tiny"
Rescore = Callable[[Path], Any]


@pytest.fixture
def served(judged: Journey, tmp_path: Path) -> Checkout:
    """A copy of the judged run's checkout, in which its version is champion."""
    # Links stay links, as that to the base model.
    made, root = judged.checkout.root, tmp_path / "assay"
    shutil.copytree(made, root, symlinks=True)
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
def test_a_champion_whose_rows_mean_something_else_is_told_about_and_goes_on_serving(
    served: Checkout, rescored: Rescore, tmp_path: Path
) -> None:
    state = rescored(write_rows(tmp_path / "letters.jsonl", shuffled(learnable_rows())))
    assert state.type == "COMPLETED", state.message
    told = notices(served.home)[-1]
    # The base answers these rows no better, so that no loss is shown.
    assert told.title == "Assay: champion of letters-tiny cannot be told"
    assert "is not shown to be worse on today's data" in told.text
    assert served.store.get_version(MODEL, f"@{CHAMPION}").version == "1"


def release(checkout: Checkout, version: str) -> int:
    """Full traffic by the ledger, with the bytes that MLflow holds."""
    package_sha256 = checkout.store.get_version(MODEL, version).package_sha256
    ledger = open_ledger(checkout.home)
    made = ledger.state().registrations[f"{MODEL} 1"].made
    verdict = judged_entry(version, MODEL, adapter_sha256=made.adapter_sha256)
    verdict = verdict.model_copy(update={"package_sha256": package_sha256})
    if version != "1":
        contents = made.model_copy(update={"version": version})
        document = {**contents.model_dump(), "by": "lena", "logical_run": WHY}
        write(ledger, Registered.model_validate(document))
    origin = ledger.state().registrations[f"{MODEL} {version}"].generation
    verdict = verdict.model_copy(update={"registration": origin})
    at = write(ledger, verdict)
    body = begun(at, version, MODEL, adapter_sha256=made.adapter_sha256)
    subject = body.release.model_copy(update={"package_sha256": package_sha256})
    at = write(ledger, body.model_copy(update={"release": subject}))
    complete_release(ledger, at)
    return at


@pytest.fixture
def with_predecessor(served: Checkout) -> tuple[int, int]:
    """Version 2 is a copy of version 1, and serves; the alias lags behind."""
    client = MlflowClient(served.store.uri, served.store.uri)
    version = client.get_model_version(MODEL, "1")
    # MLflow looks up a source at its global address.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", served.store.uri)
        copy = client.create_model_version(
            MODEL, str(version.source), run_id=version.run_id, tags=version.tags
        )
    assert str(copy.version) == "2"
    return release(served, "1"), release(served, "2")


@pytest.mark.ci
def test_what_serves_is_scored_against_what_served_before_and_the_ledger_holds_it(
    served: Checkout,
    with_predecessor: tuple[int, int],
    judged: Journey,
    rescored: Rescore,
    tmp_path: Path,
) -> None:
    first, second = with_predecessor
    state = rescored(judged.data)
    assert state.message.startswith("Version 2 of letters-tiny"), state.message
    body = open_ledger(served.home).entries()[-1].body
    assert isinstance(body, Rescored)
    assert (body.version, body.begun, body.against) == ("2", second, first)
    # Two copies of one adapter: neither is shown to be worse than the other.
    assert body.verdict == "passed"
    # On rows that nobody could learn the gate rejects both alike, and traffic stays.
    state = rescored(write_rows(tmp_path / "no.jsonl", shuffled(learnable_rows())))
    assert state.name == "Rejected"
    body = open_ledger(served.home).entries()[-1].body
    assert isinstance(body, Rescored)
    assert body.verdict == "undecided"


def test_without_a_champion_there_is_nothing_to_score(checkout: Checkout) -> None:
    from flows.rescore import rescore

    with chdir(checkout.root):
        state = rescore(TrainRequest(model=MODEL), return_state=True)
    assert (state.name, state.message) == (
        "NoChampion",
        "letters-tiny has no champion: there is nothing to score again.",
    )
    assert checkout.runs() == []
