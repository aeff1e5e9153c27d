"""`assay promote --wait`: CI is told how it ended, and whoever stops waiting stops nothing else."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.locks import exclusive, release_lock
from core.project import Project
from operations.reconcile import Reconciler
from tests.support.endpoint_system import Home, endpoint
from tests.support.journey import Checkout, CommandResult, copy_checkout, invoke
from tests.support.promoted import (
    MODEL,
    entry_kinds,
    model_state,
    waived_site,
)
from tests.support.waiting import SECONDS_AT_MOST, wait_until

ORDER = ("promote", "1", "--model", MODEL, "--reason", "it is better", "--wait")


@pytest.fixture
def site(recorded: Checkout, tmp_path: Path) -> Checkout:
    return waived_site(recorded, tmp_path / "assay")


@pytest.fixture
def served(site: Checkout) -> Iterator[Checkout]:
    with endpoint(Home(site.home)):
        yield site


def wait_for(site: Checkout, *more: str) -> CommandResult:
    return invoke(site, *ORDER, *more)


def champion(site: Checkout) -> str:
    client = MlflowClient(site.uri, site.uri)
    return str(client.get_model_version_by_alias(MODEL, "champion").version)


def attached(site: Checkout) -> list[str]:
    client = MlflowClient(site.uri, site.uri)
    run_id = client.get_model_version(MODEL, "1").run_id
    assert run_id is not None
    return [each.path for each in client.list_artifacts(run_id, "release_report")]


def test_it_returns_once_the_version_serves_and_is_champion_however_often_it_is_asked(
    served: Checkout,
) -> None:
    answer = wait_for(served, "--json")
    assert answer.code == 0, answer.out + answer.err
    assert answer.last["note"] == "MLflow's champion is version 1."
    assert champion(served) == "1"
    assert attached(served) == [f"release_report/{MODEL}-1.html"]
    kinds = entry_kinds(served)
    MlflowClient(served.uri, served.uri).delete_registered_model_alias(
        MODEL, "champion"
    )
    again = wait_for(served, "--json")
    assert again.code == 0, again.out + again.err
    assert (again.last["version"], entry_kinds(served)) == ("1", kinds)
    assert champion(served) == "1"


def test_a_version_that_is_not_fit_is_answered_at_once(
    recorded: Checkout, tmp_path: Path
) -> None:
    site = copy_checkout(recorded, tmp_path / "assay")
    with endpoint(Home(site.home)):
        assert wait_for(site).code == 4
    assert "release_begun" not in entry_kinds(site)


def test_without_an_endpoint_it_waits_for_one_and_says_so_where_none_comes(
    site: Checkout,
) -> None:
    refusal = wait_for(site, "--timeout", "1")
    assert refusal.code == 1
    assert "The time to wait for version 1" in refusal.err
    assert "No endpoint of" in refusal.err
    assert "judged" not in entry_kinds(site)


def test_behind_another_release_it_waits_no_longer_than_it_may(site: Checkout) -> None:
    with exclusive(release_lock(site.home)):
        refusal = wait_for(site, "--timeout", "1")
    assert (refusal.code, "judged" in entry_kinds(site)) == (1, False)
    assert "Another release is on its way" in refusal.err


@pytest.mark.ci
def test_an_interrupted_wait_leaves_the_release_to_the_controller(
    served: Checkout,
) -> None:
    process = served.start(*ORDER)
    wait_until(
        lambda: model_state(served).pending is not None or process.poll() is not None
    )
    # As CI ends a job. A shell in the background has its children ignore Ctrl-C.
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS_AT_MOST)
    assert process.returncode == 75, err
    assert "goes on: the controller of `assay up` carries it to its end" in err
    duties = Reconciler(Project(served.root, served.home))
    [sentence] = duties.finish_releases()
    assert "version 1 serves" in sentence
    again = wait_for(served)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    "options", [("--timeout", "0"), ("--timeout", "nan"), ("--timeout", "86401")]
)
def test_a_time_that_is_none_is_wrong_usage(
    site: Checkout, options: tuple[str, ...]
) -> None:
    assert wait_for(site, *options).code == 2
    assert invoke(site, *ORDER[:-1], "--timeout", "5").code == 2
