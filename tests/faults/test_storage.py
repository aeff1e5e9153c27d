"""A disk that is full, a database that is locked or read-only, a cache that rots.

Said in one sentence, and nothing is lost.
"""

import json
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import NotEnoughResources, RegistryError
from registry.mlflow.recorded import VERDICT, Page
from registry.mlflow.store import Store
from tests.support.journey import (
    Checkout,
    Journey,
    Package,
    forget_training,
    run_arguments,
)
from tests.support.workshop import Workshop, params

REJECTED = Page(description="why", tags={VERDICT: "rejected"})


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/verdict.json").write_text("{}")
    return tmp_path / "evidence"


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Within, this process cannot write a file beyond that many bytes.

    What a full disk is to who writes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Somebody else writes to the database, and does not end."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def disk_of(folder: Path, size: str) -> Iterator[None]:
    """A file system of that size at the folder, for as long as the context lasts."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    ).returncode:
        pytest.skip("only who may mount can make a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_checkpoint_that_the_disk_cannot_hold_is_named_and_training_goes_on_from_the_one_before(
    workshop: Workshop,
) -> None:
    whole = workshop.run(params(), name="whole")
    workshop.run(params(), name="full")
    scratch = workshop.root / "full/scratch"
    shutil.rmtree(scratch / "checkpoint-6")  # as if it had been ended after step 5
    largest = max(path.stat().st_size for path in (scratch / "checkpoint-4").iterdir())
    with (
        no_file_over(largest - 1),
        pytest.raises(
            NotEnoughResources,
            match=r"checkpoint-6 cannot be written .* from the checkpoint before\.",
        ),
    ):
        workshop.run(params(), name="full")
    resumed = workshop.run(params(), name="full")
    assert resumed.resumed_from == (4, 4)
    assert resumed.sha256 == whole.sha256


@pytest.fixture
def store(empty_mlflow: Path, tmp_path: Path) -> Store:
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    return Store(f"sqlite:///{tmp_path / 'mlflow.db'}", locks=tmp_path / "leases")


@contextmanager
def unwritable(database: Path) -> Iterator[None]:
    """Nobody can write the file, not even root.

    An immutable file is what a read-only disk is to SQLite.
    """
    if subprocess.run(
        ["chattr", "+i", str(database)], check=False, capture_output=True
    ).returncode:
        pytest.skip(
            "only root, and not on every file system, can make a file immutable"
        )
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(database)], check=True)


def database_of(store: Store) -> Path:
    return Path(store.uri.removeprefix("sqlite:///"))


def test_an_artifact_that_the_disk_cannot_hold_makes_no_version_and_the_next_try_does(
    package: Package, store: Store
) -> None:
    run = store.runs.begin("full", "a full disk", {})
    with (
        disk_of(database_of(store).parent / "mlflow-artifacts", "8k"),
        pytest.raises(RegistryError, match="No space left on device"),
    ):
        package.register(store, run, work="full")
    assert store.find_version("tiny", "full") is None
    assert package.register(store, run, work="full").version == "1"


def test_a_read_only_database_is_said_so_and_no_verdict_is_lost(
    store: Store, evidence: Path
) -> None:
    run = store.runs.begin("read-only", "a read-only database", {})
    with (
        unwritable(database_of(store)),
        pytest.raises(RegistryError, match=r"readonly database|disk I/O error") as said,
    ):
        store.runs.record_verdict(run.run_id, evidence, REJECTED)
    assert "\n" not in str(said.value)
    assert str(said.value).endswith("run the same command again.")
    assert verdict_after_another_try(store, "read-only", evidence) == "rejected"


@pytest.mark.slow  # SQLite waits 20 s for a lock, and each call is tried five times
def test_a_database_that_stays_locked_is_said_so_and_no_verdict_is_lost(
    store: Store, evidence: Path
) -> None:
    run = store.runs.begin("locked", "a locked database", {})
    with (
        locked(database_of(store)),
        pytest.raises(RegistryError, match="database is locked") as said,
    ):
        store.runs.record_verdict(run.run_id, evidence, REJECTED)
    assert str(said.value).endswith("run the same command again.")
    assert verdict_after_another_try(store, "locked", evidence) == "rejected"


def verdict_after_another_try(store: Store, work: str, evidence: Path) -> str | None:
    found = store.runs.find(work)
    assert found is not None
    assert found.verdict is None, "the write that was refused left half a verdict"
    store.runs.record_verdict(found.run_id, evidence, REJECTED)
    again = store.runs.find(work)
    return None if again is None else again.verdict


@pytest.mark.ci
def test_a_cache_that_rots_is_found_before_training_and_mended_by_the_next_run(
    seeded: Checkout, judged: Journey
) -> None:
    forget_training(seeded.home / "cache")
    rotten = rot(seeded.home / "cache", "train.jsonl")
    arguments = run_arguments(judged.data, judged.base)
    done = seeded.assay(*arguments)
    assert done.code == 1, done.out + done.err
    (line,) = done.err.strip().splitlines()
    assert "train.jsonl has changed since it was recorded" in line
    assert "1 damaged files were removed from the cache" in line
    assert not list((seeded.home / "scratch").glob("*/checkpoint-*"))
    assert not rotten.exists()


def rot(cache: Path, name: str) -> Path:
    """Change a byte of the cache's object that the training set's list calls by this name."""
    lists: list[list[dict[str, str]]] = [
        json.loads(path.read_text()) for path in (cache / "files/md5").glob("??/*.dir")
    ]
    (digest,) = {
        entry["md5"]
        for entries in lists
        for entry in entries
        if entry["relpath"].endswith(name) and is_admitted(entries)
    }
    path = cache / "files/md5" / digest[:2] / digest[2:]
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(-3, 2)
        stream.write(b"X")
    path.chmod(0o444)  # DVC looks again at what is writable, and trusts the rest
    return path


def is_admitted(entries: list[dict[str, str]]) -> bool:
    return any(entry["relpath"].endswith("training_set.json") for entry in entries)
