"""A run enters its version into the ledger.

Once, with the bytes that it made, also after a kill in between.
"""

import json
from pathlib import Path

import pytest

from core.account import operating_system_account
from core.errors import RegistryError, ReleaseError
from core.project import Project
from flows.run.registration import enter_version
from operations.adopt import adopt
from registry.ledger.ledger import Ledger, open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import ModelVersion
from registry.release.context import ChangeRequest
from tests.support.journey import Checkout, Journey, invoke, make_checkout, take_records
from tests.support.tiny import pack

MODEL = "letters-tiny"


class Site:
    """A home whose MLflow knows the judged version and whose ledger is new.

    So it is after a kill before the entry.
    """

    def __init__(self, checkout: Checkout, own: Path) -> None:
        self.checkout, self.own = checkout, own
        self.store = open_store(Project(checkout.root, checkout.home))
        self.version: ModelVersion = self.store.get_version(MODEL, "1")
        self.ledger: Ledger = open_ledger(checkout.home)

    def enter(self, own: Path | None = None) -> None:
        enter_version(
            self.ledger,
            self.store,
            self.checkout.home / "packages",
            self.version,
            own or self.own,
        )

    @property
    def kinds(self) -> list[str]:
        return [entry.body.kind for entry in self.ledger.entries()]


@pytest.fixture
def site(judged: Journey, cloned: Path, empty_mlflow: Path, tmp_path: Path) -> Site:
    checkout = make_checkout(tmp_path / "assay", cloned, empty_mlflow)
    take_records(judged.checkout, checkout)
    version = judged.checkout.store.get_version(MODEL, "1")
    own = judged.checkout.store.fetch(version, tmp_path / "own")
    return Site(checkout, own)


def test_a_version_is_entered_once_with_its_bytes_author_and_account(
    site: Site,
) -> None:
    site.enter()
    site.enter()
    assert site.kinds == ["opened", "registered"]
    known = site.ledger.state().registration(MODEL, "1")
    assert known is not None
    assert known.made.package_sha256 == site.version.package_sha256
    adapter = json.loads((site.own / "adapter.json").read_text(encoding="utf-8"))
    assert known.made.adapter_sha256 == adapter["sha256"]
    assert (known.account, known.is_adopted) == (operating_system_account(), False)


def test_a_version_of_an_attempt_that_was_killed_is_entered_as_it_was_registered(
    site: Site,
) -> None:
    lineage = json.loads((site.own / "lineage.json").read_text(encoding="utf-8"))
    (site.own / "lineage.json").write_text(
        json.dumps({**lineage, "run_id": "another-workspace"}), encoding="utf-8"
    )
    pack(site.own)
    site.enter()
    known = site.ledger.state().registration(MODEL, "1")
    assert known is not None
    assert known.made.package_sha256 == site.version.package_sha256


@pytest.mark.parametrize(
    "name",
    [
        "evidence.parquet",
        "adapter/adapter_model.safetensors",
        "verdict.json",
        "another.json",
    ],
)
def test_a_version_that_only_bears_the_runs_tag_is_not_entered(
    site: Site, name: str
) -> None:
    with (site.own / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(
        RegistryError,
        match=f"bears this run's tag, and its {name} is not what the run made",
    ):
        site.enter()
    assert site.kinds == ["opened"]


def test_a_version_from_before_is_shown_and_can_be_adopted_once_by_name(
    site: Site,
) -> None:
    shown = invoke(site.checkout, "status")
    assert "not in the ledger (`assay adopt` answers for one): 1" in shown.out
    order = ChangeRequest(
        "omar", "it is from before runs entered theirs", "1002 (omar)"
    )
    project = Project(site.checkout.root, site.checkout.home)
    known = adopt(project, MODEL, "1", order)
    assert (known.by, known.account, known.is_adopted) == ("omar", "1002 (omar)", True)
    with pytest.raises(ReleaseError, match="is in the ledger already"):
        adopt(project, MODEL, "1", order)
    assert site.kinds == ["opened", "adopted"]
    assert "not in the ledger" not in invoke(site.checkout, "status").out
    assert "adopted letters-tiny 1 by omar" in invoke(site.checkout, "history").out
    site.enter()  # the run that was killed goes on: who answers for the version stays on record
    assert site.kinds == ["opened", "adopted"]
