"""One MLflow server behind a proxy for the tests that lose it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxy import Proxy, mlflow_server
from tests.support.tiny import tiny_manifest
from tests.support.workshop import Workshop

SECONDS_LATE = 4.0


@pytest.fixture(scope="session")
def mlflow_port(
    empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("mlflow-server")
    shutil.copyfile(empty_mlflow, folder / "mlflow.db")
    with mlflow_server(folder, folder / "mlflow.db") as port:
        yield port


@pytest.fixture(scope="module")
def proxy(mlflow_port: int) -> Iterator[Proxy]:
    proxy = Proxy(mlflow_port, SECONDS_LATE)
    yield proxy
    proxy.close()


@pytest.fixture
def workshop(tiny_base: Path, tmp_path: Path) -> Workshop:
    return Workshop(
        base=tiny_manifest(tiny_base, tmp_path / "home"),
        base_folder=tiny_base,
        root=tmp_path,
    )
