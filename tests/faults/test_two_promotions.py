"""Two release managers at once, and artifacts that somebody changed.

One wins, the other is told, and what answers is never mixed.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from tests.support.endpoint_system import Home, Running, endpoint
from tests.support.journey import (
    Checkout,
    CommandResult,
    copy_checkout,
    invoke,
    wait_for_end,
)
from tests.support.promoted import (
    MODEL,
    entry_kinds,
    model_state,
    register_again,
    waived_site,
)

pytestmark = pytest.mark.ci

RELEASE = ["release_begun", "release_switched", "release_completed"]


@pytest.fixture(scope="module")
def prepared(recorded: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Two versions that passed `screen`.

    The judged one, and the same package registered as another run's.
    """
    root = tmp_path_factory.mktemp("two")
    site = waived_site(recorded, root / "assay")
    register_again(site, root)
    assert len(site.versions()) == 2
    return site


@pytest.fixture
def site(prepared: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """A copy in which nothing was released.

    Whatever a test does, its ledger is whole afterwards.
    """
    site = copy_checkout(prepared, tmp_path / "assay")
    yield site
    audit = invoke(site, "audit", "verify")
    assert audit.code == 0, audit.out


@pytest.fixture
def running(site: Checkout) -> Iterator[Running]:
    with endpoint(Home(site.home)) as running:
        yield running


def both(site: Checkout, *versions: str) -> list[CommandResult]:
    """`assay promote` of each, as processes that start at the same moment; the winner first."""
    started = [
        site.start("promote", version, "--model", MODEL, "--reason", "it is better")
        for version in versions
    ]
    commands = [wait_for_end(process) for process in started]
    return sorted(commands, key=lambda result: result.code)


def releases(site: Checkout) -> list[str]:
    """The kinds of all entries of releases."""
    return [kind for kind in entry_kinds(site) if kind.startswith("release")]


def promote(site: Checkout, version: str) -> CommandResult:
    return invoke(
        site, "promote", version, "--model", MODEL, "--reason", "it is better"
    )


def serves(site: Checkout, running: Running) -> str:
    """The version that answers, by the ledger, the endpoint and MLflow."""
    current, champion = model_state(site).current, site.store.holder(MODEL, "champion")
    assert current is not None
    assert champion is not None
    answer = running.ask(MODEL)
    assert {current.release.version, champion.version} == {
        answer.headers["x-assay-release"]
    }
    assert answer.headers["x-assay-fingerprint"] == current.release.fingerprint
    return current.release.version


def test_of_two_versions_at_once_one_is_released_and_the_other_is_told_what_serves(
    site: Checkout, running: Running
) -> None:
    winner, loser = both(site, "1", "2")
    assert (winner.code, loser.code) == (0, 4), winner.err + loser.out + loser.err
    won = serves(site, running)
    assert (
        f"The evidence compares with no champion, version {won} had full traffic last"
        in loser.out
    )
    assert f"{MODEL} is version {won} now" in winner.out
    assert releases(site) == RELEASE


def test_of_the_same_version_twice_at_once_one_is_released_and_the_other_is_told_that_it_serves(
    site: Checkout, running: Running
) -> None:
    winner, loser = both(site, "1", "1")
    assert (winner.code, loser.code) == (0, 1), winner.err + loser.out + loser.err
    assert (
        loser.err
        == f"assay: Version 1 of {MODEL} serves already. `assay status` says since when.\n"
    )
    assert serves(site, running) == "1"
    assert releases(site) == RELEASE


@pytest.mark.parametrize(
    "fault", ["a flipped bit", "code beside it", "a symbolic link"]
)
def test_a_version_whose_artifact_was_changed_in_the_store_is_refused_and_what_serves_goes_on(
    site: Checkout, running: Running, fault: str
) -> None:
    assert promote(site, "1").code == 0
    kinds = entry_kinds(site)
    shutil.rmtree(site.home / "packages")  # nothing good is left to fall back on
    with changed(artifact_of(site, "2"), fault):
        refusal = promote(site, "2")
    assert refusal.code == 1, refusal.out
    assert refusal.err.count("\n") == 1
    assert entry_kinds(site) == kinds
    assert serves(site, running) == "1"


def artifact_of(site: Checkout, version: str) -> Path:
    """Where MLflow keeps the package's adapter."""
    uri = MlflowClient(site.uri, site.uri).get_model_version_download_uri(
        MODEL, version
    )
    return Path(urlsplit(uri).path) / "adapter"


@contextmanager
def changed(adapter: Path, fault: str) -> Iterator[None]:
    """What somebody does who owns the artifact store; put back afterwards."""
    weights, code = adapter / "adapter_model.safetensors", adapter / "hook.py"
    good = weights.read_bytes()
    if fault == "code beside it":
        code.write_text("import os", encoding="utf-8")
    elif fault == "a symbolic link":
        weights.unlink()
        weights.symlink_to("/etc/passwd")
    else:
        weights.write_bytes(good[:-1] + bytes((good[-1] ^ 1,)))
    try:
        yield
    finally:
        code.unlink(missing_ok=True)
        weights.unlink()
        weights.write_bytes(good)
