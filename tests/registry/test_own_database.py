"""Which database a home's MLflow and Prefect have, by the settings and by what is in the home."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.errors import LedgerError, OperationError, RegistryError
from core.moved_records import MovedRecords, moved_file
from flows.schedule.prefect_server import server_settings
from operations.move_to_postgresql import LEDGER, MLFLOW, PREFECT, Targets
from registry.ledger.ledger import open_ledger, read_ledger
from registry.mlflow.own_database import own_database
from registry.mlflow.store import Store
from registry.postgresql import (
    is_same_database,
    parse_postgresql,
    postgresql_address,
    public_place,
)

NOWHERE = "postgresql://kim:correct-horse-4711@127.0.0.1:9/records"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (LEDGER, MLFLOW, PREFECT):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    return home


def mark(home: Path, **places: str) -> None:
    moved = MovedRecords(at=datetime.now(UTC), home=str(home), **places)
    moved.write(moved_file(home))


def test_without_settings_everything_is_in_the_home(home: Path) -> None:
    assert own_database(home) == f"sqlite:///{home / 'mlflow.db'}"
    database = server_settings(home)["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert database == f"sqlite+aiosqlite:///{home / 'prefect.db'}"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_each_library_gets_the_driver_that_is_installed(
    home: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    address = f"{scheme}://kim:a%40b%25@db:5433/records?sslmode=require"
    monkeypatch.setenv(MLFLOW, address)
    monkeypatch.setenv(PREFECT, address)
    login = "kim:a%40b%25@db:5433/records"
    assert own_database(home) == f"postgresql+psycopg://{login}?sslmode=require"
    assert (
        server_settings(home)["PREFECT_API_DATABASE_CONNECTION_URL"]
        == f"postgresql+asyncpg://{login}?ssl=require"
    )


@pytest.mark.parametrize(
    "address",
    ["nonsense", "mysql://u:secret@h/d", "sqlite:////tmp/x", "postgresql://h", "://"],
)
def test_what_is_no_database_of_postgresql_is_named_by_its_setting(
    home: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv(MLFLOW, address)
    with pytest.raises(RegistryError, match=MLFLOW) as refused:
        own_database(home)
    assert "secret" not in str(refused.value)
    with pytest.raises(OperationError, match=PREFECT):
        postgresql_address(PREFECT, address, "asyncpg")


def test_a_password_with_a_stray_at_is_not_shown() -> None:
    with pytest.raises(OperationError, match="written %40") as refused:
        parse_postgresql(MLFLOW, "postgresql://kim:hor@se-4711@db/records")
    assert "4711" not in str(refused.value)


def test_a_place_is_shown_without_login_and_driver() -> None:
    assert public_place(NOWHERE) == "postgresql://127.0.0.1:9/records"
    with_driver = NOWHERE.replace("postgresql:", "postgresql+psycopg:")
    assert public_place(with_driver) == "postgresql://127.0.0.1:9/records"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("postgresql://a@h/d", "postgres://b:c@h:5432/d", True),
        ("postgresql://a@h/d", "postgresql://a@h/e", False),
        ("postgresql://a@h/d", "postgresql://a@i/d", False),
        ("postgresql://a@h/d", "postgresql://a@h:5433/d", False),
        ("postgresql:///d?host=/run/a", "postgresql:///d?host=/run/b", False),
        ("postgresql:///d?host=/run/a", "postgresql://x@/d?host=/run/a", True),
    ],
)
def test_two_addresses_of_one_database(one: str, other: str, is_same: bool) -> None:
    urls = (parse_postgresql("a", one), parse_postgresql("b", other))
    assert all(isinstance(url, sa.URL) for url in urls)
    assert is_same_database(*urls) is is_same


def test_a_move_without_a_target_asks_for_one(home: Path) -> None:
    with pytest.raises(OperationError, match="Nothing says where to"):
        Targets.from_settings()
    with pytest.raises(OperationError, match="Nothing says where to"):
        Targets(ledger="", mlflow="", prefect=NOWHERE).check()
    with pytest.raises(OperationError, match="are one database"):
        Targets(ledger="", mlflow=NOWHERE, prefect=NOWHERE).check()


def test_records_in_the_home_are_not_replaced_by_an_empty_database(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MLFLOW, NOWHERE)
    assert own_database(home).startswith("postgresql+psycopg://")
    (home / "mlflow.db").touch()
    with pytest.raises(RegistryError, match="move-to-postgresql") as refused:
        own_database(home)
    assert "4711" not in str(refused.value)


def test_records_that_were_moved_are_only_used_where_they_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mlflow.db").touch()
    mark(home, mlflow=public_place(NOWHERE))
    with pytest.raises(RegistryError, match="were moved to"):
        own_database(home)
    monkeypatch.setenv(MLFLOW, NOWHERE)
    assert own_database(home).endswith("@127.0.0.1:9/records")
    monkeypatch.setenv(MLFLOW, f"{NOWHERE}2")
    with pytest.raises(RegistryError, match=r"leads to .*records2"):
        own_database(home)


def test_a_mark_of_the_ledger_says_nothing_of_mlflow_and_the_other_way_round(
    home: Path,
) -> None:
    open_ledger(home)
    mark(home, mlflow="postgresql://h/d")
    assert read_ledger(home).state().head.generation == 1
    mark(home, ledger="postgresql://h/d")
    assert own_database(home).startswith("sqlite:///")
    with pytest.raises(LedgerError, match="moved to postgresql://h/d"):
        read_ledger(home)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"at": "now"}'])
def test_a_damaged_mark_is_no_reason_to_believe_the_old_files(
    home: Path, text: str
) -> None:
    open_ledger(home)
    moved_file(home).write_text(text)
    with pytest.raises(LedgerError, match="moved to PostgreSQL"):
        open_ledger(home)
    with pytest.raises(RegistryError, match="cannot be read, so nobody knows"):
        own_database(home)


def test_a_database_that_is_away_is_said_at_once_without_its_password(
    home: Path,
) -> None:
    address = NOWHERE.replace("postgresql:", "postgresql+psycopg:")
    store = Store(address, locks=home / "leases")
    with pytest.raises(RegistryError, match="records does not answer") as refused:
        store.get_version("letters", "1")
    assert "4711" not in str(refused.value)
