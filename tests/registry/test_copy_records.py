"""The rules by which MLflow's records are copied, between two SQLite files."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from core.errors import RegistryError
from registry.mlflow.copy_records import (
    CopiedRecords,
    copy_records,
    is_mlflows,
    unchanging,
)


@pytest.fixture
def source(empty_mlflow: Path, tmp_path: Path) -> Path:
    """A database with a model, two versions of it, a run and metrics."""
    from mlflow import MlflowClient

    path = Path(shutil.copyfile(empty_mlflow, tmp_path / "source.db"))
    client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    run = client.create_run(client.create_experiment("assay"))
    for step in range(3):
        client.log_metric(run.info.run_id, "loss", 0.1 * step, step=step)
    client.log_metric(run.info.run_id, "odd", float("nan"))
    client.create_registered_model("letters")
    for _ in range(2):
        client.create_model_version("letters", "file:///nowhere", run.info.run_id)
    client.set_registered_model_alias("letters", "champion", "2")
    return path


@pytest.fixture
def target(empty_mlflow: Path, tmp_path: Path) -> Iterator[sa.Engine]:
    """A database with MLflow's tables, which take seconds to make, and no rows."""
    shutil.copyfile(empty_mlflow, tmp_path / "target.db")
    change(tmp_path / "target.db", "DELETE FROM experiments")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'target.db'}", poolclass=NullPool)
    yield engine
    engine.dispose()


def copied(source: Path, target: sa.Engine) -> CopiedRecords:
    with unchanging(source) as connection:
        return copy_records(connection, target)


def change(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()


def count(target: sa.Engine, table: str) -> int:
    with target.connect() as connection:
        query = sa.text(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of tests
        return int(connection.execute(query).scalar_one())


def test_every_row_is_copied_and_the_source_stays_as_it_was(
    source: Path, target: sa.Engine
) -> None:
    before = source.read_bytes()
    result = copied(source, target)
    assert source.read_bytes() == before
    assert not result.was_there
    assert result.rows > 10
    assert (count(target, "metrics"), count(target, "model_versions")) == (4, 2)


def test_a_second_copy_finds_the_first_and_writes_nothing(
    source: Path, target: sa.Engine
) -> None:
    first = copied(source, target)
    again = copied(source, target)
    assert again.was_there
    assert (again.tables, again.rows) == (first.tables, first.rows)
    assert count(target, "metrics") == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE metrics SET value = 0.7 WHERE step = 2",
        "UPDATE registered_model_aliases SET version = 1",
        "DELETE FROM metrics WHERE step = 2",
        "INSERT INTO runs (run_uuid) VALUES ('another')",
    ],
)
def test_a_target_that_differs_in_one_row_is_refused_and_left_alone(
    source: Path, target: sa.Engine, tmp_path: Path, statement: str
) -> None:
    copied(source, target)
    change(tmp_path / "target.db", statement)
    before = (tmp_path / "target.db").read_bytes()
    with pytest.raises(RegistryError, match=r"holds other records .*dropdb"):
        copied(source, target)
    assert (tmp_path / "target.db").read_bytes() == before


@pytest.mark.parametrize("side", ["source.db", "target.db"])
def test_another_revision_on_either_side_is_refused(
    source: Path, target: sa.Engine, tmp_path: Path, side: str
) -> None:
    change(tmp_path / side, "UPDATE alembic_version SET version_num = 'older'")
    with pytest.raises(RegistryError, match="of revision older"):
        copied(source, target)


def test_an_empty_target_gets_its_tables_first(source: Path, tmp_path: Path) -> None:
    empty = sa.create_engine(f"sqlite:///{tmp_path / 'new.db'}", poolclass=NullPool)
    result = copied(source, empty)
    assert count(empty, "metrics") == 4
    assert not result.was_there


def test_a_file_that_is_no_mlflow_is_refused(tmp_path: Path, target: sa.Engine) -> None:
    change(tmp_path / "other.db", "CREATE TABLE other (id INTEGER)")
    with pytest.raises(RegistryError, match="of revision None"):
        copied(tmp_path / "other.db", target)
    assert count(target, "experiments") == 0


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with (
        pytest.raises(RegistryError, match="unable to open"),
        unchanging(tmp_path / "no"),
    ):
        pass
    assert not (tmp_path / "no").exists()


def test_nobody_writes_to_the_source_during_the_copy(source: Path) -> None:
    late = sqlite3.connect(source, timeout=0)
    with unchanging(source), pytest.raises(sqlite3.OperationalError, match="locked"):
        late.execute("DELETE FROM metrics")
    late.execute("DELETE FROM metrics")
    late.close()


def test_a_source_that_somebody_writes_now_is_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.mlflow.copy_records.SECONDS_FOR_A_WRITER", 0.1)
    writer = sqlite3.connect(source, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(RegistryError, match="is written by another"),
        unchanging(source),
    ):
        pass
    writer.close()


def test_a_row_that_the_target_does_not_take_leaves_the_target_empty(
    source: Path, target: sa.Engine, tmp_path: Path
) -> None:
    change(
        tmp_path / "target.db",
        "CREATE TRIGGER no BEFORE INSERT ON model_versions"
        " BEGIN SELECT RAISE(ABORT, 'this one not'); END",
    )
    with pytest.raises(RegistryError, match=r"table model_versions.*this one not"):
        copied(source, target)
    assert count(target, "experiments") == 0


def test_a_target_that_gives_other_rows_back_is_not_committed(
    source: Path, target: sa.Engine, tmp_path: Path
) -> None:
    change(
        tmp_path / "target.db",
        "CREATE TRIGGER other AFTER INSERT ON metrics WHEN NEW.step = 1"
        " BEGIN UPDATE metrics SET value = 9 WHERE step = 1; END",
    )
    with pytest.raises(RegistryError, match=r"other rows back.* in metrics"):
        copied(source, target)
    assert count(target, "experiments") == 0


def test_tables_of_other_programs_are_told_apart() -> None:
    assert is_mlflows({"alembic_version", "experiments", "runs", "spans"})
    assert not is_mlflows({"alembic_version", "entries", "texts"})
    assert not is_mlflows({"experiments", "flow_run"})
