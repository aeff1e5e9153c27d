"""The tag `approve` on a version's page in MLflow, and who may set it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException

from registry.ledger.entries import ApprovalWithdrawn, Approved
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.state import RecordedApproval
from registry.mlflow import acting
from registry.mlflow.approving import APPROVALS, with_approvals
from registry.mlflow.desk import Desk, prepare_desk
from registry.mlflow.guarded_stores import MODELS, guard_store
from registry.mlflow.recorded import PACKAGE
from registry.release.people import FILE
from tests.support.ledgers import MODEL, adopted, package, registered

NONE = {APPROVALS: "nobody's approval stands"}
PEOPLE = """\
people:
  manager: {mlflow: [manager], roles: [approver, release_manager]}
  rita: {mlflow: [rita], roles: [approver]}
  lena: {mlflow: [lena.m], accounts: [lena], roles: [author, approver]}
  scientist: {mlflow: [scientist], roles: [author]}
"""


def made_tag(key: str, value: str) -> ModelVersionTag:
    return ModelVersionTag(key, value)  # type: ignore[no-untyped-call]  # mlflow leaves it untyped


class Page:
    """Version 1 as people see it in MLflow, over a ledger in which lena trained it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

        self.root = root
        self._patch = monkeypatch
        monkeypatch.setattr(acting._Server, "takes_requests", True)
        self.ledger: Ledger = open_ledger(root)
        self.ledger.append(registered(), self.ledger.state())
        guarded = guard_store(SqlAlchemyStore, MODELS)
        desk = Desk(root, root)
        prepare_desk(desk)
        self.store: Any = with_approvals(guarded, desk)(f"sqlite:///{root}/mlflow.db")
        self.act_as("assay")
        self.store.create_registered_model(MODEL)
        self.add_version(PACKAGE, package("1"))

    def act_as(self, user: str) -> None:
        for module in ("guarded_stores", "approving"):
            name = f"registry.mlflow.{module}.current_account"
            self._patch.setattr(name, lambda: user)

    def add_version(self, key: str, value: str, **more: Any) -> None:
        tags = [made_tag(key, value)]
        self.store.create_model_version(MODEL, "prompt-template", tags=tags, **more)

    def set(
        self, user: str, value: str, key: str = "approve", version: Any = 1
    ) -> None:
        self.act_as(user)
        self.store.set_model_version_tag(MODEL, version, made_tag(key, value))

    def delete(self, user: str, key: str = "approve") -> None:
        self.act_as(user)
        self.store.delete_model_version_tag(MODEL, "1", key)

    @property
    def tags(self) -> dict[str, str]:
        found: dict[str, str] = self.store.get_model_version(MODEL, 1).tags
        return {key: text for key, text in found.items() if key != PACKAGE}

    @property
    def approvals(self) -> tuple[RecordedApproval, ...]:
        return self.ledger.state().approvals

    def refuses(self, fact: str, user: str, value: str = "good", **more: Any) -> None:
        """403 with that fact, and nothing changes."""
        before = (self.tags, self.ledger.state().head)
        with pytest.raises(MlflowException, match=fact) as refused:
            self.set(user, value, **more)
        assert refused.value.error_code == "PERMISSION_DENIED"
        assert "\n" not in str(refused.value)
        assert (self.tags, self.ledger.state().head) == before


@pytest.fixture
def page(empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    (tmp_path / FILE).write_text(PEOPLE)
    return Page(tmp_path, monkeypatch)


def test_the_tag_is_an_approval_that_admissions_key_signs(page: Page) -> None:
    page.set("manager", "  read the worst twenty answers ")
    (approval,) = page.approvals
    assert (approval.by, approval.account) == ("manager", "mlflow:manager")
    assert approval.package_sha256 == package("1")
    entry = page.ledger.entries()[-1]
    assert isinstance(entry.body, Approved)
    assert entry.key_id == load_key(page.root, "admission").public.key_id
    why = page.ledger.recall(entry.body.reason_sha256)
    assert why == "read the worst twenty answers"
    # The page shows what is on record, not what was typed.
    assert set(page.tags) == {APPROVALS}
    assert f"entry {entry.generation}" in page.tags[APPROVALS]
    assert "manager (mlflow:manager) on 20" in page.tags[APPROVALS]


def test_a_second_approver_is_shown_beside_the_first_and_deleting_takes_ones_own_back(
    page: Page,
) -> None:
    page.set("manager", "good")
    page.set("rita", "good too")
    assert "manager (" in page.tags[APPROVALS]
    assert "; rita (" in page.tags[APPROVALS]
    page.delete("manager")
    assert [approval.by for approval in page.approvals] == ["rita"]
    assert page.tags[APPROVALS].startswith("rita (")
    with pytest.raises(MlflowException, match="manager has not approved version 1"):
        page.delete("manager")
    page.delete("rita")
    assert not page.approvals
    assert page.tags == NONE


@pytest.mark.parametrize("key", ["disapprove", "DisApprove"])
def test_a_tag_takes_an_approval_back_with_the_reason(page: Page, key: str) -> None:
    page.refuses("manager has not approved version 1", "manager", key=key)
    page.set("manager", "good")
    page.refuses("The tag is empty", "manager", value=" ", key=key)
    page.refuses("rita has not approved", "rita", key=key)
    page.set("manager", "answer 12 is wrong", key=key)
    assert not page.approvals
    assert page.tags == NONE
    body = page.ledger.entries()[-1].body
    assert isinstance(body, ApprovalWithdrawn)
    assert page.ledger.recall(body.reason_sha256) == "answer 12 is wrong"


def test_asking_twice_is_one_entry(page: Page) -> None:
    page.set("manager", "good")
    head = page.ledger.state().head
    page.set("manager", "good", version="1")
    assert page.ledger.state().head == head


@pytest.mark.parametrize(
    "key", ["Approve", "APPROVE", " approve", "ａｐｐｒｏｖｅ", "app\u200brove"]
)
def test_a_name_that_looks_like_it_is_the_tag(page: Page, key: str) -> None:
    page.refuses("does not have the role approver", "scientist", key=key)
    page.set("manager", "good", key=key)
    assert len(page.approvals) == 1
    assert set(page.tags) == {APPROVALS}
    page.delete("manager", key)
    assert not page.approvals
    assert page.tags == NONE


def test_who_may_not_approve_is_refused_with_the_reason(page: Page) -> None:
    page.refuses(r"ask one who has it \(lena, manager, rita\)", "scientist")
    page.refuses("does not have the role approver", "admin")
    page.refuses("does not have the role approver", "assay")
    page.refuses("set on a version's page, by a person", "")
    # The author, under the user that people.yaml says is the same human.
    page.refuses("nobody approves their own", "lena.m")
    for empty in ("", " ", "\t\n"):
        page.refuses("is empty", "manager", value=empty)
    page.refuses("may have 100 letters", "m" * 101)
    with pytest.raises(MlflowException, match="not found"):
        page.set("manager", "good", version=9)


def test_a_version_that_assay_did_not_register_is_not_approved(page: Page) -> None:
    page.act_as("assay")
    page.add_version("team", "a")
    page.refuses("Assay did not register version 2", "manager", version=2)
    page.act_as("assay")
    page.add_version(PACKAGE, "d" * 64)
    page.refuses("The ledger does not know version 3", "manager", version=3)
    # MLflow was lost and counts from 1 again: the page is about other bytes.
    body = adopted("3")
    page.ledger.append(body, page.ledger.state())
    page.refuses("is about other bytes than entry", "manager", version=3)


def test_a_version_is_not_created_with_the_tag_and_no_method_sets_it_by_the_way(
    page: Page,
) -> None:
    page.act_as("manager")
    for key in ("approve", "Approve", "ａｐｐｒｏｖｅ"):
        with pytest.raises(MlflowException) as refused:
            page.add_version(key, "good")
        assert refused.value.error_code == "PERMISSION_DENIED"
    with pytest.raises(MlflowException, match="by a person"):
        page.store.set_prompt_version_tag(MODEL, "1", "approve", "good")
    assert not page.approvals
    assert not page.tags


def test_other_tags_stay_as_free_as_they_were(page: Page) -> None:
    page.set("scientist", "yes", key="approved")
    page.set("scientist", "yes", key="team.approve")
    assert page.tags == {"approved": "yes", "team.approve": "yes"}
    page.delete("scientist", "approved")
    page.refuses("written by the account 'assay' alone", "manager", key=APPROVALS)


def test_without_a_file_that_can_be_read_nobody_approves(page: Page) -> None:
    (page.root / FILE).write_text("people: [")
    page.refuses("does not say who may do what", "manager")


def test_with_the_ledger_lost_the_server_starts_and_takes_no_approval(
    page: Page,
) -> None:
    (page.root / "ledger.db").unlink()
    prepare_desk(Desk(page.root, page.root))
    with pytest.raises(MlflowException) as failed:
        page.set("manager", "good")
    assert failed.value.error_code == "INTERNAL_ERROR"
    assert not (page.root / "ledger.db").exists()
