"""The servers of a team as it would run them: MLflow with accounts, Prefect with a login."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from core.environment import set_library_environment
from tests.support.guarded_server import free_port, serving
from tests.support.waiting import SECONDS_AT_MOST

ADMIN = ("admin", "admin-pa55word-1")
PREFECT_LOGIN = "kim:prefect-pa55word-1"


class Mlflow:
    """A real MLflow with accounts."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.url}/api/{path}", json=body, auth=ADMIN, timeout=SECONDS_AT_MOST
        )
        answer.raise_for_status()
        return dict(answer.json())

    def everything(self) -> list[Any]:
        """Experiments with their tags, runs and registered models."""
        experiments = self.post("2.0/mlflow/experiments/search", max_results=100)
        identities = [each["experiment_id"] for each in experiments["experiments"]]
        runs = self.post("2.0/mlflow/runs/search", experiment_ids=identities)
        models = httpx.get(
            f"{self.url}/api/2.0/mlflow/registered-models/search",
            auth=ADMIN,
            timeout=SECONDS_AT_MOST,
        )
        return [experiments, runs, models.json()]


@contextmanager
def mlflow_with_accounts(folder: Path) -> Iterator[Mlflow]:
    """`mlflow server --app-name basic-auth`, in which everybody may read everything."""
    set_library_environment()
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {ADMIN[0]}\n"
        f"admin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    with free_port() as port:
        pass
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with serving(command, port, folder / "log", **environment) as url:
        yield Mlflow(url)


@contextmanager
def prefect_with_login(folder: Path) -> Iterator[str]:
    """A Prefect server that asks for `PREFECT_LOGIN`; its address without `/api`."""
    set_library_environment()
    with free_port() as port:
        pass
    command = [
        *(sys.executable, "-m", "flows.schedule.prefect_server"),
        *("--port", str(port), "--no-services", "--no-ui"),
    ]
    database = folder / "prefect.db"
    environment = {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
        "PREFECT_SERVER_API_AUTH_STRING": PREFECT_LOGIN,
    }
    log = folder / "log"
    with serving(command, port, log, health="/api/health", **environment) as url:
        yield url
