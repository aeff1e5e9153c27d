"""`assay ui`: MLflow's pages of the home, with accounts."""

import os
import sys

from core.address import shown
from core.children import OWN_MODULE
from core.console import say
from core.environment import mlflow_address, set_library_environment
from core.errors import ParameterError
from core.home import make_home
from core.project import find_project
from core.settings import Settings


def run_ui(port: int) -> int:
    """Serve MLflow over this home's database until stopped; this process becomes the server.

    Without a login every account of the machine could read prompts there, and write files as
    this one. `ParameterError` where MLFLOW_TRACKING_URI names another MLflow.
    """
    set_library_environment()
    from registry.mlflow.accounts import ADMIN, passwords_file
    from registry.mlflow.home_store import open_store
    from serving.listen import open_socket

    project = find_project(Settings().home)
    home = project.home.resolve()
    _check_own_mlflow(mlflow_address())
    make_home(home)
    # A database that is lost or was moved is an error now: the server would make another one.
    open_store(project)
    # A port that is taken is an error now: MLflow takes ten seconds to find out.
    with open_socket("127.0.0.1", port):
        pass
    say(
        f"MLflow's pages at http://127.0.0.1:{port} ask for a login: {ADMIN!r}, "
        f"with the password in {passwords_file(home)}."
    )
    places = ["--home", str(home), "--project", str(project.root)]
    module = ["registry.mlflow.server", *places, "--port", str(port)]
    os.execv(  # noqa: S606 - this process becomes the server
        sys.executable, [*OWN_MODULE, *module]
    )


def _check_own_mlflow(address: str | None) -> None:
    if address is None:
        return
    step = "start `mlflow server` over it, or unset that variable"
    if address.startswith(("http://", "https://")):
        step = "open it in a browser"
    raise ParameterError(
        f"MLFLOW_TRACKING_URI names another MLflow, {shown(address)}: {step}. "
        "`assay ui` shows the home's own."
    )
