"""A real MLflow on SQLite."""

import shutil
from pathlib import Path

import pytest

from registry.ledger.ledger import open_ledger
from registry.mlflow.recorded import RecordedRun
from registry.mlflow.store import Store
from tests.support.fake_endpoint import Bench


@pytest.fixture
def store(empty_mlflow: Path, tmp_path: Path) -> Store:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    return Store(f"sqlite:///{tmp_path / 'mlflow.db'}", locks=tmp_path / "leases")


@pytest.fixture
def run(store: Store) -> RecordedRun:
    return store.runs.begin("work", "letters on tiny", {"assay.model": "tiny"})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(open_ledger(tmp_path / "home"))
