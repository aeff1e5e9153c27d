"""Whether the MLflow at `MLFLOW_TRACKING_URI` can record runs and versions, asked within seconds.

Nothing is written: the right to write is known from a request to write that lacks a field. A server
looks for the right first, and then refuses the request for its form.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from core.address import shown
from core.environment import mlflow_address
from core.errors import OperationError
from core.team_server import SECONDS_TO_EXAMINE, Answer, TeamServer, within
from registry.mlflow.connection import EXPERIMENT

OLDEST = (3, 0)
"""Versions are logged models, which servers have had since then."""
_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_VERSION = re.compile(r"(\d+)\.(\d+)[\w.+-]*")
_LOGIN_SETTINGS = (
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, "
    "to a login that it knows"
)
_OWN_LOGIN_SCHEMES = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")
_LIBRARIES = {
    "s3": "boto3",
    "gs": "google.cloud.storage",
    "wasbs": "azure.storage.blob",
    "abfss": "azure.storage.filedatalake",
}
"""What a client needs where it writes artifacts past the server."""


def examine_mlflow(seconds: float = SECONDS_TO_EXAMINE) -> str | None:
    """One sentence on the configured MLflow; None where none is configured.

    `OperationError` or `RegistryError` where it cannot be used.
    """
    address = mlflow_address()
    if address is None:
        return None
    # A folder or a database: nothing answers, and whoever opens it finds what is wrong.
    is_over_http = address.lower().startswith(("http://", "https://"))
    if not is_over_http:
        return f"{shown(address)} is opened without a server"
    # Plug-ins sign each request in ways that only MLflow's client knows.
    for name in _OWN_LOGIN_SCHEMES:
        if os.environ.get(name):
            return f"{shown(address)} was not asked, since {name} is set"
    server = mlflow_server(address, seconds)
    place = server.place
    return within(seconds, place, lambda: _examine(server))


def mlflow_server(address: str, seconds: float) -> TeamServer:
    """The server as MLflow's client would ask it: login and certificates of its own settings."""
    is_unverified = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower()
    authority = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    return TeamServer(
        name="MLflow",
        setting="MLFLOW_TRACKING_URI",
        address=address,
        login_settings=_LOGIN_SETTINGS,
        authority_setting="MLFLOW_TRACKING_SERVER_CERT_PATH",
        headers=_login(),
        verify=is_unverified not in {"true", "1"} and (authority or True),
        seconds=seconds,
        own_certificate=os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    )


def _login() -> dict[str, str]:
    """The header of the login that MLflow's client would send."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    # As MLflow's client chooses: the variables, then its own file, then a token.
    has_login = bool(user and password)
    own_file = Path("~/.mlflow/credentials").expanduser()
    if not has_login and own_file.is_file():
        from mlflow.utils.credentials import read_mlflow_creds

        user, password = read_mlflow_creds()
    if user and password:
        from requests.auth import _basic_auth_str

        return {"Authorization": _basic_auth_str(user, password)}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _examine(server: TeamServer) -> str:
    # First what says most when it fails: that this is MLflow, and that it knows the login.
    experiment = _find_experiment(server)
    version = _check_version(server)
    if experiment is None:
        _check_may_write(server, "/experiments/create", {})
        where = _describe_future_artifacts(server)
    else:
        identity = str(experiment["experiment_id"])
        _check_may_write(
            server, "/experiments/set-experiment-tag", {"experiment_id": identity}
        )
        location = str(experiment.get("artifact_location", ""))
        where = _check_artifacts(server, location)
    _check_may_write(server, "/registered-models/create", {})
    _check_absence_shows(server)
    return f"{server.place}, version {version}; {where}"


def _check_version(server: TeamServer) -> str:
    """Say the version; `OperationError` for one that does not do.

    A proxy may let through the API alone, so a server that does not say it is no problem.
    """
    answer = server.ask("/version")
    text = answer.body.decode(errors="replace").strip()
    match = _VERSION.fullmatch(text)
    if answer.status != 200 or match is None:
        return "not said"
    major, minor = match.groups()
    found = (int(major), int(minor))
    # A new major version may have another API.
    is_too_old = found < OLDEST
    is_too_new = found[0] > OLDEST[0]
    if is_too_old or is_too_new:
        raise OperationError(
            f"{server.place} is version {text}, and Assay needs MLflow "
            f"{OLDEST[0]}. Install that one there."
        )
    return text


def _check_kind(server: TeamServer) -> None:
    """Before a login is asked for: MLflow itself says without one that it is well."""
    answer = server.ask("/health")
    body = answer.body.strip()
    is_well = body == b"OK"
    # Where a proxy wants the login, nothing can be said.
    if answer.status != 401 and not is_well:
        raise server.is_another(answer)


def _find_experiment(server: TeamServer) -> dict[str, Any] | None:
    """The experiment that holds every run; None where it is still to be made."""
    answer = server.ask(f"{_API}/experiments/get-by-name?experiment_name={EXPERIMENT}")
    document = answer.json()
    # 404 alone is no answer of MLflow: any web server gives it.
    if _code(document) == "RESOURCE_DOES_NOT_EXIST":
        return None
    if answer.status == 401:
        _check_kind(server)
    if answer.status == 403:
        raise _missing_right(server, f"read the experiment {EXPERIMENT!r}")
    server.refuse(answer)
    experiment: Any = None
    if isinstance(document, dict):
        experiment = document.get("experiment")
    if not isinstance(experiment, dict) or "experiment_id" not in experiment:
        raise server.is_another(answer)
    if experiment.get("lifecycle_stage") == "deleted":
        raise OperationError(
            f"The experiment {EXPERIMENT!r} of {server.place} was deleted, and its name "
            "stays taken. Restore it there, as with `mlflow experiments restore`."
        )
    return experiment


def _check_may_write(server: TeamServer, path: str, incomplete: Any) -> None:
    """Ask for a change without naming it: who may change something is told so, and nothing is."""
    answer = server.ask(f"{_API}{path}", incomplete)
    if answer.status == 403:
        raise _missing_right(server, _RIGHTS[path])
    server.refuse(answer)
    document = answer.json()
    # An answer of success would be that of a server which takes whatever it is sent.
    code = _code(document)
    if code not in _INCOMPLETE:
        raise server.is_another(answer)


def _check_absence_shows(server: TeamServer) -> None:
    """A model that is not there must not look like one that is hidden.

    With `default_permission = NO_PERMISSIONS` it does, and then a first run cannot go on.
    """
    answer = server.ask(f"{_API}/registered-models/get?name={_NO_MODEL}")
    document = answer.json()
    if _code(document) == "RESOURCE_DOES_NOT_EXIST":
        return
    if answer.status == 403:
        raise OperationError(
            f"{server.place} hides from this account which models do not exist (403). Have "
            "its admin set default_permission = READ, or let the account read every model."
        )
    server.refuse(answer)
    raise server.is_another(answer)


_NO_MODEL = "assay-doctor-asks-for-a-model-that-is-not-there"
_INCOMPLETE = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
_RIGHTS = {
    "/experiments/create": "create experiments",
    "/experiments/set-experiment-tag": f"write to the experiment {EXPERIMENT!r}",
    "/registered-models/create": "register models",
}


def _missing_right(server: TeamServer, right: str) -> OperationError:
    return OperationError(
        f"{server.place} does not let this account {right} (403). "
        "Ask its admin for the right, or use another account."
    )


def _code(document: Any) -> str:
    if not isinstance(document, dict):
        return ""
    code = document.get("error_code", "")
    return str(code)


def _describe_future_artifacts(server: TeamServer) -> str:
    """Where artifacts will lie is known once the first run has made the experiment."""
    answer = server.ask(f"{_ARTIFACTS}?path=")
    if _is_not_serving(answer):
        return (
            "it passes no artifacts on, so every machine must reach its "
            "--default-artifact-root by itself"
        )
    return f"the first run makes the experiment {EXPERIMENT!r}"


def _check_artifacts(server: TeamServer, location: str) -> str:
    """Say where artifacts lie; `OperationError` where this machine cannot reach them."""
    # The experiment's own place counts, whatever the server's is today.
    scheme = urlsplit(location).scheme
    if scheme in {"mlflow-artifacts", "http", "https"}:
        _check_served_artifacts(server, location)
        return "it passes artifacts on"
    if scheme in {"", "file"}:
        _check_folder(server, Path(unquote(urlsplit(location).path)))
        return f"artifacts lie in a folder that every machine must share: {location}"
    # Clients write there themselves, with keys of their own.
    library = _LIBRARIES.get(scheme)
    if library is not None and not _is_installed(library):
        raise OperationError(
            f"{server.place} keeps artifacts at {shown(location)}, and {library} is not "
            "installed here. Install it, or have the server pass artifacts on "
            "(--artifacts-destination)."
        )
    return f"artifacts go to {scheme}:// past it, which was not tried"


def _check_served_artifacts(server: TeamServer, location: str) -> None:
    folder = urlsplit(location).path.strip("/")
    answer = server.ask(f"{_ARTIFACTS}?path={quote(folder)}")
    if _is_not_serving(answer):
        raise OperationError(
            f"{server.place} passes no artifacts on, and those of the experiment "
            f"{EXPERIMENT!r} lie behind it. Start it without --no-serve-artifacts."
        )
    if answer.status == 403:
        raise _missing_right(server, f"read artifacts of {EXPERIMENT!r}")
    if answer.status >= 500:
        raise OperationError(
            f"{server.place} cannot read its artifacts ({answer.status}). Look at its log: "
            "its --artifacts-destination may be out of its reach."
        )
    server.refuse(answer)


def _is_not_serving(answer: Answer) -> bool:
    is_away = answer.status == 503
    return is_away and b"serve-artifacts" in answer.body


def _check_folder(server: TeamServer, folder: Path) -> None:
    # The first artifact makes the folder itself. Without the one above it, artifacts would lie
    # on this machine alone.
    nearest = folder if folder.exists() else folder.parent
    # A relative folder is another one in every folder in which a command is typed.
    is_shared = folder.is_absolute() and nearest.is_dir()
    rights = os.W_OK | os.X_OK
    if not (is_shared and os.access(nearest, rights)):
        raise OperationError(
            f"{server.place} keeps artifacts of {EXPERIMENT!r} in its folder {folder}, which "
            "this machine cannot write. Start it with --artifacts-destination, and have it "
            f"give {EXPERIMENT!r} a new place: rename that experiment."
        )


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
