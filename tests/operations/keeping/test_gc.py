"""`assay gc`.

What nothing names goes, what the ledger or a version leads to stays, and whatever it cannot know
keeps everything.
"""

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from core.errors import (
    AssayError,
    BrokenLedger,
    LedgerError,
    OperationError,
    ParameterError,
    RegistryError,
)
from core.files import folder_digests, md5_of
from core.locks import alone, share_home
from core.project import Project
from flows.run.request import TrainRequest
from flows.run.workspace import open_workspace
from operations.gc.clear import (
    KINDS,
    clear,
    grounds_of,
    machine_readable,
    report,
    survey,
)
from operations.gc.removable import Item
from operations.gc.retention import FILE, Retention, load_retention
from operations.run_refs import run_refs
from registry.mlflow.recorded import ERASED, VERDICT, Page
from tests.operations.keeping.conftest import MODEL, OLD_RUN, Kept
from tests.support.journey import ROOT, git

AT_ONCE = Retention(
    run_refs=0,
    checkpoints=0,
    evidence_copies=0,
    package_copies=0,
    cache_objects=0,
    refused_runs=0,
    logs=0,
)
USUAL = load_retention(ROOT / FILE)
LONG_AGO = time.time() - 1000 * 86_400


@pytest.fixture
def littered(kept: Kept) -> Kept:
    """One old thing of each kind that nothing names, in a home in which everything is old."""
    for name in (
        "scratch/" + "a" * 64 + "/checkpoint-3",
        "evidence/" + "b" * 32,
        "packages/" + "c" * 64,
        "logs",
    ):
        (kept.home / name).mkdir(parents=True)
        (kept.home / name / "file").write_text("litter")
    git(
        kept.project.root,
        "worktree",
        "add",
        "--detach",
        "--quiet",
        str(kept.home / "worktrees/20200101-000000-dead00"),
        "HEAD",
    )
    age(kept.home)
    return kept


def age(home: Path) -> None:
    for path in home.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def looked(kept: Kept, retention: Retention = USUAL) -> tuple[Item, ...]:
    return survey(grounds_of(kept.project, kept.store.uri, retention))


def going(kept: Kept, retention: Retention = USUAL) -> set[str]:
    return {found.name for found in looked(kept, retention) if found.kept is None}


def cleared(kept: Kept, retention: Retention = USUAL) -> tuple[Item, ...]:
    return clear(kept.project, kept.store.uri, retention)


def objects(kept: Kept) -> dict[str, Path]:
    return {
        path.parent.name + path.name: path
        for path in (kept.home / "cache/files/md5").glob("??/*")
    }


def named_by(kept: Kept, run: str) -> set[str]:
    """Every object that a run's `dvc.lock` and `.dvc` files lead to.

    It is not computed as the clean-up computes it.
    """
    lock = git(kept.project.root, "show", f"refs/assay/runs/{run}/done:dvc.lock")
    rows = git(
        kept.project.root, "show", f"refs/assay/runs/{run}/done:data/raw/rows.jsonl.dvc"
    )
    outs = {
        word
        for word in (lock.split("outs:", 1)[1] + rows).split()
        if len(word) in {32, 36} and word[:32].isalnum()
    }
    there = objects(kept)
    listed = {
        entry["md5"]
        for out in outs
        if out.endswith(".dir")
        for entry in json.loads(there[out].read_bytes())
    }
    return outs | listed


def everything(kept: Kept) -> tuple[set[str], str]:
    there = (
        path
        for path in kept.home.rglob("*")
        if not path.name.endswith((".lock", ".db", "-shm", "-wal"))
    )
    files = {path.relative_to(kept.home).as_posix() for path in there}
    return files, git(kept.project.root, "for-each-ref", "refs/assay")


def test_a_dry_run_names_what_would_go_and_touches_nothing(littered: Kept) -> None:
    before = everything(littered)
    found = looked(littered)
    assert everything(littered) == before
    assert "`assay gc --apply` removes it" in report(found, applied=False)
    gone = machine_readable(found, applied=False)["gone"]
    assert isinstance(gone, dict)
    assert gone["run refs"] == [OLD_RUN]
    assert gone["worktrees"] == ["worktrees/20200101-000000-dead00"]
    assert gone["checkpoints"] == ["scratch/" + "a" * 64]
    assert gone["evidence copies"] == ["evidence/" + "b" * 32]
    assert gone["package copies"] == ["packages/" + "c" * 64]
    assert gone["logs"] == ["logs/file"]
    assert len(gone["cache objects"]) > 2


def test_what_it_said_is_what_goes_and_nothing_else(littered: Kept) -> None:
    said = looked(littered)
    assert cleared(littered) == said
    assert all(
        not (littered.home / found.name).exists()
        for found in said
        if found.kept is None and "/" in found.name
    )
    assert all(
        (littered.home / found.name).exists()
        for found in said
        if found.kept is not None and "/" in found.name
    )
    assert set(run_refs(littered.project.root)) == {littered.run}
    assert going(littered) == set()


def test_what_a_released_version_was_made_from_stays_whatever_the_policy_says(
    littered: Kept, tmp_path: Path
) -> None:
    named = named_by(littered, littered.run)
    forgotten = named_by(littered, OLD_RUN) - named
    assert named
    assert forgotten
    cleared(littered, AT_ONCE)
    there = objects(littered)
    assert named <= there.keys()
    assert not forgotten & there.keys()
    assert all(
        md5_of(path) == name.removesuffix(".dir") for name, path in there.items()
    )
    assert (littered.home / "packages" / littered.version.package_sha256).is_dir()
    assert littered.store.fetch(littered.version, tmp_path / "fetched").is_dir()


def test_what_is_young_stays(littered: Kept) -> None:
    for path in littered.home.rglob("*"):
        os.utime(path, follow_symlinks=False)
    assert going(littered) == {OLD_RUN, "worktrees/20200101-000000-dead00"}


def test_a_cache_object_younger_than_an_hour_stays_whatever_the_policy_says(
    kept: Kept,
) -> None:
    assert not {name for name in going(kept, AT_ONCE) if name.startswith("cache/")}
    age(kept.home)
    assert {name for name in going(kept, AT_ONCE) if name.startswith("cache/")}


def test_what_the_working_tree_names_stays(littered: Kept) -> None:
    root = littered.project.root
    (root / "dvc.lock").write_text(
        git(root, "show", f"refs/assay/runs/{OLD_RUN}/done:dvc.lock")
    )
    shutil.copyfile(root / "dvc.lock", root / "data/raw/kept.dvc")
    (root / "data/raw/rows.jsonl.dvc").write_text(
        git(root, "show", f"refs/assay/runs/{OLD_RUN}/done:data/raw/rows.jsonl.dvc")
    )
    named = named_by(littered, OLD_RUN)
    cleared(littered, AT_ONCE)
    assert named <= objects(littered).keys()


def test_refs_of_runs_that_another_home_of_the_checkout_recorded_stay(
    littered: Kept, empty_mlflow: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    shutil.copyfile(empty_mlflow, tmp_path / "home/mlflow.db")
    other = Project(littered.project.root, tmp_path / "home")
    clear(other, f"sqlite:///{tmp_path / 'home/mlflow.db'}", AT_ONCE)
    assert set(run_refs(littered.project.root)) == {littered.run, OLD_RUN}


def test_a_package_that_mlflow_no_longer_knows_stays_and_so_does_the_run_that_it_names(
    littered: Kept,
) -> None:
    MlflowClient(littered.store.uri, littered.store.uri).delete_model_version(
        MODEL, "1"
    )
    with pytest.raises(
        OperationError,
        match=r"neither MLflow nor .*lineage\.json says which run made it",
    ):
        cleared(littered, AT_ONCE)
    lineage = (
        littered.home / "packages" / littered.version.package_sha256 / "lineage.json"
    )
    lineage.write_text(json.dumps({"run_id": littered.run}))
    cleared(littered, AT_ONCE)
    assert lineage.is_file()
    assert set(run_refs(littered.project.root)) == {littered.run}


def test_the_evidence_of_a_refused_run_goes_and_its_run_says_so(littered: Kept) -> None:
    client = MlflowClient(littered.store.uri, littered.store.uri)
    assert littered.refused not in going(littered, USUAL)
    cleared(littered, AT_ONCE)
    run = client.get_run(littered.refused)
    assert client.list_artifacts(littered.refused) == []
    assert run.data.tags[VERDICT] == "rejected"
    assert ERASED in run.data.tags
    assert run.data.tags["mlflow.note.content"] == "too few rows"


def test_a_run_whose_evidence_was_erased_is_not_known_until_it_is_judged_again(
    littered: Kept, tmp_path: Path
) -> None:
    cleared(littered, AT_ONCE)
    found = littered.store.runs.find("refused work")
    assert found is not None
    assert found.verdict is None
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/verdict.json").write_text("{}")
    littered.store.runs.record_verdict(
        found.run_id,
        tmp_path / "evidence",
        Page(description="", tags={VERDICT: "rejected"}),
    )
    again = littered.store.runs.find("refused work")
    assert again is not None
    assert again.verdict == "rejected"


def test_an_erasure_that_was_cut_short_is_ended_by_the_next(littered: Kept) -> None:
    client = MlflowClient(littered.store.uri, littered.store.uri)
    client.set_tag(littered.refused, ERASED, "2026-01-01T00:00:00+00:00")
    assert littered.refused in going(littered, USUAL)
    cleared(littered)
    assert client.list_artifacts(littered.refused) == []


def cut_ledger(home: Path) -> None:
    with closing(sqlite3.connect(home / "ledger.db")) as database, database:
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE entries SET body = replace(body, 'ann', 'bob')")


def lose_ledger(home: Path) -> None:
    for path in home.glob("ledger.db*"):
        path.unlink()


def lose_mlflow(home: Path) -> None:
    (home / "mlflow.db").unlink()


def damage_list(home: Path) -> None:
    for path in home.glob("cache/files/md5/*/*.dir"):
        path.chmod(0o644)
        path.write_text("[{")
        os.utime(path)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (cut_ledger, BrokenLedger),
        (lose_ledger, LedgerError),
        (lose_mlflow, RegistryError),
        (damage_list, OperationError),
    ],
)
def test_where_it_cannot_know_what_is_named_nothing_goes(
    littered: Kept, fault: "object", error: type[AssayError]
) -> None:
    assert callable(fault)
    fault(littered.home)
    before = everything(littered)
    with pytest.raises(error):
        cleared(littered, AT_ONCE)
    assert everything(littered) == before


def test_a_ledger_that_is_behind_what_the_endpoint_remembers_keeps_everything(
    littered: Kept,
) -> None:
    from registry.ledger.ledger import read_ledger

    ledger_state = read_ledger(littered.home).state()
    further = ledger_state.head.model_copy(
        update={"generation": ledger_state.head.generation + 1}
    )
    ledger_state.model_copy(update={"head": further}).write(
        littered.home / "endpoint/standing.json"
    )
    with pytest.raises(BrokenLedger):
        cleared(littered, AT_ONCE)


def test_beside_a_run_nothing_goes(
    littered: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.gc.clear.PATIENCE", 0.3)
    before = everything(littered)
    with (
        share_home(littered.home),
        pytest.raises(OperationError, match="a backup uses"),
    ):
        cleared(littered, AT_ONCE)
    assert everything(littered) == before


def test_a_run_holds_the_home_as_long_as_it_has_its_workspace(
    littered: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.gc.clear.PATIENCE", 0.3)
    with (
        open_workspace(littered.project, TrainRequest()),
        pytest.raises(OperationError, match="a backup uses"),
    ):
        cleared(littered, AT_ONCE)
    cleared(littered, AT_ONCE)


def test_a_run_that_starts_during_a_clean_up_waits_for_its_end(kept: Kept) -> None:
    order: list[str] = []

    def run() -> None:
        with share_home(kept.home):
            order.append("run")

    with alone(kept.home, 1.0):
        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        order.append("clean-up")
    thread.join()
    assert order == ["clean-up", "run"]


def test_the_checkpoints_of_a_training_that_is_alive_stay(littered: Kept) -> None:
    lease = littered.home / "leases" / f"fine_tune-{'a' * 64}.lock"
    assert "scratch/" + "a" * 64 in going(littered)
    with FileLock(lease):
        assert "scratch/" + "a" * 64 not in going(littered)


def steps(kept: Kept) -> Iterator[None]:
    """A clean-up that stops after each removal, where a kill may fall."""
    grounds = grounds_of(kept.project, kept.store.uri, AT_ONCE)
    remove = {kind.name: kind.remove for kind in KINDS}
    for found in survey(grounds):
        if found.kept is None:
            remove[found.kind](grounds, found)
            yield


def test_wherever_it_is_killed_no_name_lacks_its_files_and_the_next_one_ends_the_work(
    littered: Kept,
) -> None:
    for number, _ in enumerate(steps(littered)):
        there = objects(littered)
        listed = {
            entry["md5"]
            for name, path in there.items()
            if name.endswith(".dir")
            for entry in json.loads(path.read_bytes())
        }
        assert listed <= there.keys()
        if number % 5 == 0:
            assert going(littered, AT_ONCE)
    assert going(littered, AT_ONCE) == set()


def test_half_of_a_folder_never_stands_under_its_name(littered: Kept) -> None:
    """As a kill leaves it: moved aside, half removed."""
    (littered.home / "trash/half").mkdir(parents=True)
    (littered.home / "packages" / ("c" * 64)).rename(
        littered.home / "trash/half" / ("c" * 64)
    )
    cleared(littered)
    assert list((littered.home / "trash").iterdir()) == []
    assert folder_digests(littered.home / "packages" / littered.version.package_sha256)


@pytest.mark.parametrize(
    "text", ["run_refs: 1", "", "[", "{run_refs: .nan}", "logs: -1"]
)
def test_a_policy_that_does_not_fit_removes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "retention.yaml").write_text(text)
    with pytest.raises(ParameterError, match="retention policy"):
        load_retention(tmp_path / "retention.yaml")
    with pytest.raises(ParameterError, match="cannot be read"):
        load_retention(tmp_path / "none.yaml")
