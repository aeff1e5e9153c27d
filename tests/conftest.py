"""One Prefect server, one empty MLflow database and one judged run for the whole test session."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from core.environment import set_library_environment
from pipelines.values.base_manifest import BaseModelManifest
from tests.support.environment import isolate
from tests.support.journey import (
    Checkout,
    Journey,
    Package,
    clone_tracked_files,
    copy_record,
    learnable_rows,
    make_checkout,
    run_arguments,
    write_rows,
)
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest
from tests.support.waiting import SECONDS_AT_MOST

ONE_OF_EACH = {"prefect", "mlflow_port"}
WITH_SERVERS = "with-servers"
LONGEST = {WITH_SERVERS: 0, "endpoint": 1}
"""The groups of tests that begin first, by their turn."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle",
        metavar="SEED",
        help="run the files, and the tests of each file, in a random order; "
        "the same seed gives the same order, and 'reversed' turns the usual one round",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if seed := terminalreporter.config.getoption("shuffle"):
        terminalreporter.write_line(f"The order was that of --shuffle {seed}")


def shuffle_tests(items: list[pytest.Item], seed: str) -> None:
    """Reorder in place. The tests of a file stay together: they share its fixtures."""
    if seed == "reversed":
        items.reverse()
        return

    # The place follows from seed and name alone, so that a new test moves no other.
    def place(name: str) -> float:
        return random.Random(seed + name).random()

    items.sort(key=lambda item: (place(item.location[0]), place(item.nodeid)))


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Say which tests one process runs under `make test`, and which begin first.

    The tests of a folder are one group, since they share its fixtures. The files that use the
    session's servers are one group too, so that there is one of each server. The groups that take
    longest begin first: one that began last would leave the other process without work.
    """
    if seed := config.getoption("shuffle"):
        shuffle_tests(items, seed)
    with_servers = {
        item.path
        for item in items
        if not ONE_OF_EACH.isdisjoint(getattr(item, "fixturenames", ()))
    }
    groups = {
        path: WITH_SERVERS if path in with_servers else path.parent.name
        for path in {item.path for item in items}
    }
    items.sort(key=lambda item: LONGEST.get(groups[item.path], len(LONGEST)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))


def pytest_configure() -> None:
    """Let no test depend on the developer's variables or on the speed of the machine."""
    isolate(os.environ)
    settings.register_profile("assay", deadline=None)
    settings.load_profile("assay")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`PREFECT_API_URL` names a real server for as long as the tests run.

    Every flow of every process uses it.
    """
    set_library_environment()
    from flows.schedule.prefect_server import prefect_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.schedule.prefect_server.SECONDS_TO_START", SECONDS_AT_MOST)
        with prefect_server(tmp_path_factory.mktemp("prefect")):
            yield


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other accounts may enter: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with MLflow's tables, which take seconds to make: tests copy it."""
    set_library_environment()
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    client.search_experiments()
    client.search_registered_models()
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def package(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    root = tmp_path_factory.mktemp("package")
    return Package(
        root / "package",
        make_tiny_package(
            tiny_base, tiny_manifest(tiny_base, root / "home"), root / "package"
        ),
    )


@pytest.fixture(scope="session")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone_tracked_files(tmp_path_factory.mktemp("cloned") / "assay")


@pytest.fixture(scope="session")
def judged(
    prefect: None,
    cloned: Path,
    empty_mlflow: Path,
    tiny_base: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    """One run, from rows to a registered version, through `assay run` in a process of its own."""
    root = tmp_path_factory.mktemp("judged")
    checkout = make_checkout(root / "assay", cloned, empty_mlflow)
    data = write_rows(root / "letters.jsonl", learnable_rows())
    return Journey(
        checkout, data, tiny_base, checkout.assay(*run_arguments(data, tiny_base))
    )


@pytest.fixture(scope="session")
def recorded(
    judged: Journey,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Checkout:
    """A checkout whose MLflow and ledger know the judged version: tests copy it."""
    root = tmp_path_factory.mktemp("recorded") / "assay"
    checkout = make_checkout(root, cloned, empty_mlflow)
    copy_record(judged, checkout)
    return checkout


@pytest.fixture
def checkout(
    prefect: None, cloned: Path, empty_mlflow: Path, tmp_path: Path
) -> Checkout:
    """A fresh clone with nothing in its `.assay` but MLflow's empty database."""
    return make_checkout(tmp_path / "assay", cloned, empty_mlflow)


@pytest.fixture
def seeded(checkout: Checkout, judged: Journey) -> Checkout:
    """A fresh clone whose DVC cache knows what the stages of the judged run made.

    MLflow knows nothing.
    """
    shutil.copytree(judged.checkout.home / "cache", checkout.home / "cache")
    return checkout


@pytest.fixture(scope="session")
def scored_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that passed leaves beside a version: tests copy it."""
    from tests.support import trials

    folder = tmp_path_factory.mktemp("scored")
    trials.write_folder(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def manifest(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModelManifest:
    return tiny_manifest(tiny, tmp_path_factory.mktemp("home"))
