"""`assay backup` and `assay restore`.

What comes back in another folder, after the old one is gone, is what was there.
"""

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.errors import (
    AssayError,
    DamagedFile,
    LedgerError,
    OperationError,
    WorkspaceError,
)
from core.files import digest_of_files, folder_digests
from core.project import Project
from operations.backup.copying import Copies
from operations.backup.create import BackupSource, back_up, copy_records
from operations.backup.manifest import Backup, check_backup, write_manifest
from operations.backup.restore import missing_bases, restore
from pipelines.models.base_store import locate_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.verdict import Finalist
from registry.ledger.audit import known_heads, verify, verify_export
from registry.ledger.enrolment import enrol, enrol_packaging
from registry.ledger.entries import Revoked, Waived
from registry.ledger.keys import load_key
from registry.ledger.ledger import open_ledger, read_ledger
from registry.ledger.packaging_key import load_packaging_key
from registry.ledger.state import LedgerState
from registry.mlflow.store import Store
from registry.release.package_signature import SIGNATURE
from serving.endpoint.verify import verify as check_release
from tests.operations.keeping.conftest import MODEL, Kept
from tests.support.endpoint_system import Home
from tests.support.journey import git
from tests.support.signed import release_signed
from tests.support.waiting import SECONDS_AT_MOST


@pytest.fixture(scope="module")
def taken(released: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the released home, base models included; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("backups") / "monday"
    back_up(source(released, with_base_models=True), folder)
    return folder


@pytest.fixture
def backup(taken: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(taken, tmp_path / "backup"))


def source(kept: Kept, *, with_base_models: bool = False) -> BackupSource:
    return BackupSource(kept.project, kept.store, with_base_models)


def store_of(project: Project) -> Store:
    return Store(
        f"sqlite:///{project.home / 'mlflow.db'}", locks=project.home / "leases"
    )


def test_what_is_restored_elsewhere_is_what_was_there(
    kept: Kept, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    ledger_state = read_ledger(kept.home).state()
    ledger_state.write(kept.home / "endpoint/standing.json")
    refs = git(kept.project.root, "for-each-ref", "refs/assay")
    cache = folder_digests(kept.home / "cache")
    back_up(source(kept), tmp_path / "backup")
    shutil.rmtree(kept.project.root)
    there = elsewhere()
    restore(tmp_path / "backup", there)
    version = store_of(there).get_version(MODEL, "1")
    assert version == kept.version
    fetched = store_of(there).fetch(version, tmp_path / "fetched")
    assert digest_of_files(folder_digests(fetched)) == kept.version.package_sha256
    assert read_ledger(there.home).state() == ledger_state
    assert verify(read_ledger(there.home), known_heads(there.home)[0]).is_whole
    assert (
        LedgerState.read(there.home / "endpoint/standing.json").head
        == ledger_state.head
    )
    assert git(there.root, "for-each-ref", "refs/assay") == refs
    assert folder_digests(there.home / "cache") == cache
    assert (
        store_of(there)
        .runs.fetch_evidence(kept.refused, tmp_path / "evidence")
        .is_dir()
    )


def test_the_restored_ledger_is_written_with_the_restored_key(
    backup: Path, elsewhere: Callable[[], Project]
) -> None:
    there = elsewhere()
    restore(backup, there)
    ledger = open_ledger(there.home)
    before = ledger.state()
    after = ledger.append(revocation(ledger.remember("broken")), before)
    assert after.head.generation == before.head.generation + 1
    assert (
        ledger.recall(before.models[MODEL].once_served[0].reason_sha256)
        == "it is better"
    )


def test_nothing_that_was_restored_leads_back_to_the_old_folder(
    released: Kept, backup: Path, elsewhere: Callable[[], Project]
) -> None:
    there = elsewhere()
    restore(backup, there)
    with closing(sqlite3.connect(there.home / "mlflow.db")) as database, database:
        dump = "\n".join(database.iterdump())
    assert str(released.home) not in dump
    assert (there.home / "mlflow-artifacts").as_uri() in dump


def test_what_is_made_after_a_restore_lies_in_the_new_home(
    backup: Path, elsewhere: Callable[[], Project]
) -> None:
    there = elsewhere()
    restore(backup, there)
    run = store_of(there).runs.begin("new work", "name", {})
    client = MlflowClient(store_of(there).uri)
    client.log_text(run.run_id, "text", "file.txt")
    assert list((there.home / "mlflow-artifacts").rglob("file.txt"))


def test_secrets_stay_secret(
    kept: Kept, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    (kept.home / "passwords.json").write_text("{}")
    (kept.home / "passwords.json").chmod(0o600)
    back_up(source(kept), tmp_path / "backup")
    there = elsewhere()
    restore(tmp_path / "backup", there)
    for folder in (tmp_path / "backup/home", there.home):
        assert stat.S_IMODE((folder / "keys/controller.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE((folder / "passwords.json").stat().st_mode) == 0o600
    assert {
        stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "backup/home").rglob("*")
        if path.is_file()
    } == {0o600}
    assert {
        stat.S_IMODE(path.stat().st_mode)
        for path in there.home.glob("cache/files/md5/*/*")
    } == {0o444}
    for closed in (tmp_path / "backup", there.home, there.home / "keys"):
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "pattern",
    [
        "backup.json",
        "ledger.jsonl",
        "refs.bundle",
        "home/mlflow.db",
        "home/packages/*/adapter/*.safetensors",
        "home/cache/files/md5/*/*",
    ],
)
def test_a_flipped_bit_is_named_and_restores_nothing(
    backup: Path, elsewhere: Callable[[], Project], pattern: str
) -> None:
    path = min(backup.glob(pattern))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    refused(backup, elsewhere(), path.name)


def test_a_file_that_is_missing_or_was_added_is_named(
    backup: Path, elsewhere: Callable[[], Project]
) -> None:
    there = elsewhere()
    (backup / "home/extra").write_text("")
    refused(backup, there, "extra was added")
    (backup / "home/extra").unlink()
    (backup / "home/mlflow.db").unlink()
    refused(backup, there, r"mlflow\.db is missing")


def refused(backup: Path, there: Project, words: str) -> None:
    with pytest.raises(DamagedFile, match=words):
        restore(backup, there)
    assert not there.home.exists()
    assert not there.home.with_name(".assay.partial").exists()
    assert git(there.root, "for-each-ref", "refs/assay") == ""


def test_a_backup_that_lacks_a_package_of_its_ledger_is_none(
    taken: Path, backup: Path, elsewhere: Callable[[], Project]
) -> None:
    made = check_backup(taken)
    (gone,) = [
        name
        for name in made.files
        if name.startswith("home/packages/") and name.endswith("/verdict.json")
    ]
    (backup / gone).unlink()
    write_manifest(
        made.model_copy(
            update={
                "files": {
                    name: each for name, each in made.files.items() if name != gone
                }
            }
        ),
        backup,
    )
    refused(backup, elsewhere(), "lacks the whole package of version 1 of letters")


def test_a_backup_of_a_newer_format_asks_for_the_newer_assay(
    backup: Path, elsewhere: Callable[[], Project]
) -> None:
    manifest = backup / "backup.json"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace('"format": 1', '"format": 2'),
        encoding="utf-8",
    )
    there = elsewhere()
    with pytest.raises(
        OperationError,
        match=r"is of format 2, from a newer Assay\. Install that one, or use another backup",
    ):
        restore(backup, there)
    assert not there.home.exists()


def test_a_manifest_that_is_not_whole_asks_for_another_backup(
    backup: Path, elsewhere: Callable[[], Project]
) -> None:
    there = elsewhere()
    for text in ("{", "[]", '{"backup": {"format": 0}}', "[" * 100_000):
        (backup / "backup.json").write_text(text, encoding="utf-8")
        refused(backup, there, "Use another backup")


def test_a_restore_that_was_cut_short_beside_an_outside_ledger_is_done_again(
    backup: Path,
    elsewhere: Callable[[], Project],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSAY_LEDGER_URL", f"sqlite:///{tmp_path / 'outside.db'}")
    there = elsewhere()
    with pytest.raises(
        WorkspaceError
    ):  # no checkout to take in the commits, which comes after the ledger
        restore(backup, Project(tmp_path, there.home))
    assert not there.home.exists()
    restore(backup, there)
    ledger = open_ledger(there.home)
    ledger.append(revocation(ledger.remember("broken")), ledger.state())
    shutil.rmtree(there.home)
    with pytest.raises(LedgerError, match="has other entries already"):
        restore(backup, there)


def test_a_folder_that_is_no_backup_is_refused(
    elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    with pytest.raises(OperationError, match="is no backup"):
        restore(tmp_path, elsewhere())


def test_a_restore_replaces_nothing(
    backup: Path, elsewhere: Callable[[], Project]
) -> None:
    there = elsewhere()
    there.home.mkdir()
    (there.home / "something").touch()
    with pytest.raises(OperationError, match="is not empty"):
        restore(backup, there)
    (there.home / "something").unlink()
    restore(backup, there)


def test_a_home_that_is_a_link_is_restored_to_where_it_leads(
    backup: Path, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    there = elsewhere()
    (tmp_path / "disk/assay").mkdir(parents=True)
    there.home.symlink_to(tmp_path / "disk/assay")
    restore(backup, there)
    assert there.home.is_symlink()
    assert (
        read_ledger(there.home).state() == read_ledger(tmp_path / "disk/assay").state()
    )
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["assay"]


def test_a_backup_replaces_nothing(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    with pytest.raises(OperationError, match="exists already"):
        back_up(source(kept), tmp_path / "backup")


def test_a_backup_inside_the_home_is_none(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(kept.home)
    for folder in (kept.home / "cache/backup", tmp_path / "link/backup"):
        with pytest.raises(OperationError, match="would be lost with it"):
            back_up(source(kept), folder)
    assert not (kept.home / "cache/backup").exists()


def test_what_a_killed_backup_left_is_replaced_and_what_somebody_else_left_is_not(
    kept: Kept, tmp_path: Path
) -> None:
    foreign = tmp_path / "backup.partial"
    foreign.mkdir()
    with pytest.raises(OperationError, match="is in the way"):
        back_up(source(kept), tmp_path / "backup")
    (foreign / ".assay-partial").touch()
    (foreign / "half").touch()
    back_up(source(kept), tmp_path / "backup")
    assert not (tmp_path / "backup/half").exists()
    assert not foreign.exists()


def test_a_release_without_its_package_is_named_and_a_revoked_one_is_not_asked_for(
    kept: Kept, tmp_path: Path
) -> None:
    shutil.rmtree(kept.home / "packages")
    (weights,) = (kept.home / "mlflow-artifacts").rglob("adapter_model.safetensors")
    weights.unlink()
    with pytest.raises(OperationError, match="package of version 1 of letters"):
        back_up(source(kept), tmp_path / "backup")
    assert list(tmp_path.glob("backup*")) == []
    ledger = open_ledger(kept.home)
    ledger.append(revocation(ledger.remember("lost")), ledger.state())
    assert back_up(source(kept), tmp_path / "backup").packages == ()


def test_the_keys_of_every_role_are_in_a_backup_and_stay_private(
    kept: Kept, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    key = enrol_packaging(open_ledger(kept.home), "olga")
    enrol(open_ledger(kept.home), "admission", "olga")
    back_up(source(kept), tmp_path / "backup")
    project = elsewhere()
    restore(tmp_path / "backup", project)
    assert load_packaging_key(project.home).public == key.public
    assert load_key(project.home, "admission").public.role == "admission"
    assert read_ledger(project.home).state().key(key.public.key_id) == key.public


def test_the_signature_of_a_released_package_is_in_the_backup_and_a_lost_one_is_fetched(
    kept: Kept, tmp_path: Path
) -> None:
    package = kept.home / "packages" / kept.version.package_sha256
    spec = Finalist.read(package / "verdict.json").spec
    digest = kept.version.package_sha256
    home = Home(kept.home, {"1": spec}, {"1": digest}, model=MODEL)
    home.serve_base()
    release_signed(home, "1")
    store_of(kept.project).signatures.attach(kept.version, package)
    (package / SIGNATURE).unlink()
    back_up(source(kept), tmp_path / "backup")
    assert (tmp_path / "backup/home/packages" / digest / SIGNATURE).is_file()
    check_backup(tmp_path / "backup")


def test_where_all_is_revoked_the_package_that_names_the_answering_base_is_kept(
    kept: Kept, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    ledger = open_ledger(kept.home)
    ledger.append(revocation(ledger.remember("it leaks")), ledger.state())
    (named,) = back_up(source(kept), tmp_path / "backup").packages
    project = elsewhere()
    restore(tmp_path / "backup", project)
    (held,) = read_ledger(project.home).state().model(named.model).once_served
    assert check_release(project.home, held.release, None).base_name


def test_a_package_that_is_not_at_hand_is_fetched_and_a_damaged_copy_is_mended(
    kept: Kept, tmp_path: Path
) -> None:
    package = kept.home / "packages" / kept.version.package_sha256
    (package / "verdict.json").write_text("{}")
    back_up(source(kept), tmp_path / "backup")
    assert (
        digest_of_files(
            folder_digests(tmp_path / "backup/home/packages" / package.name)
        )
        == package.name
    )


def test_a_base_model_of_ones_own_is_named_and_found_again_in_its_place(
    kept: Kept, tiny_base: Path, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    own = own_base(kept, tiny_base, tmp_path / "mine")
    backup = back_up(source(kept), tmp_path / "backup")
    assert [each.folder for each in backup.bases] == [None]
    there = elsewhere()
    own.rename(tmp_path / "away")
    assert (
        "Bring the base model tiny"
        in missing_bases(restore(tmp_path / "backup", there))[0]
    )
    (tmp_path / "away").rename(own)
    assert missing_bases(backup) == []
    assert locate_base_model(base_of(there, kept), there.home).is_dir()


def test_a_base_model_is_copied_where_that_is_asked(
    kept: Kept, tiny_base: Path, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    own = own_base(kept, tiny_base, tmp_path / "mine")
    back_up(source(kept, with_base_models=True), tmp_path / "backup")
    shutil.rmtree(own)
    there = elsewhere()
    assert missing_bases(restore(tmp_path / "backup", there)) == []
    assert locate_base_model(base_of(there, kept), there.home).is_dir()


def test_while_others_write_ledger_and_pages_are_of_one_moment(
    kept: Kept, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    done = threading.Event()

    def write() -> None:
        ledger, client = (
            open_ledger(kept.home),
            MlflowClient(kept.store.uri, kept.store.uri),
        )
        pause = 0.2
        while not done.wait(pause):
            # On the slowest machine, too, there comes a pause in which both are copied.
            pause *= 1.2
            head = ledger.append(waiver(ledger.remember("busy")), ledger.state()).head
            client.set_model_version_tag(
                MODEL, "1", "assay.ledger_head", f"{head.generation}:{head.hash}"
            )

    thread = threading.Thread(target=write)
    thread.start()
    try:
        backup = back_up(source(kept), tmp_path / "backup")
    finally:
        done.set()
        thread.join()
    there = elsewhere()
    restore(tmp_path / "backup", there)
    tags = (
        MlflowClient(store_of(there).uri, store_of(there).uri)
        .get_model_version(MODEL, "1")
        .tags
    )
    head = read_ledger(there.home).state().head
    assert head == backup.ledger
    assert int(tags.get("assay.ledger_head", "1:").split(":")[0]) <= head.generation


def test_a_release_between_ledger_and_database_has_both_copied_anew(
    kept: Kept, tmp_path: Path
) -> None:
    ledger, client = (
        open_ledger(kept.home),
        MlflowClient(kept.store.uri, kept.store.uri),
    )
    copied: list[int] = []

    def writes_once() -> None:
        copied.append(1)
        if len(copied) == 1:  # the ledger's copy is there, the database's is not
            head = ledger.append(waiver(ledger.remember("busy")), ledger.state()).head
            client.set_model_version_tag(
                MODEL, "1", "assay.ledger_head", f"{head.generation}:{head.hash}"
            )

    (tmp_path / "into").mkdir()
    ledger_state = copy_records(source(kept), Copies(tmp_path / "into", writes_once))
    assert ledger_state == ledger.state()
    assert verify_export(tmp_path / "into/ledger.jsonl").head == ledger_state.head


def test_records_on_a_server_are_not_backed_up_as_if_they_were_here(
    kept: Kept, tmp_path: Path
) -> None:
    remote = BackupSource(
        kept.project,
        Store("http://127.0.0.1:9", locks=kept.home / "leases"),
        with_base_models=False,
    )
    with pytest.raises(OperationError, match="not in a SQLite file"):
        back_up(remote, tmp_path / "backup")


def test_a_damaged_ledger_is_not_backed_up(kept: Kept, tmp_path: Path) -> None:
    with closing(sqlite3.connect(kept.home / "ledger.db")) as database, database:
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("DELETE FROM entries WHERE generation = 3")
    with pytest.raises(AssayError, match="Entry 3"):
        back_up(source(kept), tmp_path / "backup")
    assert list(tmp_path.glob("backup*")) == []


def test_a_full_disk_is_named_leaves_no_folder_and_earlier_backups_alone(
    kept: Kept, backup: Path
) -> None:
    into = backup.with_name("tuesday")
    done = assay(kept, "backup", into, limit=60_000)
    assert done.returncode == 1
    assert str(into.with_name("tuesday.partial")) in done.stderr
    assert "Make room" in done.stderr
    assert list(into.parent.glob("tuesday*")) == []
    check_backup(backup)


def test_a_disk_that_fills_during_a_restore_leaves_no_home(
    kept: Kept, backup: Path
) -> None:
    shutil.rmtree(kept.home)
    done = assay(kept, "restore", backup, limit=60_000)
    assert done.returncode == 1
    assert "Make room" in done.stderr
    assert list(kept.project.root.glob(".assay*")) == []


def test_the_commands_say_what_they_did(kept: Kept, tmp_path: Path) -> None:
    made = assay(kept, "backup", tmp_path / "backup")
    assert made.returncode == 0, made.stderr
    assert "ledger up to entry 5" in made.stdout
    assert "Not copied: base model tiny" in made.stdout
    brought = assay(kept, "restore", tmp_path / "backup", "--home", tmp_path / "home")
    assert brought.returncode == 0, brought.stderr
    assert f"into {tmp_path / 'home'}: ledger up to entry 5" in brought.stdout
    looked = assay(kept, "gc", "--json", home=tmp_path / "home")
    assert looked.returncode == 0, looked.stderr


def assay(
    kept: Kept,
    *arguments: str | Path,
    limit: int | None = None,
    home: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """`assay ARGUMENTS` in the project, where no file may grow over `limit` bytes."""
    most = resource.RLIM_INFINITY if limit is None else limit
    return subprocess.run(
        [
            sys.executable,
            "-c",
            (
                f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most})); "
                f"{_MAIN}"
            ),
            *map(str, arguments),
        ],
        cwd=kept.project.root,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ASSAY_HOME": str(home or kept.home),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_AT_MOST,
    )


_MAIN = "from cli import main; main()"


def own_base(kept: Kept, tiny_base: Path, folder: Path) -> Path:
    """The released version's base model, in a folder that a test may take away."""
    shutil.copytree(tiny_base, folder)
    (link,) = [
        path for path in (kept.home / "base-models").iterdir() if path.is_symlink()
    ]
    link.unlink()
    link.symlink_to(folder)
    return folder


def base_of(project: Project, kept: Kept) -> BaseModelManifest:
    return BaseModelManifest.read(
        project.home / "packages" / kept.version.package_sha256 / "base_model.json"
    )


def revocation(reason: str) -> Revoked:
    return Revoked(model=MODEL, version="1", by="ann", reason_sha256=reason)


def waiver(reason: str) -> Waived:
    until = datetime.now(UTC) + timedelta(days=1)
    return Waived(
        rule="approvals", model=MODEL, until=until, by="ann", reason_sha256=reason
    )


def test_the_manifest_names_every_file_and_what_is_served(
    taken: Path, released: Kept
) -> None:
    backup: Backup = check_backup(taken)
    assert [each.sha256 for each in backup.packages] == [
        released.version.package_sha256
    ]
    assert backup.ledger == read_ledger(released.home).state().head
    assert {
        name.split("/")[1] for name in backup.files if name.startswith("home/")
    } >= {"keys", "cache", "mlflow.db", "packages"}
