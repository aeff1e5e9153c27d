"""A moved home finds its own files, and a copied one leaves the original alone.

Both say so in a line.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from core.errors import RegistryError
from core.files import folder_digests
from core.locks import share_home, up_lock
from core.project import Project
from operations import checks
from operations.backup.create import BackupSource, back_up
from pipelines.models.base_store import locate_base_model
from pipelines.stages.base_model import base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import BaseModelParams
from registry.mlflow.home_store import open_store
from registry.mlflow.moved import settle
from tests.operations.keeping.conftest import MODEL, Kept
from tests.support.journey import Checkout, Journey, invoke, run_arguments


def at(root: Path) -> Project:
    return Project(root, root / ".assay")


def moved(kept: Kept, name: str = "moved to") -> Project:
    return at(kept.project.root.rename(kept.project.root.with_name(name)))


def copied(kept: Kept) -> Project:
    return at(
        Path(
            shutil.copytree(
                kept.project.root, kept.project.root.with_name("copy"), symlinks=True
            )
        )
    )


def addresses(home: Path) -> str:
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        return "\n".join(database.iterdump())


def check_whole(project: Project, kept: Kept) -> None:
    store = open_store(project)
    package = store.fetch(store.get_version(MODEL, "1"), project.root / "fetched")
    assert folder_digests(package) == folder_digests(
        project.home / "packages" / kept.version.package_sha256
    )
    assert (
        store.runs.fetch_evidence(kept.refused, project.root / "evidence")
        / "verdict.json"
    ).is_file()


def test_a_moved_home_finds_what_it_registered_and_says_once_that_it_was_moved(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    there = moved(kept)
    check_whole(there, kept)
    said = capsys.readouterr().err
    assert said.startswith(f"assay: This home was in {kept.home} before. ")
    assert said.endswith(f" addresses in its records name {there.home} now.\n")
    assert str(kept.home) not in addresses(there.home)
    assert settle(there.home) is None
    back_up(
        BackupSource(there, open_store(there), with_base_models=False),
        there.root.with_name("backup"),
    )


def test_a_copy_neither_writes_into_the_original_nor_reads_from_it(kept: Kept) -> None:
    there = copied(kept)
    before = folder_digests(kept.home / "mlflow-artifacts"), addresses(kept.home)
    store = open_store(there)
    client = MlflowClient(store.uri, store.uri)
    for run_id in (
        store.get_version(MODEL, "1").run_id,
        store.runs.begin("new work", "name", {}).run_id,
    ):
        client.log_text(run_id, "text", "file.txt")
    assert len(list((there.home / "mlflow-artifacts").rglob("file.txt"))) == 2
    assert (
        folder_digests(kept.home / "mlflow-artifacts"),
        addresses(kept.home),
    ) == before
    shutil.rmtree(kept.project.root)
    check_whole(there, kept)


def test_records_that_were_brought_without_their_files_are_not_followed_to_the_original(
    kept: Kept,
) -> None:
    there = copied(kept)
    shutil.rmtree(there.home / "mlflow-artifacts")
    before = addresses(there.home)
    with pytest.raises(
        RegistryError,
        match=rf"Copy {kept.home}/mlflow-artifacts into {there.home} as well",
    ):
        open_store(there)
    assert addresses(there.home) == before
    shutil.copytree(kept.home / "mlflow-artifacts", there.home / "mlflow-artifacts")
    check_whole(there, kept)


def test_a_home_under_a_second_name_was_not_moved(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(kept.home)
    assert settle(tmp_path / "link") is None
    assert settle(kept.home) is None


def test_a_home_without_records_was_not_moved(
    empty_mlflow: Path, tmp_path: Path
) -> None:
    assert settle(tmp_path) is None
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    assert settle(tmp_path) is None
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(RegistryError, match="cannot be read"):
        settle(tmp_path)


def test_a_home_that_was_moved_under_running_servers_or_runs_is_left_as_it_is(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = moved(kept)
    with (
        FileLock(up_lock(there.home)),
        pytest.raises(RegistryError, match=r"was moved while `assay up` runs in it"),
    ):
        open_store(there)
    monkeypatch.setattr("registry.mlflow.moved._PATIENCE", 0.0)
    with (
        share_home(there.home),
        pytest.raises(
            RegistryError, match=r"not corrected yet\. A run or a backup uses"
        ),
    ):
        open_store(there)
    assert str(kept.home) in addresses(there.home)


def test_base_models_of_a_moved_home_and_of_its_checkout_are_found(
    kept: Kept, tiny_base: Path
) -> None:
    own = Path(shutil.copytree(tiny_base, kept.home / "base-models/own"))
    (own / "config.json").write_text((own / "config.json").read_text() + "\n")
    beside = Path(shutil.copytree(tiny_base, kept.project.root / "models/beside"))
    (beside / "config.json").write_text((beside / "config.json").read_text() + "\n\n")
    manifests = [_known(folder, kept.home) for folder in (own, beside)]
    link = kept.home / "base-models" / manifests[0].digest
    assert link.readlink() == Path("own"), (
        "a link to a neighbour holds wherever the home lies"
    )
    link.unlink()
    link.symlink_to(own)  # as it was made before
    there = copied(kept)
    (own / "config.json").write_text("{}")
    (beside / "config.json").write_text("{}")
    assert settle(there.home) is not None
    assert (
        locate_base_model(manifests[0], there.home).resolve()
        == there.home / "base-models/own"
    )
    assert (
        locate_base_model(manifests[1], there.home).resolve()
        == there.root / "models/beside"
    )


def _known(folder: Path, home: Path) -> BaseModelManifest:
    params = BaseModelParams(
        source="folder",
        id="tiny",
        path=str(folder),
        digest=None,
        chat_template=None,
        completion_mode=False,
    )
    return base_model(params, home)[0]


@pytest.mark.ci
def test_a_moved_checkout_runs_gates_and_clears_up(
    judged: Journey, tmp_path: Path
) -> None:
    before = Path(
        shutil.copytree(judged.checkout.root, tmp_path / "before", symlinks=True)
    )
    checkout = Checkout(before.rename(tmp_path / "after"), judged.checkout.environment)
    known = invoke(checkout, *run_arguments(judged.data, judged.base))
    assert (known.last["version"], known.last["unchanged"]) == ("1", True)
    assert "This home was in" in known.err
    evidence = checkout.store.runs.fetch_evidence(
        known.last["mlflow_run"], tmp_path / "evidence"
    )
    assert invoke(checkout, "gate", evidence).code == 0
    anew = invoke(
        checkout, *run_arguments(judged.data, judged.base, "--set", "score.seed=1")
    )
    assert (anew.last["version"], anew.last["note"]) == (
        "2",
        "alias challenger, which it takes from version 1 as the same adapter, judged again",
    )
    assert invoke(checkout, "gc", "--apply").code == 0


def test_the_doctor_says_that_a_home_was_moved(kept: Kept) -> None:
    there = moved(kept)
    (first,) = checks.place(there)
    assert first.is_ok
    assert first.text.startswith(f"This home was in {kept.home} before.")
    (second,) = checks.place(there)
    assert second.text == "its records name files of this home alone"
