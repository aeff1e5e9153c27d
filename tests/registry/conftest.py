"""A real MLflow on SQLite, and a tiny package to register in it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.verdict import Finalist
from registry.store import ModelVersion, Page, RecordedRun, Store
from tests.tiny import make_tiny_package, tiny_manifest


@dataclass(frozen=True)
class Package:
    """Something to register."""

    folder: Path
    finalist: Finalist

    def register(self, store: Store, run: RecordedRun, work: str = "work") -> ModelVersion:
        page = Page(description="a description", tags={"assay.git_commit": "0" * 40})
        return store.register(self.finalist, run, self.folder, "tiny", work, page)


@pytest.fixture(scope="session")
def package(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    root = tmp_path_factory.mktemp("package")
    return Package(root / "package", make_tiny_package(tiny_base, tiny_manifest(tiny_base, root / "home"), root / "package"))


@pytest.fixture
def store(empty_mlflow: Path, tmp_path: Path) -> Store:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    return Store(f"sqlite:///{tmp_path / 'mlflow.db'}", locks=tmp_path / "leases")


@pytest.fixture
def run(store: Store) -> RecordedRun:
    return store.begin_run("work", "letters on tiny", {"assay.model": "tiny"})
