"""One whole Prefect for every test of what runs by itself.

It has its services, its UI, our deployments and our worker.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployments import Automatic, Nights, automatic, until
from tests.support.journey import Checkout, Journey, make_checkout

NIGHTLY = "retrain/nightly"


@pytest.fixture(scope="session")
def automatic_checkout(
    judged: Journey,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Checkout:
    """Its DVC cache knows what the stages of the judged run made: a run takes seconds.

    MLflow knows nothing. The tests that come to it run in one process (`tests/conftest.py`).
    """
    root = tmp_path_factory.mktemp("automatic")
    checkout = make_checkout(root / "assay", cloned, empty_mlflow)
    shutil.copytree(judged.checkout.home / "cache", checkout.home / "cache")
    return checkout


@pytest.fixture(scope="session")
def running(automatic_checkout: Checkout, judged: Journey) -> Iterator[Automatic]:
    root = automatic_checkout.root.parent
    data = Path(shutil.copyfile(judged.data, root / "letters.jsonl"))
    (root / "prefect").mkdir()
    with automatic(automatic_checkout, data, judged.base, root / "prefect") as found:
        yield found


@pytest.fixture(scope="session")
def nights(running: Automatic) -> Nights:
    """A nightly run on the tiny rows that nobody started, and one more: its cron was moved near.

    Both run before any other test gives the model other rows or versions.
    """
    running.change(NIGHTLY, parameters=running.nightly_parameters)
    first = running.night(wait_for_scheduled_run(running))
    running.wait_for_message("letters-tiny passed")
    first = replace(first, messages=len(running.received))
    second = running.night(running.run_to_end(NIGHTLY, **running.nightly_parameters))
    return Nights(first, second)


def wait_for_scheduled_run(running: Automatic) -> dict[str, Any]:
    # A time that has passed before the server knows of it comes again in a year.
    for seconds in (8, 30, 120, 600):
        running.due_in(NIGHTLY, seconds)
        for _ in until(seconds + 30):
            begun = [run for run in running.runs(NIGHTLY) if run["start_time"]]
            if begun:
                return running.wait_for(begun[0]["id"])
    raise AssertionError(running.runs(NIGHTLY))
