"""What somebody does while a version is judged, which takes minutes, comes before its release."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import ReleaseError
from core.project import Project
from flows.promote import Begun, begin_promotion
from registry.ledger.entries import (
    BaseServed,
    Rated,
    ReleaseCompleted,
    ReleaseSwitched,
    ReviewOpened,
)
from registry.ledger.ledger import Ledger, open_ledger
from registry.release.approvals import Target, approve, withdraw
from registry.release.context import ChangeRequest
from registry.release.people import DEFAULT
from tests.support.fake_endpoint import Bench
from tests.support.journey import Checkout, copy_checkout
from tests.support.ledgers import WHY, write
from tests.support.promoted import MODEL, register_again, waive, waived_site

pytestmark = pytest.mark.ci

MANAGER = ChangeRequest(by="manager", reason="good", account="mlflow:manager")


class Interrupted(Ledger):
    """Somebody acts just before the controller keeps or reads its next text."""

    def __init__(self, home: Path, act: Callable[[], object], texts: int = 0) -> None:
        """`texts` are kept before that one."""
        own = open_ledger(home)
        super().__init__(home, own.database)
        self._act, self._left = act, texts

    def remember(self, text: str) -> str:
        self._interrupt()
        return super().remember(text)

    def recall(self, sha256: str) -> str | None:
        self._interrupt()
        return super().recall(sha256)

    def _interrupt(self) -> None:
        if self._left == 0:
            self._act()
        self._left -= 1


@pytest.fixture(scope="module")
def prepared(recorded: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Two versions that passed `screen`; nothing was released."""
    root = tmp_path_factory.mktemp("while")
    site = waived_site(recorded, root / "assay")
    waive(site, "comparator")
    register_again(site, root)
    return site


@pytest.fixture
def site(prepared: Checkout, tmp_path: Path) -> Checkout:
    return copy_checkout(prepared, tmp_path / "assay")


def begin(site: Checkout, version: str, ledger: Ledger) -> None:
    """As the controller does it, beside an endpoint with nothing to do."""
    context = replace(Bench(ledger).context, ledger=ledger)
    project = Project(site.root, site.home)
    begun = begin_promotion(project, MODEL, version, MANAGER, context)
    assert isinstance(begun, Begun)


def kinds(site: Checkout) -> list[str]:
    return [entry.body.kind for entry in open_ledger(site.home).entries()]


def test_a_brake_that_is_pulled_meanwhile_is_not_undone(site: Checkout) -> None:
    ledger = open_ledger(site.home)
    begin(site, "1", ledger)
    at = ledger.state().head.generation
    write(ledger, ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
    brake = BaseServed(model=MODEL, by="olga", reason_sha256=WHY)
    interrupted = Interrupted(site.home, lambda: write(ledger, brake))
    with pytest.raises(ReleaseError, match="What serves as letters-tiny was changed"):
        begin(site, "2", interrupted)
    assert kinds(site)[-2:] == ["base_served", "judged"]
    # Asked for once more, it is judged against what serves by now.
    begin(site, "2", ledger)


def test_an_approval_that_is_taken_back_after_the_verdict_is_obeyed(
    site: Checkout,
) -> None:
    ledger, target = open_ledger(site.home), Target(MODEL, "1")
    approve(target, MANAGER, DEFAULT, ledger)
    # The first text is that of the verdict, the second one says why it is released.
    interrupted = Interrupted(
        site.home, lambda: withdraw(target, MANAGER, ledger), texts=1
    )
    with pytest.raises(ReleaseError, match="manager took an approval of it back"):
        begin(site, "1", interrupted)
    assert kinds(site)[-2:] == ["judged", "approval_withdrawn"]


def test_a_policy_that_is_changed_meanwhile_makes_no_verdict(site: Checkout) -> None:
    ledger = open_ledger(site.home)
    registration = ledger.state().registration(MODEL, "1")
    assert registration is not None
    reviewed = {
        "by": "ann",
        "model": MODEL,
        "version": "1",
        "package_sha256": registration.made.package_sha256,
    }
    asked = {"against": "base", "plan_sha256": WHY, "reviewers": ["bob"]}
    opened = write(ledger, ReviewOpened.model_validate(reviewed | asked))
    found = {"opened": opened, "ratings_sha256": WHY, "raters": 0, "prompts": 0}
    write(ledger, Rated.model_validate(reviewed | found))
    before = kinds(site)
    policy = site.root / "registry/policies/default.yaml"

    def loosen() -> None:
        policy.write_text(policy.read_text() + "# looser\n")

    # The first text that is asked for is the review's sealed plan.
    with pytest.raises(ReleaseError, match="was changed while version 1 of"):
        begin(site, "1", Interrupted(site.home, loosen))
    assert kinds(site) == before
