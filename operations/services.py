"""What `assay up` runs: each service's command, environment, order, and how it shows that it is ready."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from core.loopback import HERE, ask
from core.project import Project
from flows.schedule.prefect_login import basic, client_login, login, server_login
from flows.schedule.prefect_server import server_settings
from operations.supervise.processes import mark
from operations.supervise.service import Service
from registry.mlflow.accounts import service_login

# A person's own settings of where to find servers are not for the servers that are started here.
_NOT_FOR_SERVICES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PREFECT_API_URL",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_PROFILE",
)


@dataclass(frozen=True)
class Ports:
    """Where the servers listen, on this machine only."""

    mlflow: int = 5000
    prefect: int = 4200
    endpoint: int = 8080

    def named(self) -> tuple[tuple[str, int], ...]:
        """Option to port."""
        return (
            ("--mlflow-port", self.mlflow),
            ("--prefect-port", self.prefect),
            ("--endpoint-port", self.endpoint),
        )


def services(project: Project, ports: Ports) -> tuple[Service, ...]:
    """All that this version of Assay has."""
    return tuple(each for each in _all(project, ports) if _exists(each.command[2]))


def _all(project: Project, ports: Ports) -> tuple[Service, ...]:
    home, python = project.home, (sys.executable, "-m")
    plain, clients = _environment(home), _client_environment(home, ports)
    return (
        Service(
            "mlflow",
            (
                *python,
                "registry.mlflow.server",
                "--home",
                str(home),
                "--port",
                str(ports.mlflow),
            ),
            lambda: plain,
            port=ports.mlflow,
            health=f"http://{HERE}:{ports.mlflow}/health",
            link=f"http://{HERE}:{ports.mlflow}",
        ),
        Service(
            "prefect",
            (*python, "flows.schedule.prefect_server", "--port", str(ports.prefect)),
            lambda: {**plain, **_prefect_environment(home, ports.prefect)},
            port=ports.prefect,
            health=f"http://{HERE}:{ports.prefect}/api/health",
            link=f"http://{HERE}:{ports.prefect}",
        ),
        Service(
            "endpoint",
            (
                *python,
                "serving.endpoint",
                "--home",
                str(home),
                "--port",
                str(ports.endpoint),
            ),
            lambda: plain,
            port=ports.endpoint,
            health=f"http://{HERE}:{ports.endpoint}/healthz",
            link=f"http://{HERE}:{ports.endpoint}/v1",
            seconds_to_stop=45,
            is_given_its_socket=True,
        ),
        Service(
            "deployments",
            (*python, "flows.schedule.deploy"),
            clients,
            after=("mlflow", "prefect"),
            lasts=False,
        ),
        Service(
            "worker",
            (*python, "flows.schedule.worker"),
            clients,
            after=("deployments",),
            shows_up=lambda since: _polls(home, ports.prefect, since),
            seconds_to_stop=30,
        ),
        Service(
            "controller",
            (*python, "operations.controller"),
            clients,
            after=("mlflow", "endpoint"),
        ),
    )


def _environment(home: Path) -> dict[str, str]:
    kept = {
        name: text for name, text in os.environ.items() if name not in _NOT_FOR_SERVICES
    }
    return {
        **kept,
        **mark(home),
        "ASSAY_HOME": str(home.resolve()),
        "PYTHONUNBUFFERED": "1",
    }


def _client_environment(home: Path, ports: Ports) -> Callable[[], dict[str, str]]:
    """Read when the service starts: the passwords exist once MLflow's server is ready."""
    return lambda: {
        **_environment(home),
        **server_settings(home / "prefect"),
        **service_login(home),
        **client_login(home),
        "MLFLOW_TRACKING_URI": f"http://{HERE}:{ports.mlflow}",
        "PREFECT_API_URL": f"http://{HERE}:{ports.prefect}/api",
    }


def _prefect_environment(home: Path, port: int) -> dict[str, str]:
    """Its pages ask port 4200 unless they are told otherwise, and without an origin of its own any page in a browser could ask it."""
    here = f"http://{HERE}:{port}"
    own = {
        "PREFECT_SERVER_UI_API_URL": f"{here}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": here,
    }
    return {**server_settings(home / "prefect"), **server_login(home), **own}


def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _polls(home: Path, port: int, since: datetime) -> bool:
    """Whether a worker has told Prefect's server since then that it is alive: it says nothing on its log."""
    from flows.schedule.worker import POOL

    answer = ask(
        f"http://{HERE}:{port}/api/work_pools/{POOL}/workers/filter",
        body=b"{}",
        authorization=basic(login(home)),
    )
    try:
        beats = (
            []
            if answer is None
            else [worker["last_heartbeat_time"] for worker in json.loads(answer.body)]
        )
        return any(beat and datetime.fromisoformat(beat) > since for beat in beats)
    except (ValueError, TypeError, KeyError):
        return False
