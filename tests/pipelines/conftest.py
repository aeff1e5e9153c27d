"""One tiny base model for all tests of the stages that need weights."""

from pathlib import Path

import pytest

from pipelines.values.base_manifest import BaseModelManifest
from tests.support.tiny import make_tiny_base, tiny_manifest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def manifest(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModelManifest:
    return tiny_manifest(tiny, tmp_path_factory.mktemp("home"))
