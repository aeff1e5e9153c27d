"""A team's own MLflow with admission, as `mlflow server --app-name assay` starts it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from core.environment import set_library_environment
from tests.support.guarded_server import free_port, serving
from tests.support.waiting import SECONDS_AT_MOST

ADMIN = ("admin", "admin-pa55word-1")
PASSWORD = "team-pa55word-1"  # noqa: S105  # of a server that ends with the test
USERS = ("ann", "eve", "assay")
PEOPLE = """\
people:
  ann: {mlflow: [ann], roles: [release_manager, approver]}
  eve: {mlflow: [eve], roles: [author]}
"""
NOT_OF_THE_PLUG_IN = frozenset(
    {
        *("torch", "dvc", "prefect", "transformers", "peft", "trl", "accelerate"),
        *("datasets", "evaluate", "sacrebleu", "fairlearn", "great_expectations"),
        *("gguf", "openpyxl", "model_signing", "safetensors"),
    }
)
"""What MLflow's host need not have. MLflow brings pandas, numpy, pyarrow and uvicorn itself."""
_SETTINGS = """\
[mlflow]
default_permission = MANAGE
database_uri = sqlite:///{folder}/auth.db
admin_username = {user}
admin_password = {password}
auth_cache_ttl_seconds = 60
"""
_WITHOUT_HEAVY_LIBRARIES = """\
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""


@dataclass(frozen=True)
class TeamMlflow:
    """The server, and the folders of its host."""

    url: str
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def ask(self, user: str, method: str, path: str, **more: Any) -> httpx.Response:
        login = ADMIN if user == ADMIN[0] else (user, PASSWORD)
        return httpx.request(
            method,
            f"{self.url}/{path}",
            auth=login,
            timeout=SECONDS_AT_MOST,
            trust_env=False,
            **more,
        )

    def post(self, user: str, path: str, **body: Any) -> httpx.Response:
        return self.ask(user, "POST", f"api/2.0/mlflow/{path}", json=body)

    def environment(self, user: str = "assay") -> dict[str, str]:
        """That of a client which is logged in."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }


def settings_of(folder: Path) -> dict[str, str]:
    """What the admin of that server sets, and the files that it names."""
    for name in ("home", "project", "python"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "project/governed-models.yaml").write_text(
        "models: [letters, letters-tiny]\n"
    )
    (folder / "project/people.yaml").write_text(PEOPLE)
    absent = sorted(NOT_OF_THE_PLUG_IN)
    blocker = _WITHOUT_HEAVY_LIBRARIES.replace("{absent}", f"{absent}")
    (folder / "python/sitecustomize.py").write_text(blocker)
    user, password = ADMIN
    text = _SETTINGS.format(folder=folder, user=user, password=password)
    (folder / "auth.ini").write_text(text)
    return {
        "ASSAY_HOME": str(folder / "home"),
        "ASSAY_MLFLOW_PROJECT": str(folder / "project"),
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONPATH": str(folder / "python"),
    }


def command(
    folder: Path,
    port: int,
    scheme: str = "assay+sqlite",
    python: str = sys.executable,
) -> list[str]:
    """The command line of that server, with two workers."""
    return [
        *(python, "-m", "mlflow", "server", "--app-name", "assay"),
        *("--backend-store-uri", f"{scheme}:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "2"),
    ]


@contextmanager
def team_mlflow(
    folder: Path, scheme: str = "assay+sqlite", python: str = sys.executable
) -> Iterator[TeamMlflow]:
    """The server with its users, for as long as the context lasts."""
    set_library_environment()
    environment = settings_of(folder)
    with free_port() as port:
        started = command(folder, port, scheme, python)
        log = folder / "log"
        with serving(started, port, log, **environment) as url:
            server = TeamMlflow(url, folder)
            for user in USERS:
                made = server.post(
                    "admin", "users/create", username=user, password=PASSWORD
                )
                assert made.status_code == 200, made.text
            yield server
