"""What `assay up` says of the team's servers, and on a system that is not Linux."""

from pathlib import Path

import pytest

from core.errors import OperationError
from core.project import Project
from operations.services import Ports, services
from operations.up import describe_unused_servers, run_up


def test_settings_that_are_not_used_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "")
    assert describe_unused_servers() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://kim:pa55word-9@prefect.example/api")
    said = describe_unused_servers()
    assert said is not None
    assert said.startswith("`assay up` does not use PREFECT_API_URL: it runs servers")
    assert "pa55word" not in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert "MLFLOW_TRACKING_URI and PREFECT_API_URL" in (
        describe_unused_servers() or ""
    )


def test_on_macos_it_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "operations.up.describe_untried_system", lambda: "This is darwin."
    )
    with pytest.raises(OperationError, match="This is darwin"):
        run_up(Ports(), opens_browser=False)


def test_with_the_teams_mlflow_none_is_started_and_its_login_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # That of the tests' own server would be named as unused.
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "assay")
    password = "pa55word-9"  # noqa: S105  # of no server
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    project = Project(root=tmp_path, home=tmp_path / "home")
    ports = Ports(is_mlflow_the_teams=True)
    started = {each.name: each for each in services(project, ports)}
    assert "mlflow" not in started
    assert {"prefect", "endpoint", "worker", "controller"} <= set(started)
    assert all("mlflow" not in each.after for each in started.values())
    assert [option for option, _ in ports.named()] == [
        "--prefect-port",
        "--endpoint-port",
    ]
    for name in ("controller", "worker", "deployments"):
        environment = started[name].environment()
        assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow.example"
        assert environment["MLFLOW_TRACKING_PASSWORD"] == password
    # The endpoint needs the ledger alone.
    assert "MLFLOW_TRACKING_PASSWORD" not in started["endpoint"].environment()
    assert describe_unused_servers(is_mlflow_used=True) is None


@pytest.mark.parametrize("address", ["", "sqlite:////tmp/mlflow.db"])
def test_the_teams_mlflow_has_to_be_named(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(OperationError, match="--team-mlflow uses the server at"):
        run_up(Ports(is_mlflow_the_teams=True), opens_browser=False)


def test_with_a_certificate_the_endpoint_is_looked_for_over_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = Project(tmp_path, tmp_path)
    ports = Ports(endpoint=8443, playground=8081)
    for certificate, scheme in (("", "http"), ("/etc/assay.pem", "https")):
        monkeypatch.setenv("ASSAY_TLS_CERTIFICATE", certificate)
        started = {each.name: each for each in services(project, ports)}
        address = f"{scheme}://127.0.0.1:8443"
        assert started["endpoint"].health == f"{address}/healthz"
        assert started["endpoint"].link == f"{address}/v1"
        assert f"{address}/v1" in started["playground"].command
