"""From a laptop's SQLite to PostgreSQL for ledger, MLflow and Prefect, with every process."""

from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from operations.move_to_postgresql import LEDGER, MLFLOW, PREFECT
from operations.supervise.processes import find_marked
from operations.system_mark import system_mark
from registry.mlflow.recorded import VERDICT
from registry.postgresql import engine_of, postgresql_address
from tests.support.journey import Checkout, wait_for_end
from tests.support.postgres import postgres
from tests.support.promoted import (
    MODEL,
    System,
    entry_kinds,
    model_state,
    system_of,
    waived_site,
)

pytestmark = pytest.mark.slow

PASSWORD = "correct-horse-4711"  # noqa: S105 - of databases of this test


def promote(system: System) -> None:
    done = wait_for_end(system.promote())
    assert done.code == 0, f"{done.out}\n{done.err}\n{system.logs()}"
    model = system.settled()
    assert model.current is not None
    assert model.current.release.version == "1"
    assert not model.serves_base


def answer(system: System) -> str:
    response = system.answer()
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def names(url: str, statement: str) -> set[str]:
    engine = engine_of(postgresql_address("the test", url, "psycopg"))
    with engine.connect() as connection:
        return set(connection.execute(sa.text(statement)).scalars())


def places_of_the_password(home: Path) -> list[str]:
    """Files below the home and command lines that hold it."""
    files = [
        str(path)
        for path in home.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and PASSWORD.encode() in path.read_bytes()
    ]
    lines = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        lines += [word for word in words if PASSWORD in word]
    return [*files, *lines]


def test_a_home_with_a_release_goes_on_in_postgresql(
    recorded: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = waived_site(recorded, tmp_path / "assay")
    with system_of(site) as system:
        promote(system)
        said = answer(system)
    before = model_state(site)
    kinds = entry_kinds(site)
    with postgres() as cluster:
        urls = {
            name: cluster.create(database).replace("assay@", f"assay:{PASSWORD}@")
            for name, database in (
                (LEDGER, "ledger"),
                (MLFLOW, "mlflow"),
                (PREFECT, "prefect"),
            )
        }
        moved = site.assay("move-to-postgresql", **urls)
        assert moved.code == 0, moved.err
        assert PASSWORD not in moved.out + moved.err
        left = site.assay("up", "--no-open")
        assert left.code == 1
        assert "were moved to" in left.err
        for name, url in urls.items():
            monkeypatch.setenv(name, url)
        site = Checkout(site.root, {**site.environment, **urls})
        assert model_state(site) == before
        prefect_file = (site.home / "prefect/prefect.db").read_bytes()
        with system_of(site) as system:
            assert system.settled() == before
            assert answer(system) == said
            reason = ("--model", MODEL, "--reason", "a false alarm")
            brake = site.assay("serve-base", *reason)
            assert brake.code == 0, brake.err
            assert system.settled().serves_base
            promote(system)
            assert answer(system) == said
            assert {"nightly"} <= names(urls[PREFECT], "SELECT name FROM deployment")
            assert names(urls[PREFECT], "SELECT name FROM worker")
            assert list(find_marked(system_mark(site.home)))
            assert places_of_the_password(site.home) == []
            status = site.assay("status")
            assert (status.code, status.err) == (0, "")
            assert MODEL in status.out
        assert (site.home / "prefect/prefect.db").read_bytes() == prefect_file
        assert entry_kinds(site)[: len(kinds)] == kinds
        versions = site.store.pages_with(VERDICT)
        assert set(versions) == {f"{MODEL} 1"}
        audited = site.assay("audit", "verify")
        assert audited.code == 0, audited.out + audited.err
        refused = site.assay("backup", tmp_path / "backup")
        assert "pg_dump" in refused.err
        assert names(urls[LEDGER], "SELECT kind FROM entries") == set(entry_kinds(site))
        assert names(
            urls[MLFLOW],
            f"SELECT version::text FROM registered_model_aliases"  # noqa: S608
            f" WHERE name = '{MODEL}' AND alias = 'champion'",
        ) == {"1"}
