"""Tests that need boxes say why they are skipped."""

import pytest

from core.errors import SandboxUnavailable
from pipelines.sandbox.self_check import check_sandbox


@pytest.fixture(scope="session")
def boxes() -> None:
    """Boxes that hold; the tests are skipped with the reason where they do not."""
    try:
        check_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
