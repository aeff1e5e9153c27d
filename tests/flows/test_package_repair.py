"""The package folder of what serves is damaged while MLflow's copy is good.

It is fetched again, and people are told.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ServingError
from core.notify import notices
from core.project import Project
from flows.package_repair import PackageRepair
from flows.promote import Repaired, promote
from operations.checks import packages
from operations.reconcile import Reconciler
from pipelines.values.verdict import read_screen_verdict
from registry.ledger.enrolment import enrol_packaging
from registry.ledger.ledger import open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.package_folder import is_whole, list_set_aside
from registry.mlflow.recorded import PACKAGE, ModelVersion
from registry.mlflow.store import Store
from registry.release.context import ChangeRequest
from registry.release.package_signature import SIGNATURE, check_signature
from tests.support.endpoint_system import Home
from tests.support.journey import ROOT, Package
from tests.support.signed import release_signed


@pytest.fixture
def project(
    empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return Project(ROOT, tmp_path)


@pytest.fixture
def version(project: Project, package: Package) -> ModelVersion:
    """Registered, fetched and released."""
    store = Store(
        f"sqlite:///{project.home / 'mlflow.db'}", locks=project.home / "leases"
    )
    version = package.register(
        store, store.runs.begin("work", "letters on tiny", {"assay.model": "tiny"})
    )
    store.fetch(version, project.home / "packages" / version.package_sha256)
    home = home_of(project, version)
    home.switch(home.begin("1"))
    return version


def home_of(project: Project, version: ModelVersion) -> Home:
    folder = project.home / "packages" / version.package_sha256
    spec = read_screen_verdict(folder / "verdict.json").spec  # type: ignore[union-attr]
    return Home(project.home, {"1": spec}, {"1": version.package_sha256}, model="tiny")


@pytest.fixture
def signed(project: Project, version: ModelVersion, folder: Path) -> Store:
    """The same version, released once more with a signature, which MLflow holds too."""
    home = home_of(project, version)
    home.serve_base()
    release_signed(home, "1")
    store = open_store(project)
    store.signatures.attach(version, folder)
    return store


@pytest.fixture
def folder(project: Project, version: ModelVersion) -> Path:
    return project.home / "packages" / version.package_sha256


def change(folder: Path) -> None:
    (folder / "verdict.json").write_text("{}")


def add(folder: Path) -> None:
    (folder / "adapter" / "stray.json").write_text("{}")


def link(folder: Path) -> None:
    (folder / "stray.json").symlink_to("/etc/passwd")


@pytest.mark.parametrize("damage", [change, add, link, shutil.rmtree])
def test_the_controller_fetches_it_again_puts_the_damaged_one_aside_and_tells_people(
    project: Project,
    version: ModelVersion,
    folder: Path,
    damage: Callable[[Path], None],
) -> None:
    duties = Reconciler(project)
    assert duties.repair_packages() == ()
    damage(folder)
    [told] = duties.repair_packages()
    aside = list_set_aside(folder.parent)
    where = (
        "Its folder was not there."
        if damage is shutil.rmtree
        else f"The damaged folder lies in {aside[0]}: find out who changed it."
    )
    assert (
        told
        == "The package of tiny version 1 was damaged and has been fetched again from "
        f"MLflow. {where}"
    )
    assert [notice.text for notice in notices(project.home)] == [told]
    assert is_whole(folder, version.package_sha256)
    assert duties.repair_packages() == ()


def test_where_mlflow_has_no_good_copy_either_the_folder_stays_and_people_are_told_once(
    project: Project, folder: Path
) -> None:
    duties = Reconciler(project)
    add(folder)
    shutil.rmtree(project.home / "mlflow-artifacts")
    [told] = duties.repair_packages()
    assert told.startswith(
        f"The package of tiny version 1 is damaged ({folder}) and could not be fetched again: "
        "Version 1 of tiny is not"
    )
    assert duties.repair_packages() == ()
    assert [notice.text for notice in notices(project.home)] == [told]
    assert (folder / "adapter" / "stray.json").is_file()


def test_a_tag_that_was_edited_in_mlflow_brings_no_other_bytes_into_the_folder(
    project: Project, version: ModelVersion, folder: Path
) -> None:
    store = Store(
        f"sqlite:///{project.home / 'mlflow.db'}", locks=project.home / "leases"
    )
    store.annotate(version, {PACKAGE: "f" * 64})
    add(folder)
    [told] = Reconciler(project).repair_packages()
    assert "has been fetched again" in told
    assert is_whole(folder, version.package_sha256)


def test_promote_of_what_serves_already_fetches_a_damaged_package_again(
    project: Project, version: ModelVersion, folder: Path
) -> None:
    add(folder)
    done = promote(
        project, "tiny", "1", ChangeRequest("rita", "its package is damaged")
    )
    assert done == Repaired(
        model="tiny", version="1", aside=list_set_aside(folder.parent)[0]
    )
    assert is_whole(folder, version.package_sha256)
    with pytest.raises(ServingError, match=r"No endpoint of .* runs"):
        promote(
            project, "tiny", "1", ChangeRequest("rita", "nothing is damaged any more")
        )


def test_the_doctor_names_a_damaged_package_and_what_was_put_aside(
    project: Project, folder: Path
) -> None:
    assert [each.text for each in packages(project)] == [
        "tiny version 1 is what was released"
    ]
    add(folder)
    [check] = packages(project)
    assert not check.is_ok
    assert f"{folder} holds other bytes" in check.text
    Reconciler(project).repair_packages()
    whole, aside = packages(project)
    assert (whole.is_ok, aside.is_ok) == (True, True)
    assert (
        f"a damaged one was put aside: {list_set_aside(folder.parent)[0]}" in aside.text
    )


def test_a_file_that_was_exchanged_for_one_of_the_same_size_and_time_is_found(
    project: Project, folder: Path
) -> None:
    looked, ledger_state = (
        PackageRepair(project.home),
        open_ledger(project.home).state(),
    )
    assert looked.damaged(ledger_state) == ()
    path = folder / "verdict.json"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [release.version for release in looked.damaged(ledger_state)] == ["1"]


def lose(folder: Path) -> None:
    (folder / SIGNATURE).unlink()


def exchange(folder: Path) -> None:
    (folder / SIGNATURE).write_text("{}")


@pytest.mark.parametrize("damage", [lose, exchange, change, shutil.rmtree])
def test_a_signature_that_was_lost_or_exchanged_is_fetched_again(
    project: Project, signed: Store, folder: Path, damage: Callable[[Path], None]
) -> None:
    duties = Reconciler(project)
    assert duties.repair_packages() == ()
    damage(folder)
    [told] = duties.repair_packages()
    assert "was damaged and has been fetched again from MLflow" in told
    key = enrol_packaging(open_ledger(project.home), "olga").public
    assert check_signature(folder, [key]) == key
    assert duties.repair_packages() == ()


def test_a_good_signature_is_kept_where_mlflows_was_exchanged(
    project: Project, signed: Store, version: ModelVersion, folder: Path
) -> None:
    good = (folder / SIGNATURE).read_bytes()
    exchange(folder)
    signed.signatures.attach(version, folder)
    [told] = Reconciler(project).repair_packages()
    assert "could not be fetched again" in told
    assert "is no signature of a package" in told
    (folder / SIGNATURE).write_bytes(good)
    repair = PackageRepair(project.home)
    assert repair.damaged(open_ledger(project.home).state()) == ()


def test_a_package_fetched_before_it_was_signed_gets_its_signature_with_the_next_fetch(
    project: Project, signed: Store, version: ModelVersion, folder: Path
) -> None:
    lose(folder)
    signed.fetch(version, folder)
    assert (folder / SIGNATURE).is_file()
