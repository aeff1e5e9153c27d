"""One whole Prefect, with services, UI, deployments and worker, for every test of what runs by itself."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployments import Automatic, automatic, until
from tests.support.journey import Journey, make_checkout


@pytest.fixture(scope="session")
def running(
    judged: Journey,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Automatic]:
    """Its DVC cache knows what the stages of the judged run made: a run takes seconds. MLflow knows nothing."""
    root = tmp_path_factory.mktemp("automatic")
    checkout = make_checkout(root / "assay", cloned, empty_mlflow)
    shutil.copytree(judged.checkout.home / "cache", checkout.home / "cache")
    data = Path(shutil.copyfile(judged.data, root / "letters.jsonl"))
    (root / "prefect").mkdir()
    with automatic(checkout, data, judged.base, root / "prefect") as found:
        yield found


@pytest.fixture(scope="session")
def nightly(running: Automatic) -> dict[str, Any]:
    """A nightly run on the tiny rows that nobody started: its cron was moved near."""
    running.change(
        "retrain/nightly",
        parameters={
            "request": running.request,
            "only_new_data": True,
            "when_busy": "skip",
        },
    )
    for seconds in (
        8,
        30,
        120,
    ):  # a time that has passed before the server knows of it comes again in a year
        running.due_in("retrain/nightly", seconds)
        for _ in until(seconds + 30):
            begun = [
                run for run in running.runs("retrain/nightly") if run["start_time"]
            ]
            if begun:
                return running.wait_for(begun[0]["id"])
    raise AssertionError(running.runs("retrain/nightly"))
