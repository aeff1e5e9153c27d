"""What a real PostgreSQL says of a ledger that cannot be used, and that nothing is made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.errors import LedgerError
from registry.ledger.database import Database
from registry.ledger.examine import LedgerServer, examine_ledger
from registry.ledger.ledger import is_still_to_be_made, open_ledger
from tests.support.postgres import Postgres, postgres

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def url(
    cluster: Postgres, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """An empty database of the test's own."""
    url = cluster.create(f"d{abs(hash(request.node.name))}")
    monkeypatch.setenv("ASSAY_LEDGER_URL", url)
    return url


def execute(url: str, *statements: str) -> None:
    with Database(url).writing() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def found() -> LedgerServer:
    ledger = examine_ledger()
    assert ledger is not None
    return ledger


def as_reader(url: str, patch: pytest.MonkeyPatch) -> None:
    """Go on as an account that was granted nothing."""
    execute(
        url,
        "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN "
        "NULL; END $$",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    patch.setenv("ASSAY_LEDGER_URL", url.replace("assay@", "reader:pa55word-9@"))


def test_an_empty_database_will_do_and_stays_empty(url: str, tmp_path: Path) -> None:
    ledger = found()
    assert ledger.sentence.endswith("; the first run opens a ledger in it")
    assert not ledger.has_ledger
    assert is_still_to_be_made(tmp_path)
    with Database(url).reading() as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_an_open_ledger_is_said_so(url: str, tmp_path: Path) -> None:
    open_ledger(tmp_path)
    assert found().has_ledger
    assert ", PostgreSQL " in found().sentence
    assert not is_still_to_be_made(tmp_path / "another machine")


def test_an_account_that_may_make_no_tables_is_said_so(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_reader(url, monkeypatch)
    with pytest.raises(LedgerError, match="may not make its tables") as told:
        examine_ledger()
    assert "pa55word" not in str(told.value)


def test_an_account_that_may_not_enter_is_said_so(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ledger(tmp_path)
    as_reader(url, monkeypatch)
    with pytest.raises(LedgerError, match="may not SELECT in the table entries"):
        examine_ledger()
    execute(url, "GRANT SELECT ON entries, texts TO reader")
    with pytest.raises(LedgerError, match="may not INSERT in the table entries"):
        examine_ledger()
    execute(url, "GRANT INSERT ON entries TO reader")
    with pytest.raises(LedgerError, match="may not INSERT in the table texts"):
        examine_ledger()
    execute(url, "GRANT INSERT ON texts TO reader")
    with pytest.raises(LedgerError, match="SELECT in the table alembic_version"):
        examine_ledger()
    execute(url, "GRANT SELECT ON alembic_version TO reader")
    assert found().has_ledger


def test_a_database_that_takes_no_writes_is_said_so(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ledger(tmp_path)
    name = url.rpartition("/")[2]
    execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(LedgerError, match="is set to be read-only"):
        examine_ledger()


def test_an_unknown_account_is_told_from_an_absent_database(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = url.replace("assay@", "nobody:pa55word-9@")
    monkeypatch.setenv("ASSAY_LEDGER_URL", unknown)
    with pytest.raises(LedgerError, match="does not know this login") as told:
        examine_ledger()
    assert "pa55word" not in str(told.value)
    monkeypatch.setenv("ASSAY_LEDGER_URL", f"{url}_of_nobody")
    with pytest.raises(LedgerError, match="There is no ledger at"):
        examine_ledger()
