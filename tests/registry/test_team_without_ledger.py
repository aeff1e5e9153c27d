"""A team's MLflow whose ledger is away, and whose admin forgot `assay+` in the address."""

import subprocess
import sys
from pathlib import Path

import pytest

from registry.mlflow.announced import admits
from registry.mlflow.examine import mlflow_server
from registry.mlflow.recorded import RELEASE, RELEASE_REASON
from tests.support.ledgers import MODEL
from tests.support.team_mlflow import NOT_OF_THE_PLUG_IN, TeamMlflow, team_mlflow
from tests.support.team_servers import mlflow_with_accounts

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.ci


def make(server: TeamMlflow, name: str) -> None:
    """A model of eve's with a version from a logged model of hers."""
    experiment = server.post("eve", "experiments/create", name=f"of {name}").json()
    logged = server.post("eve", "logged-models", **experiment, name="m").json()
    model_id = logged["model"]["info"]["model_id"]
    server.post("eve", "registered-models/create", name=name)
    source = {"source": f"models:/{model_id}", "model_id": model_id}
    made = server.post("eve", "model-versions/create", name=name, **source)
    assert made.status_code == 200, made.text


def test_what_is_governed_is_refused_with_the_sentence_and_the_rest_works(
    tmp_path: Path,
) -> None:
    check_server(tmp_path, sys.executable)


@pytest.mark.slow
def test_the_same_with_the_libraries_of_the_plug_in_alone(
    cloned: Path, tmp_path: Path
) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    environment = tmp_path / "venv"
    python = str(environment / "bin/python")
    lock = str(ROOT / "requirements.lock")
    install = [uv, "pip", "install", "--quiet", "--python", python]
    install += ["--constraint", lock, f"{cloned}[mlflow-plugin]"]
    for step in ([uv, "venv", "--quiet", str(environment)], install):
        subprocess.run(step, check=True, timeout=1200)
    find = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    found = subprocess.run(
        [python, "-c", find, *NOT_OF_THE_PLUG_IN],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"
    assay = [str(environment / "bin/assay")]
    assert subprocess.run([*assay, "--help"], check=False).returncode == 0
    (tmp_path / "server").mkdir()
    check_server(tmp_path / "server", python)


def check_server(folder: Path, python: str) -> None:
    with team_mlflow(folder, "sqlite", python) as server:
        for name in (MODEL, "theirs"):
            make(server, name)
        reason = {"version": "1", "key": RELEASE_REASON, "value": "better"}
        version = {"version": "1", "alias": RELEASE}
        for name, status in ((MODEL, 403), ("theirs", 200)):
            tagged = server.post("ann", "model-versions/set-tag", name=name, **reason)
            assert tagged.status_code == 200
            answer = server.post("ann", "registered-models/alias", name=name, **version)
            assert answer.status_code == status, answer.text
            if status == 403:
                said = answer.json()["message"]
        assert "There is no ledger at" in said
        approve = {"name": MODEL, "version": "1", "key": "approve", "value": "good"}
        refused = server.post("ann", "model-versions/set-tag", **approve)
        assert refused.status_code == 403
        asked = mlflow_server(server.url, seconds=30)
        assert admits(asked, MODEL)
        assert not admits(asked, "theirs")


def test_an_mlflow_without_the_plug_in_admits_nothing(tmp_path: Path) -> None:
    with mlflow_with_accounts(tmp_path) as plain:
        assert not admits(mlflow_server(plain.url, seconds=30), MODEL)
