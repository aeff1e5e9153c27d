"""What `assay status` says with nothing running.

The ledger, the files, and what is out of reach.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from cli.status_text import status_lines
from core.project import Project
from operations.status import Status, collect_status
from registry.ledger.entries import (
    BaseServed,
    Body,
    CanaryStep,
    Frozen,
    RolledBack,
    Waived,
)
from registry.ledger.ledger import Ledger, open_ledger
from registry.mlflow.recorded import VERDICT
from tests.support.canaries import plan
from tests.support.fake_endpoint import MODEL, release_of
from tests.support.journey import Checkout
from tests.support.ledgers import begin_release, complete_release, write


class LedgerOfTheDay:
    """A ledger whose entries are written at one time."""

    def __init__(self, home: Path, clock: datetime) -> None:
        self.ledger: Ledger = open_ledger(home, lambda: clock)

    def put(self, body: Body) -> int:
        return write(self.ledger, body)

    def why(self, text: str) -> dict[str, str]:
        return {"by": "ann", "reason_sha256": self.ledger.remember(text)}

    def release(self, version: str, reason: str) -> int:
        why = self.why(reason)
        begun = begin_release(self.ledger, release_of(version), **why)
        complete_release(self.ledger, begun)
        return begun


@pytest.fixture
def project(cloned: Path, tmp_path: Path) -> Iterator[Project]:
    with chdir(cloned):
        yield Project(cloned, tmp_path / "home")


def test_a_canary_is_shown_with_what_it_waits_for(project: Project) -> None:
    day = LedgerOfTheDay(project.home, datetime.now(UTC))
    day.release("1", "the first one")
    canary = release_of("2").model_copy(update={"canary": plan()})
    begun = begin_release(day.ledger, canary, **day.why("better"))
    assert "canary: not begun" in "\n".join(status_lines(collect_status(project)))
    day.put(CanaryStep(begun=begun, weight=5))
    (model,) = collect_status(project).models
    assert model.canary == (
        "5 % of the requests, step 1 of 2; the endpoint has not counted yet"
    )


def test_with_nothing_there_it_says_what_is_missing_and_makes_nothing(
    project: Project,
) -> None:
    found = collect_status(project)
    assert (found.services, found.models, found.ledger, found.followed) == (
        (),
        (),
        None,
        None,
    )
    assert [each for each in found.out_of_reach if "no ledger" in each]
    assert [each for each in found.out_of_reach if "No endpoint" in each]
    assert not project.home.exists()


@pytest.mark.parametrize("name", ["environments.yaml", "people.yaml"])
def test_a_file_that_cannot_be_read_is_a_warning(
    project: Project, tmp_path: Path, name: str
) -> None:
    # A root of its own: other tests read the files of the clone.
    own = Project(tmp_path / "root", project.home)
    own.root.mkdir()
    assert collect_status(own).faulty_files == ()
    (own.root / name).write_text("targets: [\n")
    found = collect_status(own)
    assert [each for each in found.warnings if name in each and "Correct it" in each]
    # The other file is as it was.
    assert len(found.faulty_files) == 1


def test_it_says_what_serves_since_when_by_whom_and_why(project: Project) -> None:
    context = LedgerOfTheDay(project.home, datetime(2030, 5, 1, 12, 0, tzinfo=UTC))
    context.release("1", "the first")
    context.release("2", "better on <b>commands</b>")
    model = only_model(collect_status(project))
    assert (model["version"], model["predecessor"], model["changed"]["by"]) == (
        "2",
        "1",
        "ann",
    )
    assert model["changed"]["why"] == "better on <b>commands</b>"
    assert datetime.fromisoformat(model["changed"]["at"]) == datetime(
        2030, 5, 1, 12, 0, tzinfo=UTC
    )


def test_after_a_rollback_the_reason_is_the_rollbacks(project: Project) -> None:
    context = LedgerOfTheDay(project.home, datetime.now(UTC))
    first = context.release("1", "the first")
    context.release("2", "the second")
    context.put(RolledBack(model=MODEL, to=first, **context.why("complaints")))
    model = only_model(collect_status(project))
    assert (model["version"], model["predecessor"], model["changed"]["why"]) == (
        "1",
        None,
        "complaints",
    )


def test_a_reason_that_was_erased_is_said_to_be(project: Project) -> None:
    context = LedgerOfTheDay(project.home, datetime.now(UTC))
    context.release("1", "secret")
    context.ledger.erase(context.ledger.state().model(MODEL).served[-1].reason_sha256)
    assert only_model(collect_status(project))["changed"]["why"] is None
    assert "reason erased" in "\n".join(status_lines(collect_status(project)))


def test_brakes_are_shown(project: Project) -> None:
    context = LedgerOfTheDay(project.home, datetime.now(UTC))
    context.release("1", "the first")
    context.put(BaseServed(model=MODEL, **context.why("nonsense answers")))
    context.put(Frozen(**context.why("looking into it")))
    found = collect_status(project)
    assert only_model(found)["serves_base"] is True
    assert found.frozen is not None
    assert found.frozen.why == "looking into it"
    said = "\n".join(status_lines(found))
    assert "FROZEN since" in said
    assert "its base alone, over version 1" in said


@pytest.mark.parametrize(
    ("left", "warns"),
    [
        (timedelta(days=3), None),
        (timedelta(hours=5), "ends at"),
        (timedelta(hours=-1), "ended at"),
    ],
)
def test_a_waiver_that_ended_or_ends_within_a_day_is_warned_about(
    project: Project, left: timedelta, warns: str | None
) -> None:
    context = LedgerOfTheDay(project.home, datetime.now(UTC) - timedelta(days=2))
    context.put(
        Waived(
            rule="approvals",
            model=MODEL,
            until=datetime.now(UTC) + left,
            **context.why("the demo"),
        )
    )
    found = collect_status(project)
    assert len(found.waivers) == 1
    warnings = [
        each for each in found.warnings if each.startswith("The waiver of approvals")
    ]
    assert ([warns in each for each in warnings] == [True]) if warns else warnings == []


def test_a_broken_ledger_is_named_and_the_rest_is_shown(
    cloned: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "ledger.db").write_bytes(b"no database at all" * 100)
    done = Checkout(cloned, {"ASSAY_HOME": str(home)}).assay("status", "--json")
    assert done.code == 0, done.err
    assert [each for each in done.last["out_of_reach"] if "ledger" in each]


def test_of_a_ledger_that_cannot_be_read_no_version_is_said_to_be_missing(
    project: Project, empty_mlflow: Path
) -> None:
    project.home.mkdir()
    shutil.copy(empty_mlflow, project.home / "mlflow.db")
    client = MlflowClient(f"sqlite:///{project.home / 'mlflow.db'}")
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, str(project.home), tags={VERDICT: "passed"})
    assert only_model(collect_status(project))["unregistered"] == ["1"]
    (project.home / "ledger.db").write_bytes(b"no database at all" * 100)
    assert only_model(collect_status(project))["unregistered"] == []


def only_model(found: Status) -> Any:
    (model,) = found.models
    return json.loads(model.model_dump_json())
