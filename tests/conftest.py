"""One Prefect server, one empty MLflow database and one judged run for the whole test session."""

import gc
import os
import random
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from core.environment import set_library_environment
from pipelines.values.base_manifest import BaseModelManifest
from tests.support import left_connections
from tests.support.environment import isolate
from tests.support.journey import (
    Checkout,
    Journey,
    Package,
    clone_tracked_files,
    copy_record,
    git,
    learnable_rows,
    make_checkout,
    run_arguments,
    write_rows,
)
from tests.support.run_of_tests import (
    FOLDER,
    WITH_SERVERS,
    SharedServer,
    journey_of_all,
    own_prefect,
    shared_prefect,
)
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest

ONE_OF_EACH = {"prefect", "mlflow_port"}
AUTOMATIC = f"{WITH_SERVERS}-automatic"
LONGEST = (
    (WITH_SERVERS, AUTOMATIC),
    ("endpoint", f"{WITH_SERVERS}-test_installed"),
    ("pipelines", f"{WITH_SERVERS}-test_registration_cut_short"),
    ("registry", f"{WITH_SERVERS}-test_reserve"),
)
"""The groups of tests that begin first, by their turn: of the quick tests, and of the others."""
TURNS = {group: turn for turn, groups in enumerate(LONGEST) for group in groups}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--measured",
        metavar="FILE",
        action="append",
        default=[],
        help="with --cov: what runs in the tests of this file is measured, and nothing else",
    )
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

    The groups that take longest begin first: one that began last would leave the other process
    without work. What uses the servers comes before the rest, which fills the end.
    """
    if seed := config.getoption("shuffle"):
        shuffle_tests(items, seed)
    with_servers = {item.path for item in items if _uses(item, ONE_OF_EACH)}
    groups = {item: _group_of(item, item.path in with_servers) for item in items}
    last = len(LONGEST)
    items.sort(key=lambda item: groups[item].startswith(WITH_SERVERS), reverse=True)
    items.sort(key=lambda item: TURNS.get(groups[item], last))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item]))


def _group_of(item: pytest.Item, with_servers: bool) -> str:
    """Which tests run in one process, since they share what is dear to make.

    Quick ones with those of their folder, or with all that use the servers; others by their files.
    """
    if _uses(item, {"automatic_checkout"}):
        return AUTOMATIC
    is_quick = item.get_closest_marker("ci") is None
    own = item.path.parent.name if is_quick else item.path.stem
    if not with_servers:
        return own
    return WITH_SERVERS if is_quick else f"{WITH_SERVERS}-{own}"


def pytest_collection_finish() -> None:
    """Keep what was imported out of every later look for garbage: it stays anyway."""
    gc.freeze()


def _uses(item: pytest.Item, fixtures: set[str]) -> bool:
    return not fixtures.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure coverage in those files alone: a test takes half as long again with it."""
    measured = item.config.getoption("measured")
    name = item.nodeid.partition("::")[0]
    if not measured or name in measured:
        return (yield)
    with _unmeasured(item.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What is made for all tests counts for none of them: which comes first is chance."""
    if fixturedef.scope != "session" or not request.config.getoption("measured"):
        return (yield)
    with _unmeasured(request.config):
        return (yield)


@contextmanager
def _unmeasured(config: pytest.Config) -> Iterator[None]:
    coverage = config.pluginmanager.getplugin("_cov")
    if coverage is None or not coverage.cov_controller.started:
        yield
        return
    coverage.cov_controller.pause()
    try:
        yield
    finally:
        coverage.cov_controller.resume()


def pytest_configure(config: pytest.Config) -> None:
    """Let no test depend on the developer's variables, on the machine or on an earlier test."""
    isolate(os.environ)
    left_connections.watch()
    settings.register_profile("assay", deadline=None)
    settings.load_profile("assay")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SharedServer(config))


@pytest.fixture(scope="session")
def of_all(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder that every process of this run of the tests sees."""
    given = getattr(pytestconfig, "workerinput", {}).get(FOLDER)
    return Path(given) if given else tmp_path_factory.mktemp("run")


@pytest.fixture(scope="session")
def prefect(pytestconfig: pytest.Config, of_all: Path) -> Iterator[None]:
    """`PREFECT_API_URL` names a real server for as long as the tests run.

    Every flow of every process uses it.
    """
    set_library_environment()
    is_one_of_several = hasattr(pytestconfig, "workerinput")
    server = shared_prefect if is_one_of_several else own_prefect
    with server(of_all):
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
    clone = clone_tracked_files(tmp_path_factory.mktemp("cloned") / "assay")
    # One file of objects in place of a thousand: most tests copy all of it.
    git(clone, "repack", "-a", "-d", "--quiet")
    return clone


@pytest.fixture(scope="session")
def judged(
    prefect: None,
    cloned: Path,
    empty_mlflow: Path,
    tiny_base: Path,
    of_all: Path,
) -> Journey:
    """One run, from rows to a registered version, through `assay run` in a process of its own."""

    def make(root: Path) -> Journey:
        root.mkdir()
        checkout = make_checkout(root / "assay", cloned, empty_mlflow)
        data = write_rows(root / "letters.jsonl", learnable_rows())
        arguments = run_arguments(data, tiny_base)
        return Journey(checkout, data, tiny_base, checkout.assay(*arguments))

    return journey_of_all(of_all, make)


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
