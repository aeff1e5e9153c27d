"""`st run` over our OpenAPI: no error of ours, and nothing that the document does not say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.engines import Engine
from serving.endpoint.api_keys import create_key
from serving.openapi import OPENAPI
from tests.support.endpoint_system import Home, endpoint, home_with
from tests.support.own_environment import make_environment
from tests.support.running_engine import running
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.slow

# Beside our own environment: its plugin for pytest would be loaded by every test.
FUZZER = "schemathesis>=4.32,<5"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `st`."""
    folder = tmp_path_factory.mktemp("fuzzer")
    return make_environment(folder, FUZZER) / "st"


def fuzz(fuzzer: Path, folder: Path, url: str, *options: str) -> None:
    """Return only if it finds nothing."""
    run = subprocess.run(
        [
            *(str(fuzzer), "run", f"{url}{OPENAPI}"),
            *("--checks", ",".join(CHECKS)),
            *("--max-examples", "50"),
            *("--seed", "1"),
            *("--request-timeout", str(SECONDS_AT_MOST)),
            *options,
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=1500,
        check=False,
    )
    for line in re.findall(r".*\d+ (?:generated|passed|found).*", run.stdout):
        sys.stdout.write(f"{line}\n")
    assert run.returncode == 0, run.stdout[-8000:]


def test_an_engine_answers_as_its_document_says(
    fuzzer: Path, engine: Engine, tmp_path: Path
) -> None:
    with running(engine) as server:
        fuzz(fuzzer, tmp_path, server.url)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    base_folder = make_tiny_base(tmp_path / "tiny")
    base = tiny_manifest(base_folder, tmp_path / "unused")
    package = tmp_path / "package"
    make_tiny_package(base_folder, base, package, seed=1)
    return home_with(tmp_path / "home", {"1": package}, base_folder)


@pytest.mark.parametrize("with_key", [False, True], ids=["open", "keyed"])
def test_the_endpoint_answers_as_its_document_says(
    fuzzer: Path, home: Home, tmp_path: Path, with_key: bool
) -> None:
    options: tuple[str, ...] = ()
    if with_key:
        key = create_key(home.path, "fuzzer", requests_per_minute=100_000).text
        options = ("--header", f"Authorization: Bearer {key}")
    with endpoint(home) as running:
        home.release("1")
        fuzz(fuzzer, tmp_path, running.url, *options)
        # It lives, and answers.
        assert running.process.poll() is None
