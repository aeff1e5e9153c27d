"""What stands first on a version's page in MLflow, and what becomes of the rest."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.project import Project
from operations.desk import Desks
from registry.ledger.entries import Approved, Revoked
from registry.ledger.ledger import Ledger, open_ledger
from registry.mlflow.card import begin_with
from registry.mlflow.recorded import CHALLENGER, PACKAGE
from registry.mlflow.store import Store
from tests.support.journey import ROOT
from tests.support.ledgers import (
    MODEL,
    begun,
    judged,
    package,
    registered,
    write,
)

CARD = "Passed screen."


class Site:
    """Version 1 was released, and version 2 is the challenger."""

    def __init__(self, home: Path) -> None:
        self.uri = f"sqlite:///{home / 'mlflow.db'}"
        self.client = MlflowClient(self.uri, self.uri)
        self.ledger: Ledger = open_ledger(home)
        self.client.create_registered_model(MODEL)
        for number in ("1", "2"):
            write(self.ledger, registered(number))
            tags = {PACKAGE: package(number)}
            self.client.create_model_version(
                MODEL, "nowhere", tags=tags, description=CARD
            )
        self.client.set_registered_model_alias(MODEL, CHALLENGER, "2")
        self.store = Store(self.uri, locks=home / "leases")
        self.desks = Desks(Project(ROOT, home))

    def keep(self) -> tuple[str, ...]:
        return self.desks.keep(self.store, self.ledger.state())

    def page(self, number: str) -> str:
        return str(self.client.get_model_version(MODEL, number).description)


@pytest.fixture
def site(empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    return Site(tmp_path)


def release_one(site: Site) -> None:
    ledger_state = site.ledger.state()
    verdict = judged("1").model_copy(
        update={
            "registration": ledger_state.registrations[f"{MODEL} 1"].generation,
            "adapter_sha256": ledger_state.registrations[
                f"{MODEL} 1"
            ].made.adapter_sha256,
        }
    )
    write(site.ledger, begun(write(site.ledger, verdict), "1"))


def test_what_is_on_its_way_serves_or_is_revoked_says_so_first(site: Site) -> None:
    release_one(site)
    site.keep()
    assert site.page("1").startswith(f"**Version 1 of {MODEL} is on its way**")
    assert site.page("1").endswith(CARD)
    assert "release begun" in site.page("1")
    write(
        site.ledger,
        Revoked(
            by="eve [x](http://evil) *<b>*",
            reason_sha256=site.ledger.remember("| <script>"),
            model=MODEL,
            version="1",
        ),
    )
    site.client.set_registered_model_alias(MODEL, CHALLENGER, "1")
    site.keep()
    page = site.page("1")
    assert page.startswith(f"**Version 1 of {MODEL} is revoked.**")
    assert "<script>" not in page
    assert "[x]" not in page
    assert page.count(CARD) == 1


def test_an_approval_is_on_the_page_within_a_round(site: Site) -> None:
    release_one(site)
    site.keep()
    assert "Approvals: nobody's approval stands." in site.page("1")
    approval = Approved(
        by="ann",
        account="mlflow:ann",
        reason_sha256=site.ledger.remember("read it"),
        model=MODEL,
        version="1",
        package_sha256=package("1"),
    )
    write(site.ledger, approval)
    site.keep()
    assert "Approvals: ann (mlflow:ann) on 20" in site.page("1")
    assert "approved letters 1 by ann: read it" in site.page("1")


def test_a_page_is_written_once_while_nothing_changes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_one(site)
    site.keep()
    written: list[str] = []
    monkeypatch.setattr(Store, "put_first", lambda *_: written.append("again"))
    site.keep()
    assert written == []


def test_a_page_that_cannot_be_judged_is_named_and_tried_again_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sentence,) = site.keep()
    assert sentence.startswith(f"The page of Version 2 of {MODEL} is out of date: ")
    assert site.page("2") == CARD
    # Not in every round: to judge a version takes seconds.
    assert site.keep() == ()
    monkeypatch.setattr("operations.desk._SECONDS_BETWEEN_ATTEMPTS", 0.0)
    assert site.keep() == (sentence,)


def test_the_first_part_takes_the_place_of_the_one_before_and_a_long_card_is_cut() -> (
    None
):
    once = begin_with("not yet", CARD)
    assert begin_with("serves", once) == begin_with("serves", CARD)
    assert begin_with("serves", "").startswith("serves")
    assert len(begin_with("serves", "x" * 6000)) == 5000
    # However long the first part is, the next one takes its place.
    long = begin_with("y" * 9000, CARD)
    assert begin_with("serves", long) == begin_with("serves", CARD)
