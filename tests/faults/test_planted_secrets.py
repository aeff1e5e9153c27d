"""A marked secret in every address, variable and setting, and a search of everything afterwards.

Output, logs, every file of the checkout and its home, Prefect's database, MLflow's database and
artifacts, and the command lines of all processes while it went on: none has it, neither as it was
written nor in the forms that HTTP gives it.
"""

import json
import os
import sqlite3
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from core.environment import mlflow_address, prefect_address
from core.errors import AssayError, LedgerError, OperationError, RegistryError
from core.notify import notify
from core.private_file import write_private
from registry.ledger.ledger import open_ledger, read_ledger
from registry.mlflow.accounts import SERVICE
from tests.support.guarded_server import guarded_server
from tests.support.journey import Checkout, learnable_rows, run_arguments, write_rows
from tests.support.waiting import SECONDS_AT_MOST

MARK = "".join(("pl4", "nted"))  # noqa: FLY002 - the checkouts that are searched hold this file
PASSWORD = f"{MARK}@9/#{MARK}"
"""With letters that belong escaped into an address."""
PLAIN = f"{MARK}-{MARK}"
NOWHERE = "127.0.0.1:9"


def addresses(password: str) -> dict[str, str]:
    """Every setting that may hold one, at an address where nobody answers."""
    return {
        "MLFLOW_TRACKING_URI": f"http://kim:{password}@{NOWHERE}",
        "PREFECT_API_URL": f"http://kim:{password}@{NOWHERE}/api",
        "ASSAY_LEDGER_URL": f"postgresql://kim:{password}@{NOWHERE}/ledger",
        "ASSAY_WITNESS": f"http://kim:{password}@{NOWHERE}/heads",
        "ASSAY_NOTIFY": f"json://kim:{password}@{NOWHERE}/x",
        "HTTP_PROXY": f"http://kim:{password}@{NOWHERE}",
        "https_proxy": f"http://kim:{password}@{NOWHERE}",
        "MLFLOW_TRACKING_TOKEN": password,
        "PREFECT_API_KEY": password,
    }


def traces_in(content: bytes) -> list[bytes]:
    """Forms of the secret that stand in it."""
    logins = [
        b64encode(f"{user}:{each}".encode())
        for user in ("kim", SERVICE)
        for each in (PASSWORD, PLAIN)
    ]
    return [form for form in (MARK.encode(), *logins) if form in content]


def files_with_traces(*folders: Path) -> list[Path]:
    every = (
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    )
    return [path for path in every if traces_in(path.read_bytes())]


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Every command line seen on this machine meanwhile that holds the secret."""
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            found.update(
                " ".join(each.info["cmdline"] or ())
                for each in psutil.process_iter(["cmdline"])
            )

    thread = threading.Thread(target=look)
    thread.start()
    with_secret: set[str] = set()
    try:
        yield with_secret
    finally:
        over.set()
        thread.join()
        with_secret.update(line for line in found if MARK in line)


def _with_logins(mlflow: str) -> dict[str, str]:
    """The settings of a run whose servers are there, and ask for a login or do not mind one."""
    escaped = quote(PASSWORD, safe="")
    there = {
        "MLFLOW_TRACKING_URI": mlflow,
        "PREFECT_API_URL": os.environ["PREFECT_API_URL"],
    }
    with_login = {
        name: address.replace("://", f"://{SERVICE}:{escaped}@")
        for name, address in there.items()
    }
    return {**addresses(PLAIN), **with_login, "ASSAY_LEDGER_URL": ""}


@pytest.mark.ci
def test_a_run_to_a_server_with_a_login_leaves_it_nowhere(
    checkout: Checkout,
    tiny_base: Path,
    empty_mlflow: Path,
    tmp_path: Path,
    of_all: Path,
) -> None:
    """Twenty rows are too few to train on.

    The verdict goes to MLflow and to Prefect's pages all the same.
    """
    data = write_rows(tmp_path / "letters.jsonl", learnable_rows(20))
    server_home = tmp_path / "server"
    server_home.mkdir()
    (server_home / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    # Passwords of its first users, which the server takes as it finds them.
    write_private(server_home / "passwords.json", json.dumps({SERVICE: PASSWORD}))
    with guarded_server(server_home) as url, command_lines() as seen:
        process = checkout.start(*run_arguments(data, tiny_base), **_with_logins(url))
        out, err = process.communicate(timeout=SECONDS_AT_MOST)
    assert process.returncode == 3, out + err
    assert f"at {url})." in out
    assert traces_in(f"{out}{err}".encode()) == []
    (server_home / "passwords.json").unlink()
    prefect = of_all / "prefect"
    assert list(prefect.rglob("*.db"))
    assert files_with_traces(checkout.root, tmp_path, prefect) == []
    assert seen == set()


@pytest.mark.ci
@pytest.mark.parametrize(
    "password", [PASSWORD, quote(PASSWORD, safe=""), f"{MARK}@{MARK}", f"{MARK} {MARK}"]
)
def test_no_command_tells_a_secret_of_what_it_cannot_reach(
    checkout: Checkout, password: str
) -> None:
    told = ""
    with command_lines() as seen:
        for command in (
            ("status",),
            ("history",),
            ("doctor",),
            ("freeze", "--reason", "x"),
            ("gc",),
            ("audit", "verify"),
        ):
            done = checkout.assay(*command, **addresses(password))
            told += f"{command}: {done.out}{done.err}"
    assert "Traceback" not in told
    assert traces_in(told.encode()) == [], told
    assert files_with_traces(checkout.root) == []
    assert seen == set()


@pytest.fixture
def planted(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """In this process's own environment, which is afterwards as before."""
    for name in (
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
        "PREFECT_API_AUTH_STRING",
    ):
        monkeypatch.setenv(name, "")
    settings = addresses(request.param)
    for name, text in settings.items():
        monkeypatch.setenv(name, text)
    return settings


@pytest.mark.parametrize(
    "planted", [PLAIN, quote(PASSWORD, safe=""), f"{MARK}@{MARK}"], indirect=True
)
def test_a_login_is_taken_out_of_an_address_and_goes_where_the_client_looks(
    planted: Mapping[str, str],
) -> None:
    assert mlflow_address() == os.environ["MLFLOW_TRACKING_URI"] == f"http://{NOWHERE}"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "kim"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] in {PLAIN, PASSWORD, f"{MARK}@{MARK}"}
    assert prefect_address() == os.environ["PREFECT_API_URL"] == f"http://{NOWHERE}/api"
    assert (
        os.environ["PREFECT_API_AUTH_STRING"]
        == f"kim:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
    )
    assert mlflow_address() == f"http://{NOWHERE}"  # and it stays so


@pytest.mark.parametrize("planted", [PASSWORD, f"{MARK}/{MARK}"], indirect=True)
def test_an_address_that_cannot_be_understood_is_refused_and_says_where_a_login_goes(
    planted: Mapping[str, str],
) -> None:
    with pytest.raises(
        RegistryError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    ) as of_mlflow:
        mlflow_address()
    with pytest.raises(
        OperationError, match="PREFECT_API_AUTH_STRING, as USER:PASSWORD"
    ) as of_prefect:
        prefect_address()
    assert traces_in(f"{of_mlflow.value}{of_prefect.value}".encode()) == []


@pytest.mark.parametrize(
    "planted",
    [PLAIN, PASSWORD, quote(PASSWORD, safe=""), f"{MARK}@{MARK}"],
    indirect=True,
)
def test_a_ledger_that_is_away_is_told_without_its_password(
    planted: Mapping[str, str], tmp_path: Path
) -> None:
    for look in (read_ledger, open_ledger):
        with pytest.raises(
            LedgerError, match=r"unreachable|cannot be understood"
        ) as told:
            look(tmp_path)
        assert traces_in(str(told.value).encode()) == []
    assert files_with_traces(tmp_path) == []


@pytest.mark.parametrize("planted", [PLAIN], indirect=True)
def test_a_notice_is_kept_without_the_secrets_that_its_text_brings(
    planted: Mapping[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = notify(
        tmp_path,
        f"a run at {planted['MLFLOW_TRACKING_URI']}",
        f"failed: {planted['ASSAY_LEDGER_URL']}, {PLAIN}",
    )
    assert told.is_sent is False
    assert traces_in(f"{told}{caplog.text}{AssayError(PLAIN)}".encode()) == []
    assert files_with_traces(tmp_path) == []


def test_the_search_finds_what_it_is_to_find(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "some.db")) as database, database:
        database.execute("CREATE TABLE t (x TEXT)")
        database.execute("INSERT INTO t VALUES (?)", (f"at http://kim:{PLAIN}@host",))
    database.close()
    (tmp_path / "header").write_bytes(b64encode(f"kim:{PASSWORD}".encode()))
    assert files_with_traces(tmp_path) == [tmp_path / "header", tmp_path / "some.db"]
