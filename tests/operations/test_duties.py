"""What the controller looks after.

One model that is in disorder keeps nobody from hearing of the others.
"""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.errors import ServingError
from core.notify import notices
from core.project import Project
from operations.reconcile import Reconciler
from registry.ledger.audit import PAGE_TAG
from registry.ledger.entries import Waived
from registry.ledger.ledger import open_ledger
from tests.support.journey import ROOT
from tests.support.ledgers import WHY, begun, complete_release, judged, write

MODELS = ("aaa", "letters", "zzz")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Policies of its own, and a ledger in which three models serve.

    `letters` leans on a waiver that ends soon.
    """
    shutil.copytree(ROOT / "registry/policies", tmp_path / "registry/policies")
    ledger = open_ledger(tmp_path / "home")
    until = datetime.now(UTC) + timedelta(minutes=30)
    waiver = Waived(
        rule="approvals", model="letters", until=until, by="olga", reason_sha256=WHY
    )
    generation = write(ledger, waiver)
    for model in MODELS:
        waivers = (generation,) if model == "letters" else ()
        by_verdict = write(ledger, judged("1", model, waivers=waivers))
        complete_release(ledger, write(ledger, begun(by_verdict, "1", model)))
    return Project(tmp_path, tmp_path / "home")


def notice_texts(project: Project) -> list[str]:
    return [notice.text for notice in notices(project.home)]


def test_a_policy_that_cannot_be_read_is_told_beside_the_alarms_of_other_models(
    project: Project,
) -> None:
    (project.root / "registry/policies/aaa.yaml").write_text("gates: [oops\n")
    sentences = Reconciler(project).raise_alarms()
    assert any(
        sentence.startswith(
            "The waiver of approvals that letters version 1 depends on ends at"
        )
        for sentence in sentences
    )
    assert any(
        sentence.startswith("Whether the evidence of aaa is too old is not known:")
        for sentence in sentences
    )
    assert tuple(notice_texts(project)) == sentences


def test_a_version_that_was_deleted_keeps_no_other_page_from_the_ledgers_head(
    project: Project, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{shutil.copyfile(empty_mlflow, project.home / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri, uri)
    for model in MODELS:
        client.create_registered_model(model)
        client.create_model_version(model, "nowhere")
    client.delete_model_version("letters", "1")
    duties = Reconciler(project)
    (sentence,) = duties.write_heads()
    assert sentence.startswith(
        "The page of letters version 1 does not say how far the ledger goes: There is no "
        "version 1 of letters."
    )
    mark = open_ledger(project.home).state().head.as_tag
    assert [
        client.get_model_version(model, "1").tags[PAGE_TAG] for model in ("aaa", "zzz")
    ] == [mark, mark]
    assert (duties.write_heads(), notice_texts(project)) == ((), [sentence])


def test_an_endpoint_that_starts_is_given_its_time_and_one_that_stays_away_is_told_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    duties = Reconciler(project)
    with pytest.raises(ServingError):
        duties.ring()
    assert notice_texts(project) == []
    monkeypatch.setattr("operations.reconcile.SECONDS_TO_START", 0)
    (sentence,) = duties.ring()
    assert "The endpoint has been away" in sentence
    assert "No endpoint of" in sentence
    assert (duties.ring(), notice_texts(project)) == ((), [sentence])
