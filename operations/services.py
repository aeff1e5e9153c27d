"""What `assay up` runs: each service's command, environment, order, and signs of readiness."""

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from socket import socket

from core.children import OWN_MODULE
from core.loopback import LOOPBACK, ask
from core.project import Project
from core.settings import Settings
from flows.schedule.prefect_login import basic, client_login, login, server_login
from flows.schedule.prefect_server import server_settings
from operations.supervise.service import Service
from operations.system_mark import system_mark
from registry.mlflow.accounts import service_login

# A person's own settings of where to find servers are not for the servers that are started here.
_OF_MLFLOW = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
_NOT_FOR_SERVICES = (
    *_OF_MLFLOW,
    "MLFLOW_REGISTRY_URI",
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
    playground: int | None = None
    """None: nobody asked for the playground."""
    is_mlflow_the_teams: bool = field(default=False, kw_only=True)
    """Whether MLFLOW_TRACKING_URI names the MLflow to use, and none is started here."""

    def named(self) -> tuple[tuple[str, int], ...]:
        """Give each port with the option that sets it."""
        own: tuple[tuple[str, int], ...] = (
            ("--prefect-port", self.prefect),
            ("--endpoint-port", self.endpoint),
        )
        if self.playground is not None:
            own = (*own, ("--playground-port", self.playground))
        if self.is_mlflow_the_teams:
            return own
        return (("--mlflow-port", self.mlflow), *own)

    def after(self, *names: str) -> tuple[str, ...]:
        """What a service waits for, of what is started here."""
        is_away = self.is_mlflow_the_teams
        return tuple(name for name in names if name != "mlflow" or not is_away)


def services(project: Project, ports: Ports) -> tuple[Service, ...]:
    """Give the services whose packages are installed, in the order in which they are shown."""
    own_mlflow = (_mlflow(project, ports.mlflow),)
    # Nobody pays for the page who does not use it.
    wants_page = ports.playground is not None
    declared = (
        *(() if ports.is_mlflow_the_teams else own_mlflow),
        _prefect(project.home, ports.prefect),
        _endpoint(project.home, ports.endpoint),
        _deployments(project.home, ports),
        _worker(project.home, ports),
        _controller(project.home, ports),
        *((_playground(project.home, ports),) if wants_page else ()),
    )
    # A part that is not installed is left out, and the others run without it.
    return tuple(service for service in declared if _is_installed(_module_of(service)))


def _mlflow(project: Project, port: int) -> Service:
    # Read once: the environment of this process does not change while services run.
    environment = _environment(project.home)
    places = ("--home", str(project.home), "--project", str(project.root))
    return Service(
        "mlflow",
        _command("registry.mlflow.server", *places, "--port", str(port)),
        lambda: environment,
        port=port,
        health=f"http://{LOOPBACK}:{port}/health",
        link=f"http://{LOOPBACK}:{port}",
    )


def _prefect(home: Path, port: int) -> Service:
    environment = _environment(home)
    return Service(
        "prefect",
        _command("flows.schedule.prefect_server", "--port", str(port)),
        lambda: {**environment, **_prefect_environment(home, port)},
        port=port,
        health=f"http://{LOOPBACK}:{port}/api/health",
        link=f"http://{LOOPBACK}:{port}",
    )


def _endpoint(home: Path, port: int) -> Service:
    environment = _environment(home)
    address = _endpoint_address(port)

    def open_socket_of_the_endpoint() -> socket:
        from serving.listen import open_socket

        return open_socket(LOOPBACK, port)

    return Service(
        "endpoint",
        _command("serving.endpoint", "--home", str(home), "--port", str(port)),
        lambda: environment,
        port=port,
        health=f"{address}/healthz",
        link=f"{address}/v1",
        # Running answers may finish: 30 s, and then some for its engines.
        seconds_to_stop=45,
        open_socket=open_socket_of_the_endpoint,
    )


def _endpoint_address(port: int) -> str:
    # With a certificate it answers https alone.
    scheme = "https" if Settings().tls_certificate else "http"
    return f"{scheme}://{LOOPBACK}:{port}"


def _playground(home: Path, ports: Ports) -> Service:
    environment = _environment(home)
    endpoint = f"{_endpoint_address(ports.endpoint)}/v1"
    places = ("--home", str(home), "--port", str(ports.playground))
    return Service(
        "playground",
        _command("serving.playground", *places, "--endpoint", endpoint),
        lambda: environment,
        # A page that is opened before that would show that nothing answers.
        after=("endpoint",),
        port=ports.playground,
        health=f"http://{LOOPBACK}:{ports.playground}/healthz",
        link=f"http://{LOOPBACK}:{ports.playground}",
    )


def _deployments(home: Path, ports: Ports) -> Service:
    return Service(
        "deployments",
        _command("flows.schedule.deploy"),
        _client_environment(home, ports),
        # It writes to both servers once, and ends.
        after=ports.after("mlflow", "prefect"),
        # It registers the deployments and ends.
        lasts=False,
    )


def _worker(home: Path, ports: Ports) -> Service:
    return Service(
        "worker",
        _command("flows.schedule.worker"),
        _client_environment(home, ports),
        after=("deployments",),
        shows_up=lambda since: _has_polled(home, ports.prefect, since),
        # A run that it executes is asked to stop and keeps its checkpoint.
        seconds_to_stop=30,
    )


def _controller(home: Path, ports: Ports) -> Service:
    return Service(
        "controller",
        _command("operations.controller"),
        _client_environment(home, ports),
        # Its first round would otherwise report both as away.
        after=ports.after("mlflow", "endpoint"),
    )


def _command(module: str, *arguments: str) -> tuple[str, ...]:
    return (*OWN_MODULE, module, *arguments)


def _module_of(service: Service) -> str:
    return service.command[len(OWN_MODULE)]


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None


def _environment(home: Path) -> dict[str, str]:
    inherited = {
        name: text for name, text in os.environ.items() if name not in _NOT_FOR_SERVICES
    }
    return {
        **inherited,
        **system_mark(home).environment,
        # Absolute, since a service may change its folder.
        "ASSAY_HOME": str(home.resolve()),
        # Its log shows each line at once, also where it dies after it.
        "PYTHONUNBUFFERED": "1",
    }


def _client_environment(home: Path, ports: Ports) -> Callable[[], dict[str, str]]:
    """Environment of a service that asks MLflow and Prefect.

    It is read when the service starts, since the passwords exist once MLflow's server is ready.
    """
    return lambda: {
        **_environment(home),
        **server_settings(home / "prefect"),
        **client_login(home),
        **_mlflow_client(home, ports),
        "PREFECT_API_URL": f"http://{LOOPBACK}:{ports.prefect}/api",
    }


def _mlflow_client(home: Path, ports: Ports) -> dict[str, str]:
    """Where MLflow is and by which login it is asked."""
    if ports.is_mlflow_the_teams:
        named = {name: os.environ.get(name) for name in _OF_MLFLOW}
        return {name: text for name, text in named.items() if text}
    return {
        **service_login(home),
        "MLFLOW_TRACKING_URI": f"http://{LOOPBACK}:{ports.mlflow}",
    }


def _prefect_environment(home: Path, port: int) -> dict[str, str]:
    """Environment of Prefect's server, which is one for this port and this origin.

    Its pages ask port 4200 by default. Without an origin of its own, any page in a browser could
    ask it.
    """
    origin = f"http://{LOOPBACK}:{port}"
    return {
        **server_settings(home / "prefect"),
        **server_login(home),
        "PREFECT_SERVER_UI_API_URL": f"{origin}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
    }


def _has_polled(home: Path, port: int, since: datetime) -> bool:
    """Whether a worker has reported to Prefect's server since then; its log does not show it."""
    from flows.schedule.worker import POOL

    answer = ask(
        f"http://{LOOPBACK}:{port}/api/work_pools/{POOL}/workers/filter",
        body=b"{}",
        authorization=basic(login(home)),
    )
    if answer is None:
        return False
    try:
        workers = json.loads(answer.body)
        heartbeats = [worker["last_heartbeat_time"] for worker in workers]
        # Heartbeats of an earlier `assay up` are in Prefect's database, too.
        return any(
            heartbeat and datetime.fromisoformat(heartbeat) > since
            for heartbeat in heartbeats
        )
    except (ValueError, TypeError, KeyError):
        return False
