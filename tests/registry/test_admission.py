"""Aliases in MLflow's store, with a controller that answers every wish."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException

from registry.ledger.entries import WishClosed, Wished
from registry.ledger.ledger import Ledger, open_ledger
from registry.mlflow import acting
from registry.mlflow.admission import Admission
from registry.mlflow.desk import Desk
from registry.mlflow.guarded_stores import MODELS, guard_store
from registry.mlflow.recorded import PACKAGE, RELEASE_NOTE, RELEASE_REASON
from tests.support.ledgers import MODEL, begun, judged, package, registered, write


def tag(key: str, value: str) -> ModelVersionTag:
    return ModelVersionTag(key, value)  # type: ignore[no-untyped-call]  # mlflow leaves it untyped


class Page:
    """Version 1, which the ledger knows and nobody released."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

        self._patch = monkeypatch
        monkeypatch.setattr(acting._Server, "takes_requests", True)
        self.ledger: Ledger = open_ledger(root)
        write(self.ledger, registered())
        rules = {**MODELS, **Admission(Desk(root, root)).rules}
        guarded = guard_store(SqlAlchemyStore, rules)
        self.store: Any = guarded(f"sqlite:///{root}/mlflow.db")
        self.act_as("assay")
        self.store.create_registered_model(MODEL)
        self.add_version(package("1"))

    def add_version(self, digest: str) -> None:
        self.store.create_model_version(
            MODEL, "nowhere", tags=[tag(PACKAGE, digest), tag(RELEASE_NOTE, "put back")]
        )

    def act_as(self, user: str) -> None:
        name = "registry.mlflow.guarded_stores.current_account"
        self._patch.setattr(name, lambda: user)

    def give_reason(self, version: str = "1") -> None:
        self.store.set_model_version_tag(MODEL, version, tag(RELEASE_REASON, "good"))

    def release(self, version: str = "1") -> None:
        self.store.set_registered_model_alias(MODEL, "release", version)

    @property
    def aliases(self) -> dict[str, str]:
        model = self.store.get_registered_model(MODEL)
        return {alias: str(version) for alias, version in model.aliases.items()}

    def refuses(self, words: str, version: str = "1") -> None:
        with pytest.raises(MlflowException, match=words) as refused:
            self.release(version)
        assert refused.value.error_code == "PERMISSION_DENIED"
        assert "release" not in self.aliases

    @contextmanager
    def controller(self, *, grants: bool) -> Iterator[None]:
        """Answers each wish until the context ends."""
        over = threading.Event()

        def answer() -> None:
            ledger = open_ledger(self.ledger.home)
            while not over.wait(0.02):
                wish = ledger.state().model(MODEL).wish
                if wish is not None and grants:
                    verdict = write(ledger, _judgement(ledger))
                    release = begun(verdict, "1")
                    write(
                        ledger, release.model_copy(update={"wished": wish.generation})
                    )
                elif wish is not None:
                    reason = ledger.remember("Nobody rated it.")
                    closed = WishClosed(wished=wish.generation, reason_sha256=reason)
                    write(ledger, closed)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _judgement(ledger: Ledger) -> Any:
    registration = ledger.state().registration(MODEL, "1")
    assert registration is not None
    return judged(
        "1",
        registration=registration.generation,
        adapter_sha256=registration.made.adapter_sha256,
    )


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    made = Page(tmp_path, monkeypatch)
    made.act_as("manager")
    return made


def test_a_wish_that_is_granted_moves_the_alias_and_takes_reason_and_note_away(
    page: Page,
) -> None:
    page.give_reason()
    with page.controller(grants=True):
        page.release("01")
    assert page.aliases == {"release": "1"}
    tags = page.store.get_model_version(MODEL, "1").tags
    assert set(tags) == {PACKAGE}
    (wish,) = [e.body for e in page.ledger.entries() if isinstance(e.body, Wished)]
    assert (wish.by, wish.account) == ("manager", "mlflow:manager")
    assert (wish.version, wish.package_sha256) == ("1", package("1"))
    assert page.ledger.recall(wish.reason_sha256) == "good"


def test_a_wish_that_is_refused_moves_nothing_and_keeps_the_reason(page: Page) -> None:
    page.give_reason()
    with page.controller(grants=False):
        page.refuses(r"Nobody rated it \(set_registered_model_alias by manager\)\.")
    assert RELEASE_REASON in page.store.get_model_version(MODEL, "1").tags


def test_a_page_of_other_bytes_than_the_ledger_registered_asks_for_nothing(
    page: Page,
) -> None:
    page.act_as("assay")
    page.add_version("d" * 64)
    page.act_as("manager")
    before = page.ledger.state().head
    for version in ("2", "1"):
        page.give_reason(version)
    # MLflow's second version is none that the ledger knows.
    page.refuses("does not hold version 2 of letters with the bytes", "2")
    page.act_as("assay")
    page.store.set_model_version_tag(MODEL, "1", tag(PACKAGE, "e" * 64))
    page.act_as("manager")
    page.refuses("does not hold version 1 of letters with the bytes")
    kinds = [e.body.kind for e in page.ledger.entries(after=before.generation)]
    assert kinds == ["key_added"]


@pytest.mark.parametrize("user", ["scientist", "admin "])
def test_who_is_no_release_manager_moves_neither_release_nor_anchor(
    page: Page, user: str
) -> None:
    page.give_reason()
    page.act_as(user)
    page.refuses("is no release manager of this project. Ask admin or manager")
    with pytest.raises(MlflowException, match="is no release manager"):
        page.store.set_registered_model_alias(MODEL, "anchor", "1")


def test_the_anchor_is_a_release_managers_to_set_and_to_delete(page: Page) -> None:
    page.store.set_registered_model_alias(MODEL, "anchor", "1")
    assert page.aliases == {"anchor": "1"}
    page.act_as("scientist")
    with pytest.raises(MlflowException, match="is no release manager"):
        page.store.delete_registered_model_alias(MODEL, "anchor")
    page.act_as("manager")
    page.store.delete_registered_model_alias(MODEL, "anchor")
    assert page.aliases == {}


@pytest.mark.parametrize(
    ("alias", "words"),
    [
        ("release", "goes on answering"),
        ("champion", "says what has full traffic"),
        ("Challenger", "newest version that passed"),
    ],
)
def test_no_other_alias_of_assays_is_deleted(
    page: Page, alias: str, words: str
) -> None:
    with pytest.raises(MlflowException, match=words):
        page.store.delete_registered_model_alias(MODEL, alias)


def test_with_people_yaml_broken_nobody_has_a_role(page: Page) -> None:
    page.give_reason()
    (page.ledger.home / "people.yaml").write_text("people: [")
    page.refuses("does not say who may do what")


def test_a_name_that_entries_cannot_hold_is_refused(page: Page) -> None:
    user = "m" * 101
    people = f"people: {{long: {{mlflow: [{user[:100]}], roles: [release_manager]}}}}\n"
    page.give_reason()
    (page.ledger.home / "people.yaml").write_text(people)
    page.act_as(user)
    page.refuses("is no release manager")


def test_models_of_other_people_are_their_own(page: Page) -> None:
    page.act_as("scientist")
    page.store.create_registered_model("theirs")
    page.store.create_model_version("theirs", "dummy-source")
    page.store.set_registered_model_alias("theirs", "release", "1")
    page.store.delete_registered_model_alias("theirs", "release")


def test_nobody_who_is_not_logged_in_moves_any_alias(page: Page) -> None:
    page.act_as("")
    with pytest.raises(MlflowException, match="Nobody is logged in"):
        page.store.set_registered_model_alias(MODEL, "looked-at", "1")
    with pytest.raises(MlflowException, match="Nobody is logged in"):
        page.store.delete_registered_model_alias(MODEL, "looked-at")


@pytest.mark.parametrize("alias", ["r\u0435lease", "ｒelease", "champ\u0131on"])
def test_letters_that_look_like_an_alias_of_assays_are_refused(
    page: Page, alias: str
) -> None:
    with pytest.raises(MlflowException, match="in letters of ASCII"):
        page.store.set_registered_model_alias(MODEL, alias, "1")
    assert page.aliases == {}
