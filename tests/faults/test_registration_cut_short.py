"""MLflow lost, slow, or the run killed while a version is being registered.

The next run completes it, once.
"""

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from registry.mlflow.recorded import LOGICAL_RUN, VERDICT
from registry.mlflow.recorded import MODEL as MODEL_TAG
from registry.mlflow.store import Store
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    Package,
    make_checkout,
    run_arguments,
)
from tests.support.proxy import Proxy
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci

CREATE_MODEL, CREATE_VERSION, SET_ALIAS = (
    "mlflow/logged-models",
    "mlflow/model-versions/create",
    "mlflow/registered-models/alias",
)
SECONDS_TO_ANSWER = 3
MODEL = "letters-tiny"


@dataclass(frozen=True)
class Seen:
    """What MLflow holds after a run was cut short."""

    versions: tuple[dict[str, str], ...]
    logged_models: int
    verdicts: tuple[str | None, ...]


@dataclass(frozen=True)
class Story:
    """The same command four times.

    MLflow goes away, killed before the version, killed after it, left alone.
    """

    away: CommandResult
    after_away: Seen
    after_upload: Seen
    after_version: Seen
    result: CommandResult
    at_the_end: Seen
    store: Store


@pytest.fixture(scope="module")
def story(
    judged: Journey,
    proxy: Proxy,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    made = make_checkout(
        tmp_path_factory.mktemp("story") / "assay", cloned, empty_mlflow
    )
    shutil.copytree(judged.checkout.home / "cache", made.home / "cache")
    checkout = Checkout(
        made.root, {**made.environment, "MLFLOW_TRACKING_URI": proxy.url}
    )
    arguments = run_arguments(judged.data, judged.base)

    proxy.from_then_on("POST", CREATE_MODEL)
    away = checkout.assay(*arguments)
    proxy.heal()
    after_away = seen(checkout)

    after_upload = killed_at(checkout, arguments, proxy, CREATE_VERSION)
    after_version = killed_at(checkout, arguments, proxy, SET_ALIAS)
    return Story(
        away,
        after_away,
        after_upload,
        after_version,
        checkout.assay(*arguments),
        seen(checkout),
        checkout.store,
    )


def killed_at(
    checkout: Checkout, arguments: list[str | Path], proxy: Proxy, path: str
) -> Seen:
    """Start the run, kill it -9 while its request to `path` stands before MLflow, and look."""
    proxy.once("POST", path, "hold")
    process = checkout.start(*arguments)
    assert proxy.is_holding.wait(SECONDS_AT_MOST), process.communicate(
        timeout=SECONDS_AT_MOST
    )
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_AT_MOST)
    proxy.heal()
    return seen(checkout)


def seen(checkout: Checkout) -> Seen:
    """Only of this model: other tests register others at the same server."""
    client = MlflowClient(checkout.uri, checkout.uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{MODEL_TAG}` = '{MODEL}'")
    run_ids = {run.info.run_id for run in runs}
    logged_models = client.search_logged_models(experiments)
    versions = client.search_model_versions(f"name = '{MODEL}'")
    return Seen(
        versions=tuple(dict(version.tags) for version in versions),
        logged_models=sum(each.source_run_id in run_ids for each in logged_models),
        verdicts=tuple(run.data.tags.get(VERDICT) for run in runs),
    )


def test_with_mlflow_away_the_run_ends_in_bounded_time_and_says_what_to_do(
    story: Story,
) -> None:
    assert story.away.code == 1, story.away.out + story.away.err
    (line,) = story.away.err.strip().splitlines()
    assert "did not take it in 5 attempts" in line
    assert line.endswith("run the same command again.")
    assert story.after_away == Seen(versions=(), logged_models=0, verdicts=(None,))


def test_killed_after_the_upload_there_is_no_version(story: Story) -> None:
    assert story.after_upload == Seen(versions=(), logged_models=1, verdicts=(None,))


def test_killed_after_the_version_it_stands_with_its_verdict(story: Story) -> None:
    (tags,) = story.after_version.versions
    assert tags[VERDICT] == "passed"
    assert tags[LOGICAL_RUN]
    assert story.after_version.verdicts == (None,)


def test_the_run_after_all_of_that_finds_the_one_version_and_completes_its_record(
    story: Story,
) -> None:
    assert story.result.code == 0, story.result.out + story.result.err
    assert story.result.last["version"] == "1"
    assert story.at_the_end.verdicts == ("passed",)
    assert len(story.at_the_end.versions) == 1
    assert story.store.get_version(MODEL, "@challenger").version == "1"


def test_an_upload_whose_run_was_killed_is_swept(story: Story) -> None:
    assert (story.after_upload.logged_models, story.at_the_end.logged_models) == (1, 1)


def test_an_answer_that_comes_after_the_timeout_makes_no_second_version(
    package: Package, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS_TO_ANSWER))
    store = Store(proxy.url, locks=tmp_path / "leases")
    run = store.runs.begin("late", "answered late", {})
    proxy.once("POST", CREATE_VERSION, "late")
    version = package.register(store, run, work="late")
    found = MlflowClient(proxy.url, proxy.url).search_model_versions(
        f"name = 'tiny' AND tags.`{LOGICAL_RUN}` = 'late'"
    )
    assert [str(each.version) for each in found] == [version.version]
