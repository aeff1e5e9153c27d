"""Three versions of one model, packed once.

Each test module gets homes of its own with copies of them.
"""

from pathlib import Path

import pytest

from tests.support.endpoint_system import Home, home_with
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("packed")
    base_folder = make_tiny_base(root / "tiny")
    base = tiny_manifest(base_folder, root / "home")
    packages = {version: root / "packages" / version for version in ("1", "2", "3")}
    for version, package in packages.items():
        make_tiny_package(base_folder, base, package, seed=int(version))
    return home_with(root / "packed", packages, base_folder)


@pytest.fixture(scope="module")
def shared(packed: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that a module's tests use one after the other."""
    return packed.copy(tmp_path_factory.mktemp("shared") / "home")


@pytest.fixture
def home(packed: Home, tmp_path: Path) -> Home:
    """A home of a test's own."""
    return packed.copy(tmp_path / "home")
