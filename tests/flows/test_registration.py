"""A run enters its version into the ledger.

Once, with the bytes that it made, also after a kill in between.
"""

import json
import shutil
from pathlib import Path

import pytest

from core.account import operating_system_account
from core.errors import LedgerError, RegistryError, ReleaseError
from core.project import Project
from flows.run.registration import enter_version
from flows.signing import sign_own_package
from operations.adopt import adopt
from registry.ledger.enrolment import enrol_packaging
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.rotation import KeyOrder, revoke_key, rotate_role
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import ModelVersion
from registry.release.context import ChangeRequest
from registry.release.package_signature import SIGNATURE
from registry.release.signer import find_signature
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
    # The key that signed its package, and the version: each once.
    assert site.kinds == ["opened", "key_added", "registered"]
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


def counts(site: Site) -> bool:
    """Whether the version, as MLflow has it, bears a signature that `judge` takes."""
    path = site.checkout.home / "as-judged"
    shutil.rmtree(path, ignore_errors=True)
    package = site.store.fetch(site.version, path)
    ledger_state = site.ledger.state()
    found = find_signature(package, ledger_state, ledger_state.head.generation + 1)
    return found.signature is not None


def test_a_run_registers_what_is_signed_and_leaves_the_signature_as_it_is(
    site: Site,
) -> None:
    site.enter()
    assert counts(site)
    stored = site.store.signatures.read(site.version)
    site.enter()
    assert site.store.signatures.read(site.version) == stored


def test_a_version_that_is_not_signed_yet_is_signed_by_the_run_that_goes_on(
    site: Site,
) -> None:
    stored = artifacts_of(site) / SIGNATURE
    # So it is with a version of an earlier Assay, which was killed before the entry.
    stored.unlink()
    (site.own / SIGNATURE).unlink()
    assert not counts(site)
    site.enter()
    assert counts(site)
    assert site.kinds[-1] == "registered"


def test_a_version_that_was_signed_before_a_rotation_is_signed_again_before_its_entry(
    site: Site,
) -> None:
    key = sign_own_package(site.ledger, site.own)
    site.store.signatures.attach(site.version, site.own)
    rotate_role(site.ledger, "packaging", KeyOrder("olga", "every year"))
    # Killed before the entry: the old key would not count for what is entered later.
    assert not counts(site)
    site.enter()
    assert counts(site)
    assert site.ledger.state().key(key.key_id) is None


def test_a_lost_signature_is_made_again_for_the_bytes_that_were_registered(
    site: Site,
) -> None:
    site.enter()
    (artifacts_of(site) / SIGNATURE).unlink()
    assert not counts(site)
    done = invoke(site.checkout, "sign", "1", "--model", MODEL)
    assert done.code == 0, done.err
    assert "is signed by key" in done.out
    assert counts(site)


def test_nothing_is_signed_that_the_ledger_does_not_hold(site: Site) -> None:
    done = invoke(site.checkout, "sign", "1", "--model", MODEL)
    assert done.code == 1
    assert "The ledger does not hold version 1" in done.err
    assert "assay adopt 1" in done.err


def test_without_its_key_a_run_registers_nothing_and_says_what_to_do(
    site: Site,
) -> None:
    key = enrol_packaging(site.ledger, "olga").public
    order = KeyOrder("olga", "it was on the laptop")
    revoke_key(site.ledger, key.key_id, order, is_compromised=True)
    with pytest.raises(LedgerError, match="rotate-key --role packaging"):
        site.enter()
    assert "registered" not in site.kinds


def artifacts_of(site: Site) -> Path:
    """Where MLflow keeps the files of the version."""
    found = site.checkout.home.rglob("adapter.json")
    folders = [path.parent for path in found if "artifacts" in str(path)]
    (folder,) = [each for each in folders if (each / "package.json").exists()]
    return folder


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
    assert site.kinds == ["opened", "key_added", "adopted"]
    assert "not in the ledger" not in invoke(site.checkout, "status").out
    assert "adopted letters-tiny 1 by omar" in invoke(site.checkout, "history").out
    site.enter()  # the run that was killed goes on: who answers for the version stays on record
    assert site.kinds == ["opened", "key_added", "adopted"]
