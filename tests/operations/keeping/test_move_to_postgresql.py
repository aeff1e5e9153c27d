"""`assay move-to-postgresql`, into a real PostgreSQL and back out through MLflow's client."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import Metric

from core.errors import LedgerError, RegistryError
from core.locks import endpoint_lock, exclusive, serve_records, share_home, up_lock
from core.moved_records import moved_file, read_moved
from operations.move_to_postgresql import LEDGER, MLFLOW, PREFECT
from registry.ledger.ledger import open_ledger, read_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.own_database import own_database
from registry.postgresql import engine_of, postgresql_address
from tests.operations.keeping.conftest import MODEL, Kept
from tests.support.commands import assay
from tests.support.journey import Checkout
from tests.support.ledgers import append_released, frozen
from tests.support.postgres import Postgres, postgres
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.ci

PASSWORD = "correct-horse-4711"  # noqa: S105 - of a database of this test
NUMBERS = iter(range(1_000))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def urls(cluster: Postgres) -> dict[str, str]:
    """Three empty databases by their settings, each with a password."""
    number = next(NUMBERS)
    names = {LEDGER: "ledger", MLFLOW: "mlflow", PREFECT: "prefect"}
    return {
        setting: cluster.create(f"{name}{number}").replace(
            "assay@", f"assay:{PASSWORD}@"
        )
        for setting, name in names.items()
    }


@pytest.fixture
def home(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a release, and what a year of work puts into MLflow beside it."""
    monkeypatch.setenv("ASSAY_HOME", str(kept.home))
    client = client_of(kept.store.uri)
    run = client.get_run(kept.store.runs.begin("work", "name", {}).run_id)
    curve = [Metric("loss", 1 / (step + 1), step, step) for step in range(700)]
    client.log_batch(run.info.run_id, metrics=curve)
    client.log_metric(run.info.run_id, "odd", float("nan"))
    client.log_param(run.info.run_id, "ünïcode", "ä % ' \" \\ 文")
    client.set_registered_model_alias(MODEL, "champion", "1")
    client.set_model_version_tag(MODEL, "1", "note", "a person's own")
    return kept.home


@pytest.fixture
def configured(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings lead to the empty databases."""
    for name, url in urls.items():
        monkeypatch.setenv(name, url)
    return urls


def client_of(uri: str) -> MlflowClient:
    return MlflowClient(uri, uri)


def everything(client: MlflowClient) -> dict[str, Any]:
    """All that MLflow's client says of experiments, runs, metrics, models and versions."""
    experiments = client.search_experiments()
    runs = client.search_runs([each.experiment_id for each in experiments])
    versions = client.search_model_versions()
    return {
        "experiments": [dict(each) for each in experiments],
        # As text: NaN is not equal to itself.
        "runs": {each.info.run_id: repr(each.to_dictionary()) for each in runs},
        "metrics": {
            (each.info.run_id, name): [
                repr(point.to_dictionary())
                for point in client.get_metric_history(each.info.run_id, name)
            ]
            for each in runs
            for name in each.data.metrics
        },
        "models": [
            (each.name, dict(each.aliases), dict(each.tags))
            for each in client.search_registered_models()
        ],
        "versions": [
            {**dict(each), "tags": dict(each.tags), "aliases": list(each.aliases)}
            for each in versions
        ],
    }


def moved() -> str:
    result = assay("move-to-postgresql")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    return result.output


def refusal() -> str:
    result = assay("move-to-postgresql")
    assert result.exit_code == 1, result.output
    assert PASSWORD not in result.output
    return result.output


def rows(url: str, table: str) -> int:
    """How many rows a target has; 0 where it has no such table."""
    engine = engine_of(postgresql_address("the test", url, "psycopg"))
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(table):
            return 0
        query = sa.text(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of tests
        return int(connection.execute(query).scalar_one())


def is_untouched(home: Path, urls: dict[str, str]) -> bool:
    """Whether the home is used as before, and nothing is in MLflow's target."""
    return not moved_file(home).exists() and rows(urls[MLFLOW], "experiments") == 0


def test_what_mlflow_and_the_ledger_say_is_the_same_before_and_after(
    kept: Kept, home: Path, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(client_of(kept.store.uri))
    state, texts = read_ledger(home).state(), read_ledger(home).texts()
    files = {name: (home / name).read_bytes() for name in ("mlflow.db", "ledger.db")}
    for name, url in urls.items():
        monkeypatch.setenv(name, url)
    said = moved()
    assert f"the last entry {state.head.hash[:12]} as before" in said
    assert "Prefect begins anew" in said
    assert everything(client_of(own_database(home))) == before
    assert len(before["metrics"]) > 1
    assert read_ledger(home).state() == state
    assert read_ledger(home).texts() == texts
    assert texts
    assert {name: (home / name).read_bytes() for name in files} == files
    audited = assay("audit", "verify")
    assert audited.exit_code == 0, audited.output
    mark = moved_file(home).read_text()
    assert PASSWORD not in mark
    assert "assay:" not in mark


def test_work_goes_on_behind_the_highest_numbers_that_were_copied(
    kept: Kept, home: Path, configured: dict[str, str]
) -> None:
    moved()
    store = open_store(kept.project)
    client = client_of(store.uri)
    ids = {int(each.experiment_id) for each in client.search_experiments()}
    assert int(client.create_experiment("another")) == max(ids) + 1
    assert int(client.create_model_version(MODEL, "file:///x").version) == 2
    assert store.get_version(MODEL, "1") == kept.version
    assert store.fetch(kept.version, home / "fetched").is_dir()
    ledger = open_ledger(home)
    before = ledger.state()
    after = ledger.append(frozen(), before)
    assert after.head.generation == before.head.generation + 1


def test_a_process_that_is_killed_in_the_middle_leaves_nothing_that_counts(
    kept: Kept, home: Path, configured: dict[str, str]
) -> None:
    from mlflow.store.db.utils import _safe_initialize_tables

    url = postgresql_address("the test", configured[MLFLOW], "psycopg")
    engine = engine_of(url)
    _safe_initialize_tables(engine)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with engine.connect() as connection:
        # It waits for this lock when half of the tables are filled.
        connection.exec_driver_sql("LOCK TABLE model_versions IN EXCLUSIVE MODE")
        environment = {"ASSAY_HOME": str(home), **configured}
        process = Checkout(kept.project.root, environment).start("move-to-postgresql")
        wait_until(
            lambda: (
                connection.exec_driver_sql(waiting).scalar_one() > 0
                or process.poll() is not None
            )
        )
        # One that has ended has no words, which would show nothing.
        words = psutil.Process(process.pid).cmdline()
        assert not [word for word in words if PASSWORD in word]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    wait_until(lambda: is_untouched(home, configured))
    assert rows(configured[LEDGER], "entries") > 0
    # Until the mark is there, the target is not used in place of the file.
    with pytest.raises(RegistryError, match="move-to-postgresql"):
        open_store(kept.project)
    assert "rows of" in moved()
    assert rows(configured[MLFLOW], "model_versions") == 1


def test_what_was_copied_without_a_mark_is_found_and_compared(
    home: Path, configured: dict[str, str]
) -> None:
    moved()
    moved_file(home).unlink()
    assert "were there already" in moved()
    moved_file(home).unlink()
    with sqlite3.connect(home / "mlflow.db") as file:
        file.execute("UPDATE metrics SET value = 7 WHERE step = 3")
    assert "holds other records" in refusal()
    assert not moved_file(home).exists()


def test_a_reason_that_was_erased_in_between_does_not_stay_in_the_target(
    home: Path, configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved()
    moved_file(home).unlink()
    monkeypatch.delenv(LEDGER)
    ledger = open_ledger(home)
    ledger.erase(next(iter(ledger.texts())))
    monkeypatch.setenv(LEDGER, configured[LEDGER])
    assert "other reasons" in refusal()


def test_entries_that_came_in_between_are_not_mixed_with_those_of_the_target(
    home: Path, configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved()
    moved_file(home).unlink()
    monkeypatch.delenv(LEDGER)
    ledger = open_ledger(home)
    ledger.append(frozen(), ledger.state())
    monkeypatch.setenv(LEDGER, configured[LEDGER])
    assert "has other entries already" in refusal()


def test_entries_that_came_in_postgresql_before_the_mark_are_kept(
    home: Path, configured: dict[str, str]
) -> None:
    moved()
    moved_file(home).unlink()
    ledger = open_ledger(home)
    state = ledger.append(frozen(), ledger.state())
    assert "newer than the file's" in moved()
    assert read_ledger(home).state() == state


def test_a_ledger_that_was_cut_is_not_moved(
    home: Path, configured: dict[str, str]
) -> None:
    with sqlite3.connect(home / "ledger.db") as file:
        file.execute("DROP TRIGGER entries_no_delete")
        file.execute("DELETE FROM entries WHERE generation > 2")
    assert "is not whole (Entry 3 is missing" in refusal()
    assert is_untouched(home, configured)
    assert rows(configured[LEDGER], "entries") == 0


def test_a_mark_that_cannot_be_read_stops_the_move(
    home: Path, configured: dict[str, str]
) -> None:
    moved_file(home).write_text("{}")
    assert "cannot be read, so nobody knows" in refusal()
    assert rows(configured[LEDGER], "entries") == 0


def test_a_server_without_its_database_ends_with_one_sentence(
    kept: Kept, cluster: Postgres, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "registry.mlflow.server", "--port", "9"]
    nowhere = f"postgresql://assay:{PASSWORD}@127.0.0.1:{cluster.port}/nowhere"
    ended = subprocess.run(
        [*command, "--home", str(tmp_path / "new"), "--project", str(tmp_path)],
        env={**os.environ, MLFLOW: nowhere},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_AT_MOST,
    )
    assert ended.returncode == 1
    assert "/nowhere does not answer" in ended.stdout.splitlines()[-1]
    assert PASSWORD not in ended.stdout + ended.stderr


def test_moving_twice_says_when_it_was_done(
    home: Path, configured: dict[str, str]
) -> None:
    moved()
    mark = moved_file(home).read_bytes()
    assert "were moved on" in refusal()
    assert moved_file(home).read_bytes() == mark


def test_the_ledger_alone_may_go_first(
    kept: Kept, home: Path, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEDGER, urls[LEDGER])
    assert "MLflow's records were not moved" in moved()
    assert open_store(kept.project).uri == kept.store.uri
    monkeypatch.setenv(MLFLOW, urls[MLFLOW])
    assert "MLflow's records are in" in moved()
    mark = read_moved(home)
    assert mark is not None
    assert (mark.ledger is not None, mark.mlflow is not None) == (True, True)


@pytest.mark.parametrize(
    ("user", "word"),
    [
        (lambda home: exclusive(up_lock(home)), "`assay up` runs"),
        (lambda home: exclusive(endpoint_lock(home)), "`assay serve` runs"),
        (serve_records, "`assay ui` runs"),
        (share_home, "A run or a backup uses"),
    ],
)
def test_a_home_in_use_is_left_alone(
    home: Path,
    configured: dict[str, str],
    user: Callable[[Path], AbstractContextManager[None]],
    word: str,
) -> None:
    with user(home):
        assert word in refusal()
    assert is_untouched(home, configured)
    assert rows(configured[LEDGER], "entries") == 0


def test_after_the_move_nothing_goes_on_in_the_files(
    kept: Kept,
    home: Path,
    configured: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(LEDGER)
    opened_before = open_ledger(home)
    state = opened_before.state()
    monkeypatch.setenv(LEDGER, configured[LEDGER])
    moved()
    for name in configured:
        monkeypatch.delenv(name)
    for attempt in (open_ledger, read_ledger):
        with pytest.raises(LedgerError, match=r"was moved to .*Set ASSAY_LEDGER_URL"):
            attempt(home)
    with pytest.raises(LedgerError, match="was moved to"):
        opened_before.append(frozen(), state)
    with pytest.raises(RegistryError, match="Set ASSAY_MLFLOW_DATABASE_URL"):
        open_store(kept.project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", kept.store.uri)
    with pytest.raises(RegistryError, match="Set ASSAY_MLFLOW_DATABASE_URL"):
        open_store(kept.project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for command in (["up"], ["history"], ["freeze", "--reason", "x"], ["ui"]):
        result = assay(*command)
        assert (result.exit_code, "was moved" in result.output) == (1, True) or (
            "were moved" in result.output
        ), command


def test_settings_without_a_move_begin_no_second_history(
    kept: Kept, home: Path, configured: dict[str, str]
) -> None:
    for attempt in (open_ledger, read_ledger):
        with pytest.raises(LedgerError, match=r"ledger.db.*move-to-postgresql"):
            attempt(home)
    with pytest.raises(RegistryError, match=r"mlflow.db.*move-to-postgresql"):
        open_store(kept.project)
    for command in ("up", "history", "ui"):
        result = assay(command)
        assert result.exit_code == 1, command
        assert "move-to-postgresql" in result.output, command
    assert rows(configured[LEDGER], "entries") == 0
    assert rows(configured[MLFLOW], "experiments") == 0


def test_the_settings_of_another_place_are_refused_after_the_move(
    kept: Kept,
    home: Path,
    configured: dict[str, str],
    cluster: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved()
    monkeypatch.setenv(MLFLOW, cluster.create(f"other{next(NUMBERS)}"))
    with pytest.raises(RegistryError, match=r"leads to .*/other"):
        open_store(kept.project)
    monkeypatch.setenv(LEDGER, cluster.create(f"other{next(NUMBERS)}"))
    with pytest.raises(LedgerError, match="There was a ledger here"):
        open_ledger(home)


def test_a_ledger_of_others_is_not_obeyed_by_a_home_that_has_its_own(
    home: Path, configured: dict[str, str], tmp_path: Path
) -> None:
    append_released(open_ledger(tmp_path / "theirs"))
    assert "has other entries already" in refusal()


def test_a_home_that_is_somewhere_else_after_the_move_is_named(
    kept: Kept, home: Path, configured: dict[str, str], tmp_path: Path
) -> None:
    moved()
    there = kept.copied(tmp_path / "there")
    with pytest.raises(RegistryError, match="Move the home back"):
        open_store(there.project)


def test_two_settings_of_one_database_are_refused(
    home: Path, configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another login is no other database.
    same = configured[MLFLOW].replace(f"assay:{PASSWORD}@", "postgres@")
    monkeypatch.setenv(LEDGER, same)
    assert "are one database" in refusal()
    assert is_untouched(home, configured)
    # Neither is another name of its host.
    monkeypatch.setenv(LEDGER, configured[MLFLOW].replace("127.0.0.1", "localhost"))
    assert "are one database" in refusal()
    assert is_untouched(home, configured)


@pytest.mark.parametrize("setting", [LEDGER, MLFLOW, PREFECT])
def test_a_database_of_another_program_is_left_alone(
    home: Path, configured: dict[str, str], setting: str
) -> None:
    url = postgresql_address("the test", configured[setting], "psycopg")
    with engine_of(url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (id INTEGER)")
    assert "tables of another program, as customers" in refusal()
    assert is_untouched(home, configured)


@pytest.mark.parametrize("setting", [LEDGER, MLFLOW, PREFECT])
def test_a_database_that_is_not_there_is_named_without_its_password(
    home: Path,
    configured: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    monkeypatch.setenv(setting, f"{configured[setting]}-nowhere")
    said = refusal()
    assert f"correct {setting}" in said
    assert "nowhere" in said
    assert is_untouched(home, configured)


def test_a_row_that_postgresql_does_not_take_is_named_by_its_table(
    home: Path, configured: dict[str, str]
) -> None:
    with sqlite3.connect(home / "mlflow.db") as file:
        file.execute("UPDATE model_version_tags SET value = 'a' || char(0) || 'b'")
    said = refusal()
    assert "table model_version_tags" in said
    assert is_untouched(home, configured)


def test_what_was_paused_in_prefect_is_named(
    home: Path, configured: dict[str, str]
) -> None:
    (home / "prefect").mkdir()
    with sqlite3.connect(home / "prefect/prefect.db") as file:
        file.execute("CREATE TABLE deployment (name TEXT, paused BOOLEAN)")
        file.execute("INSERT INTO deployment VALUES ('nightly', 1), ('rescore', 0)")
    said = moved()
    assert "Paused in Prefect until now: nightly." in said
