"""Where MLflow says that files are: its client shows its login to no other host."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core.errors import RegistryError, TransferRefused
from registry.mlflow.inbox import TRANSFER, Inbox
from registry.mlflow.places import check_own_place, check_place
from registry.mlflow.recorded import PACKAGE, ModelVersion
from registry.mlflow.store import Store

SERVER = "https://mlflow.example.org:5000"


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts:/1/abc/artifacts",
        "mlflow-artifacts://mlflow.example.org:5000/1/abc",
        "https://mlflow.example.org:5000/api/2.0/mlflow-artifacts/artifacts/1",
        "https://MLFLOW.example.org:5000/api/2.0/mlflow-artifacts/artifacts/1",
        "s3://mlflow/artifacts/1",
        "file:///srv/mlflow/1",
        "/srv/mlflow/1",
    ],
)
def test_a_client_goes_to_its_own_server_and_to_places_that_see_no_login(
    location: str,
) -> None:
    check_place(location, SERVER)


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts://evil.example.org/1",
        "mlflow-artifacts://mlflow.example.org/1",
        "mlflow-artifacts://mlflow.example.org:6000/1",
        "https://evil.example.org/api/2.0/mlflow-artifacts/artifacts",
        "http://mlflow.example.org:5000/api/2.0/mlflow-artifacts/artifacts",
        "HTTPS://evil.example.org/api/2.0/mlflow-artifacts/artifacts",
        "https://mlflow.example.org:5000@evil.example.org/x",
        "https://mlflow.example.org:5000\\@evil.example.org/x",
        "https://mlflow.example.org:5000.evil.example.org/x",
        "runs:/abc/model",
        "models:/letters/1",
    ],
)
@pytest.mark.parametrize("uri", [SERVER, "sqlite:////srv/mlflow.db"])
def test_a_client_goes_to_no_other_server(location: str, uri: str) -> None:
    with pytest.raises(RegistryError, match="its login is not shown there"):
        check_place(location, uri)


@pytest.mark.parametrize(
    ("location", "own"),
    [
        ("mlflow-artifacts:/9/abc/artifacts", "mlflow-artifacts:/1"),
        ("mlflow-artifacts:/9/abc/artifacts", "file:///srv/mlflow/1"),
        ("s3://bucket/mlflow/9/abc/artifacts", "s3://bucket/mlflow/1"),
        ("file:///srv/mlflow/9/abc/artifacts", "file:///srv/mlflow/1"),
        ("/srv/mlflow/9/abc/artifacts", "/srv/mlflow/1"),
    ],
)
def test_a_transfer_is_read_where_mlflow_puts_it(location: str, own: str) -> None:
    check_own_place(location, SERVER, own)


@pytest.mark.parametrize(
    ("location", "own"),
    [
        ("mlflow-artifacts://evil.example.org/9", "mlflow-artifacts:/1"),
        ("file:///etc/abc/artifacts", "mlflow-artifacts:/1"),
        ("file:///etc/abc/artifacts", "file:///srv/mlflow/1"),
        ("file:///srv/mlflow/../../etc/abc", "file:///srv/mlflow/1"),
        ("file:///srv/mlflow/%2e%2e/%2e%2e/etc/abc", "file:///srv/mlflow/1"),
        ("file://elsewhere/srv/mlflow/9/abc", "file:///srv/mlflow/1"),
        ("s3://bucket/other/9", "s3://bucket/mlflow/1"),
        ("s3://evil/mlflow/9", "s3://bucket/mlflow/1"),
        ("ftp://evil.example.org/mlflow/9", "s3://bucket/mlflow/1"),
        ("runs:/abc/x", "mlflow-artifacts:/1"),
        ("", "s3://bucket/mlflow/1"),
    ],
)
def test_a_transfer_is_read_nowhere_else(location: str, own: str) -> None:
    with pytest.raises(TransferRefused, match="this MLflow keeps none by itself"):
        check_own_place(location, SERVER, own)


# With MLflow's own client, and somebody who listens.


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """The address of somebody who listens, and every login that they were shown."""
    logins: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            logins.append(self.headers.get("Authorization", "none"))
            body = b'{"files": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "assay")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "of-the-service-account")
    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_address[1]}"
        yield f"{host}/api/2.0/mlflow-artifacts/artifacts/x", logins
        server.shutdown()


@pytest.fixture
def store(empty_mlflow: Path, tmp_path: Path) -> Store:
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_mlflow.read_bytes())
    return Store(f"sqlite:///{database}", tmp_path / "locks")


def test_a_sender_who_chooses_the_place_is_not_shown_the_login(
    store: Store, shown: tuple[str, list[str]], tmp_path: Path
) -> None:
    place, logins = shown
    client = store.runs._mlflow.client
    experiment = client.create_experiment("assay-transfers-eve", place)
    run_id = client.create_run(experiment, tags={TRANSFER: "0" * 64}).info.run_id
    client.update_run(run_id, status="FINISHED")
    inbox = Inbox(store.uri, tmp_path / "locks")
    assert inbox.list_open() == (run_id,)
    with pytest.raises(TransferRefused):
        inbox.fetch(run_id, "transfer.json", tmp_path, 100)
    assert logins == []


def test_whoever_registers_a_version_is_not_shown_the_login(
    store: Store, shown: tuple[str, list[str]], tmp_path: Path
) -> None:
    place, logins = shown
    client = store.runs._mlflow.client
    client.create_registered_model("letters")
    client.create_model_version("letters", place, tags={PACKAGE: "0" * 64})
    version = ModelVersion(
        name="letters",
        version="1",
        run_id="",
        package_sha256="0" * 64,
        logical_run="",
    )
    with pytest.raises(RegistryError, match="login is not shown"):
        store.fetch(version, tmp_path / "package")
    with pytest.raises(RegistryError, match="login is not shown"):
        store.signatures.read(version)
    assert logins == []


def test_whoever_made_assays_experiment_first_is_not_shown_the_login(
    store: Store, shown: tuple[str, list[str]]
) -> None:
    place, logins = shown
    store.runs._mlflow.client.create_experiment("assay", place)
    with pytest.raises(RegistryError, match="login is not shown"):
        store.runs.begin("a" * 64, "a run", {})
    assert logins == []


def test_evidence_of_a_run_elsewhere_is_not_asked_for(
    store: Store, shown: tuple[str, list[str]], tmp_path: Path
) -> None:
    place, logins = shown
    client = store.runs._mlflow.client
    experiment = client.create_experiment("of-eve", place)
    run_id = client.create_run(experiment).info.run_id
    with pytest.raises(RegistryError, match="login is not shown"):
        store.runs.fetch_evidence(run_id, tmp_path / "evidence")
    assert logins == []
