"""The alias `champion` names what the ledger says was released, whoever wrote it."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.errors import ServingError
from core.notify import notices
from core.project import Project
from flows.promote import promote
from operations.reconcile import Reconciler
from registry.ledger.entries import ReleaseSwitched, Revoked
from registry.ledger.ledger import open_ledger
from registry.mlflow.recorded import CHALLENGER, CHAMPION, PACKAGE
from registry.mlflow.store import Store
from registry.release.context import ChangeRequest
from tests.support.journey import ROOT, Package
from tests.support.ledgers import (
    MODEL,
    WHY,
    append_released,
    begun,
    judged,
    package,
    write,
)


@pytest.fixture
def project(
    empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """This checkout with another home, in which version 1 of a model was released."""
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    append_released(open_ledger(tmp_path))
    return Project(ROOT, tmp_path)


@pytest.fixture
def client(project: Project) -> MlflowClient:
    uri = f"sqlite:///{project.home / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def register(client: MlflowClient, model: str, *packages: str) -> None:
    """Versions 1, 2, … of a model, by the digests of their packages."""
    client.create_registered_model(model)
    for digest in packages:
        client.create_model_version(model, "nowhere", tags={PACKAGE: digest})


def champion(client: MlflowClient, model: str = MODEL) -> str | None:
    found = client.get_registered_model(model).aliases.get(CHAMPION)
    return None if found is None else str(found)


def test_the_package_that_was_released_becomes_champion(
    project: Project, client: MlflowClient
) -> None:
    register(client, MODEL, package("1"), package("2"))
    duties = Reconciler(project)
    assert duties.put_champions_back() == (f"champion of {MODEL}: none → 1",)
    client.set_registered_model_alias(MODEL, CHAMPION, "2")
    assert duties.put_champions_back() == (f"champion of {MODEL}: 2 → 1",)
    assert (champion(client), duties.put_champions_back()) == ("1", ())


def test_a_model_of_somebody_else_keeps_its_champion(
    project: Project, client: MlflowClient
) -> None:
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "nowhere")
    client.set_registered_model_alias("theirs", CHAMPION, "1")
    Reconciler(project).put_champions_back()
    assert champion(client, "theirs") == "1"


def test_a_revoked_version_is_not_under_review_any_more(
    project: Project, client: MlflowClient
) -> None:
    register(client, MODEL, package("1"), package("2"))
    client.set_registered_model_alias(MODEL, CHALLENGER, "2")
    duties = Reconciler(project)
    duties.put_champions_back()
    assert "challenger" in client.get_registered_model(MODEL).aliases
    ledger = open_ledger(project.home)
    ledger.append(
        Revoked(model=MODEL, version="2", by="olga", reason_sha256=WHY), ledger.state()
    )
    assert duties.put_champions_back() == (
        f"challenger of {MODEL}: 2 → none, since it is revoked",
    )
    assert "challenger" not in client.get_registered_model(MODEL).aliases


def test_a_model_that_was_never_released_keeps_no_champion(
    project: Project, client: MlflowClient
) -> None:
    register(client, MODEL, package("1"))
    register(client, "never", package("1"))
    client.set_registered_model_alias("never", CHAMPION, "1")
    told = Reconciler(project).put_champions_back()
    assert told == (f"champion of {MODEL}: none → 1", "champion of never: 1 → none")
    assert (champion(client, "never"), champion(client)) == (None, "1")
    assert [notice.text for notice in notices(project.home)] == list(told)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_model_that_was_made_anew_under_the_same_numbers_has_no_champion(
    project: Project, client: MlflowClient, by_hand: bool
) -> None:
    register(client, MODEL, "f" * 64)
    if by_hand:
        client.set_registered_model_alias(MODEL, CHAMPION, "1")
    duties = Reconciler(project)
    (told,) = duties.put_champions_back()
    assert (
        f"{MODEL} has no champion: version 1, which the ledger says is released, is another "
        "package in MLflow now" in told
    )
    assert champion(client) is None
    assert duties.put_champions_back() == (), "it is told once"


def test_a_version_that_takes_the_place_of_a_deleted_one_is_no_champion(
    project: Project, client: MlflowClient
) -> None:
    register(client, MODEL, package("1"), package("2"))
    client.delete_model_version(MODEL, "1")
    client.set_registered_model_alias(MODEL, CHAMPION, "2")
    (told,) = Reconciler(project).put_champions_back()
    assert "is not in MLflow any more" in told
    assert champion(client) is None


def test_an_order_to_promote_without_an_endpoint_leaves_a_switched_release_as_it_is(
    project: Project, client: MlflowClient, package: Package
) -> None:
    store, ledger = (
        Store(f"sqlite:///{project.home / 'mlflow.db'}", locks=project.home / "leases"),
        open_ledger(project.home),
    )
    package.register(
        store, store.runs.begin("work", "letters on tiny", {"assay.model": "tiny"})
    )
    by_verdict = write(ledger, judged("2", "tiny"))
    release = write(ledger, begun(by_verdict, "2", "tiny"))
    write(ledger, ReleaseSwitched(begun=release))
    ledger_state = ledger.state()
    with pytest.raises(ServingError, match=r"No endpoint of .* runs"):
        promote(project, "tiny", "1", ChangeRequest("rita", "it is better"))
    assert ledger.state() == ledger_state
