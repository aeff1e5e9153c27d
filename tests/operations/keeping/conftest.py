"""A home with a release in it: made once, copied for each test, its MLflow database moved along."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.project import Project
from flows.run.request import TrainRequest
from flows.run.workspace import open_workspace
from registry.ledger.entries import Release
from registry.ledger.ledger import open_ledger
from registry.mlflow.recorded import VERDICT, ModelVersion, Page, Submission
from registry.mlflow.relocate import relocate
from registry.mlflow.store import Store
from tests.support.journey import Package, git, learnable_rows, write_rows
from tests.support.ledgers import begin_release, complete_release
from tests.support.tiny import tiny_manifest

MODEL = "letters"
OLD_RUN = "20200101-000000-abcdef"


@dataclass(frozen=True)
class Kept:
    """A project, what it released, the run that made that, and an MLflow run that was refused."""

    project: Project
    version: ModelVersion
    run: str
    refused: str

    @property
    def home(self) -> Path:
        return self.project.home

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.home / 'mlflow.db'}", locks=self.home / "leases")

    def copied(self, root: Path) -> "Kept":
        shutil.copytree(self.project.root, root, symlinks=True)
        relocate(root / ".assay/mlflow.db", self.home, root / ".assay")
        return Kept(
            Project(root, root / ".assay"), self.version, self.run, self.refused
        )


@pytest.fixture(scope="session")
def released(
    cloned: Path,
    empty_mlflow: Path,
    tiny_base: Path,
    package: Package,
    tmp_path_factory: pytest.TempPathFactory,
) -> Kept:
    """Version 1 was made by a run, registered, judged and released.

    Another run, long ago, came to nothing.
    """
    root = tmp_path_factory.mktemp("released") / "assay"
    shutil.copytree(cloned, root)
    project = Project(root, root / ".assay")
    project.home.mkdir()
    shutil.copyfile(empty_mlflow, project.home / "mlflow.db")
    tiny_manifest(tiny_base, project.home)
    run = run_on(project, 60)
    forgotten = run_on(project, 70)
    for name in ("pinned", "done"):
        git(
            root,
            "update-ref",
            f"refs/assay/runs/{OLD_RUN}/{name}",
            f"refs/assay/runs/{forgotten}/{name}",
        )
        git(root, "update-ref", "-d", f"refs/assay/runs/{forgotten}/{name}")
    kept = Kept(project, _registered(project, package, run), run, _refused(project))
    release(kept, package)
    return kept


@pytest.fixture
def kept(released: Kept, tmp_path: Path) -> Kept:
    return released.copied(tmp_path / "assay")


@pytest.fixture
def elsewhere(cloned: Path, tmp_path: Path) -> Callable[[], Project]:
    """Another checkout, without a home."""

    def make() -> Project:
        shutil.copytree(cloned, tmp_path / "elsewhere")
        return Project(tmp_path / "elsewhere", tmp_path / "elsewhere/.assay")

    return make


def run_on(project: Project, rows: int) -> str:
    """A run that takes rows into DVC's cache and runs one stage on them."""
    from flows.run.reproduce import reproduce, version_inputs

    data = write_rows(project.home / "rows.jsonl", learnable_rows(rows))
    with open_workspace(project, TrainRequest(data=data)) as workspace:
        version_inputs(workspace)
        reproduce(workspace, "collect")
    data.unlink()
    return workspace.run_id


def release(kept: Kept, package: Package) -> None:
    """The entries of a release that completed, as `registry/release/release.py` writes them."""
    ledger = open_ledger(kept.home)
    digest = ledger.remember("it is better")
    version = kept.version
    subject = Release(
        model=version.name,
        version=version.version,
        package_sha256=version.package_sha256,
        spec=package.finalist.spec,
        known_answers_share=0.75,
    )
    begun = begin_release(ledger, subject, "ann", digest)
    complete_release(ledger, begun)


def _registered(project: Project, package: Package, run: str) -> ModelVersion:
    store = Store(
        f"sqlite:///{project.home / 'mlflow.db'}", locks=project.home / "leases"
    )
    recorded = store.runs.begin("work", "name", {})
    page = Page(description="", tags={"assay.workspace": run})
    submission = Submission(
        run=recorded, package=package.folder, model=MODEL, logical_run="work", page=page
    )
    version = store.register(package.finalist, submission)
    store.fetch(version, project.home / "packages" / version.package_sha256)
    return version


def _refused(project: Project) -> str:
    store = Store(
        f"sqlite:///{project.home / 'mlflow.db'}", locks=project.home / "leases"
    )
    recorded = store.runs.begin("refused work", "name", {})
    evidence = project.home / "refused"
    evidence.mkdir()
    (evidence / "verdict.json").write_text("{}")
    store.runs.record_verdict(
        recorded.run_id,
        evidence,
        Page(description="too few rows", tags={VERDICT: "rejected"}),
    )
    shutil.rmtree(evidence)
    return recorded.run_id
