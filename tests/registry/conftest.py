"""A real MLflow on SQLite."""

import shutil
from pathlib import Path

import pytest

from registry.recorded import RecordedRun
from registry.store import Store


@pytest.fixture
def store(empty_mlflow: Path, tmp_path: Path) -> Store:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    return Store(f"sqlite:///{tmp_path / 'mlflow.db'}", locks=tmp_path / "leases")


@pytest.fixture
def run(store: Store) -> RecordedRun:
    return store.runs.begin("work", "letters on tiny", {"assay.model": "tiny"})
