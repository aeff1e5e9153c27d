"""A tiny base, a tiny registered adapter on it, and a real endpoint that serves both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.engines import Engine
from serving.load import load_engine
from tests.support.running_engine import Endpoint, Served, running
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest
from tests.support.vllm_environment import find_or_make_vllm


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = tmp_path_factory.mktemp("served")
    base_folder = make_tiny_base(root / "base")
    base = tiny_manifest(base_folder, root / "home")
    base.write(root / "manifest.json")
    make_tiny_package(base_folder, base, root / "package")
    return Served(base_folder, root / "manifest.json", base, root / "package")


@pytest.fixture(scope="session")
def engine(served: Served) -> Iterator[Engine]:
    engine = load_engine(served.config)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def endpoint(engine: Engine) -> Iterator[Endpoint]:
    with running(engine) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def vllm_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has vLLM; only slow tests ask for it."""
    return find_or_make_vllm(tmp_path_factory.mktemp("vllm") / "environment")
