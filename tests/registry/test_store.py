"""What MLflow records.

One run and one version for a logical run, complete before it is seen, checked when it is fetched.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.errors import DamagedFile, RegistryError
from core.files import digest_of_files, folder_digests
from pipelines.values.verdict import Finding
from registry.mlflow.package_folder import is_whole, list_set_aside
from registry.mlflow.recorded import (
    LOGICAL_RUN,
    PACKAGE,
    VERDICT,
    WORKSPACE,
    Page,
    RecordedRun,
    Submission,
)
from registry.mlflow.store import Store
from tests.support.impostors import answering, reply
from tests.support.journey import Package

THREADS = 8


def client_of(store: Store) -> MlflowClient:
    return MlflowClient(store.uri, store.uri)


def artifacts_of(store: Store) -> Path:
    return Path(store.uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts"


def test_a_version_is_a_challenger_with_its_verdict_and_the_digest_of_its_package(
    store: Store, run: RecordedRun, package: Package
) -> None:
    version = package.register(store, run)
    assert store.get_version("tiny", "@challenger") == version
    tags = client_of(store).get_model_version("tiny", version.version).tags
    assert (tags[VERDICT], tags[LOGICAL_RUN]) == ("passed", "work")
    assert tags[PACKAGE] == digest_of_files(folder_digests(package.folder))


def test_a_fetched_package_is_what_was_registered(
    store: Store, run: RecordedRun, package: Package, tmp_path: Path
) -> None:
    fetched = store.fetch(package.register(store, run), tmp_path / "fetched")
    assert folder_digests(fetched) == folder_digests(package.folder)


def test_registering_again_finds_the_first_version(
    store: Store, run: RecordedRun, package: Package
) -> None:
    assert package.register(store, run) == package.register(store, run)
    assert len(client_of(store).search_model_versions("name = 'tiny'")) == 1


def test_registering_from_many_threads_makes_one_version(
    store: Store, run: RecordedRun, package: Package
) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        versions = list(
            pool.map(lambda _: package.register(store, run), range(THREADS))
        )
    assert {version.version for version in versions} == {"1"}
    assert len(client_of(store).search_model_versions("name = 'tiny'")) == 1


def test_beginning_a_run_from_many_threads_makes_one_run(store: Store) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        runs = list(
            pool.map(
                lambda _: store.runs.begin("other work", "name", {}), range(THREADS)
            )
        )
    assert len({run.run_id for run in runs}) == 1


def test_another_logical_run_is_another_version(
    store: Store, run: RecordedRun, package: Package
) -> None:
    first, second = (
        package.register(store, run),
        package.register(store, run, work="other work"),
    )
    assert (first.version, second.version) == ("1", "2")
    assert store.get_version("tiny", "@challenger") == second


def test_an_artifact_that_was_tampered_with_is_refused(
    store: Store, run: RecordedRun, package: Package, tmp_path: Path
) -> None:
    version = package.register(store, run)
    (weights,) = artifacts_of(store).rglob("adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(DamagedFile, match="is not what was registered"):
        store.fetch(version, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_file_that_was_added_to_an_artifact_is_refused(
    store: Store, run: RecordedRun, package: Package, tmp_path: Path
) -> None:
    version = package.register(store, run)
    (weights,) = artifacts_of(store).rglob("adapter_model.safetensors")
    (weights.parent / "extra.json").write_text("{}")
    with pytest.raises(DamagedFile):
        store.fetch(version, tmp_path / "fetched")


def add_file(folder: Path) -> None:
    (folder / "stray.txt").write_text("?")


def add_link(folder: Path) -> None:
    (folder / "stray.json").symlink_to("/etc/passwd")


def change_file(folder: Path) -> None:
    (folder / "verdict.json").write_text("{}")


@pytest.mark.parametrize("damage", [add_file, add_link, change_file])
def test_a_damaged_copy_is_put_aside_and_a_good_one_fetched(
    store: Store,
    run: RecordedRun,
    package: Package,
    tmp_path: Path,
    damage: Callable[[Path], None],
) -> None:
    version, copy = package.register(store, run), tmp_path / "packages" / "copy"
    damage(store.fetch(version, copy))
    assert folder_digests(store.fetch(version, copy)) == folder_digests(package.folder)
    [aside] = list_set_aside(copy.parent)
    assert not is_whole(aside, version.package_sha256)
    store.fetch(version, copy)
    assert list_set_aside(copy.parent) == (aside,), "a good one is left where it is"


def test_a_damaged_copy_stays_where_it_is_while_there_is_no_good_one(
    store: Store, run: RecordedRun, package: Package, tmp_path: Path
) -> None:
    version, copy = package.register(store, run), tmp_path / "packages" / "copy"
    add_file(store.fetch(version, copy))
    (weights,) = artifacts_of(store).rglob("adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(DamagedFile, match="is not what was registered"):
        store.fetch(version, copy)
    assert (copy / "stray.txt").is_file()


def test_an_upload_that_was_cut_short_is_swept_by_the_next(
    store: Store, run: RecordedRun, package: Package
) -> None:
    client = client_of(store)
    orphan = client.create_logged_model(
        experiment_of(store),
        name="tiny",
        source_run_id=run.run_id,
        tags={LOGICAL_RUN: "work"},
    )
    client.log_model_artifacts(orphan.model_id, str(package.folder / "adapter"))
    package.register(store, run)
    left = client.search_logged_models([experiment_of(store)])
    assert orphan.model_id not in {model.model_id for model in left}
    assert len(left) == 1


def test_a_second_version_that_an_answer_made_too_late_is_removed_by_the_next(
    store: Store, run: RecordedRun, package: Package
) -> None:
    first, client = package.register(store, run), client_of(store)
    tags = client.get_model_version("tiny", first.version).tags
    client.create_model_version(
        "tiny", str(artifacts_of(store)), run_id=run.run_id, tags=tags
    )
    assert package.register(store, run) == first
    assert [
        str(version.version)
        for version in client.search_model_versions("name = 'tiny'")
    ] == ["1"]


def test_a_finalist_with_a_finding_that_did_not_pass_is_refused(
    store: Store, run: RecordedRun, package: Package
) -> None:
    failed = Finding(
        rule="superior", outcome="rejected", text="chrf is under the base's"
    )
    forged = package.finalist.model_copy(
        update={"findings": (*package.finalist.findings, failed)}
    )
    with pytest.raises(RegistryError, match="forged"):
        Package(package.folder, forged).register(store, run)
    assert client_of(store).search_registered_models() == []


def test_a_finalist_without_findings_is_refused(
    store: Store, run: RecordedRun, package: Package
) -> None:
    with pytest.raises(RegistryError, match="forged"):
        Package(
            package.folder, package.finalist.model_copy(update={"findings": ()})
        ).register(store, run)


def test_a_run_with_a_verdict_has_its_evidence(
    store: Store, run: RecordedRun, tmp_path: Path
) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/verdict.json").write_text("{}")
    store.runs.record_verdict(
        run.run_id,
        tmp_path / "evidence",
        Page(description="why", tags={VERDICT: "rejected"}),
    )
    assert store.runs.find("work") == RecordedRun(run_id=run.run_id, verdict="rejected")
    assert (
        store.runs.fetch_evidence(run.run_id, tmp_path / "fetched") / "verdict.json"
    ).read_text() == "{}"
    assert client_of(store).get_run(run.run_id).info.status == "FINISHED"


def test_a_name_without_a_champion_has_none(
    store: Store, run: RecordedRun, package: Package
) -> None:
    assert store.holder("tiny", "champion") is None
    version = package.register(store, run)
    assert store.holder("tiny", "champion") is None
    client_of(store).set_registered_model_alias("tiny", "champion", version.version)
    assert store.holder("tiny", "champion") == version


def test_a_version_that_does_not_exist_is_named(store: Store) -> None:
    with pytest.raises(RegistryError, match="no version 7 of nothing"):
        store.get_version("nothing", "7")


def test_mlflows_page_of_the_experiment_opens_at_its_runs_and_not_at_traces(
    store: Store, run: RecordedRun
) -> None:
    experiment = client_of(store).get_run(run.run_id).info.experiment_id
    assert (
        client_of(store).get_experiment(experiment).tags["mlflow.experimentKind"]
        == "custom_model_development"
    )


def experiment_of(store: Store) -> str:
    experiment = client_of(store).get_experiment_by_name("assay")
    assert experiment
    return str(experiment.experiment_id)


def test_the_same_work_under_another_name_leaves_the_first_name_whole(
    store: Store, run: RecordedRun, package: Package, tmp_path: Path
) -> None:
    first = package.register(store, run)
    page = Page(description="", tags={})
    submission = Submission(
        run=run,
        package=package.folder,
        model="other",
        logical_run=first.logical_run,
        page=page,
    )
    second = store.register(package.finalist, submission)
    assert (second.name, second.version) == ("other", "1")
    assert folder_digests(store.fetch(first, tmp_path / "first")) == folder_digests(
        store.fetch(second, tmp_path / "second")
    )


def test_a_run_that_failed_is_taken_up_under_the_same_id(store: Store) -> None:
    first = store.runs.begin("again", "name", {})
    store.runs.end(first.run_id, "FAILED")
    assert client_of(store).get_run(first.run_id).info.status == "FAILED"
    assert store.runs.begin("again", "name", {}) == first
    assert client_of(store).get_run(first.run_id).info.status == "RUNNING"


def test_a_run_whose_process_is_gone_is_ended_and_one_that_was_taken_up_since_goes_on(
    store: Store,
) -> None:
    dead = store.runs.begin("one", "name", {WORKSPACE: "first"})
    assert store.runs.end_dead_run("another") is None
    assert store.runs.end_dead_run("first") == dead.run_id
    assert client_of(store).get_run(dead.run_id).info.status == "KILLED"
    assert store.runs.end_dead_run("first") is None
    assert store.runs.begin("one", "name", {WORKSPACE: "second"}) == dead
    assert store.runs.end_dead_run("first") is None
    assert client_of(store).get_run(dead.run_id).info.status == "RUNNING"


@pytest.mark.parametrize(
    "path",
    ["../../evil.json", "{tmp}/evil.json", "a/../../../evil.json", "%2e%2e/evil.json"],
)
def test_a_server_cannot_have_a_file_written_outside_of_the_package(
    store: Store, tmp_path: Path, path: str
) -> None:
    path = path.format(tmp=tmp_path)
    listing = {"files": [{"path": path, "is_dir": False, "file_size": 2}]}
    into = tmp_path / "deep" / "down" / "package"
    with answering(lambda _: reply(200, listing)) as (address, _asked):
        location = f"{address}/api/2.0/mlflow-artifacts/artifacts/1/models/m/artifacts"
        with pytest.raises(RegistryError):
            store._download(location, into)
    assert not list(tmp_path.rglob("evil.json"))
