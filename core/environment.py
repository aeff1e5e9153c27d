"""Settings that prefect, mlflow and the rest read: no telemetry, no chatter, no hub, and no proxy to this machine."""

import os
from contextlib import suppress

from core.address import split_login
from core.errors import AssayError, OperationError, RegistryError
from core.logs import keep_secrets_out_of_logs

_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GOMP_SPINCOUNT": "20000",  # threads that wait longer give way: on a shared machine spinning ones slow everything down
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_OVER_HTTP = ("http://", "https://")
_OTHER_NAME = "postgres://"
"""What many providers write; SQLAlchemy knows the longer one alone."""
_SEPARATELY = "Leave the login out of it: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def set_library_environment() -> None:
    """Set what the person has not set otherwise; whoever this process starts inherits it."""
    for name, setting in _SETTINGS.items():
        os.environ.setdefault(name, setting)
    _pass_by_proxies()
    _take_logins_out()
    keep_secrets_out_of_logs()


def mlflow_address() -> str | None:
    """`MLFLOW_TRACKING_URI` without a login; None where it is not set.

    The login goes to where MLflow's client looks for one. So no later layer, and nobody whom this process starts, has it in an address.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address.startswith(_OTHER_NAME):
        address = os.environ["MLFLOW_TRACKING_URI"] = (
            f"postgresql://{address.removeprefix(_OTHER_NAME)}"
        )
    if not address.lower().startswith(_OVER_HTTP):
        return address or None
    try:
        plain, login = split_login(address)
    except ValueError as error:
        raise RegistryError(
            f"MLFLOW_TRACKING_URI cannot be understood: {error}. {_SEPARATELY}"
        ) from None
    if login is not None and not (login.user and login.password):
        raise RegistryError(
            f"MLFLOW_TRACKING_URI has a login of one part. {_SEPARATELY}"
        )
    if login is not None:
        os.environ.update(
            MLFLOW_TRACKING_URI=plain,
            MLFLOW_TRACKING_USERNAME=login.user,
            MLFLOW_TRACKING_PASSWORD=login.password,
        )
    return plain


def prefect_address() -> str | None:
    """`PREFECT_API_URL` without a login, in the same way: it goes to `PREFECT_API_AUTH_STRING`."""
    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        return None
    try:
        plain, login = split_login(address)
    except ValueError as error:
        raise OperationError(
            f"PREFECT_API_URL cannot be understood: {error}. Give a login in PREFECT_API_AUTH_STRING, as USER:PASSWORD."
        ) from None
    if login is not None:
        os.environ.update(
            PREFECT_API_URL=plain,
            PREFECT_API_AUTH_STRING=f"{login.user}:{login.password}",
        )
    return plain


def _take_logins_out() -> None:
    """One that cannot be understood is said by whoever needs it: a brake needs neither."""
    for each in (mlflow_address, prefect_address):
        with suppress(AssayError):
            each()


def _pass_by_proxies() -> None:
    """Keep a proxy from what is asked of this machine. Some libraries read the one name, some the other, and each only that."""
    given = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    for name, own in given.items():
        hosts = [
            host.strip()
            for host in (own or given["NO_PROXY"] or given["no_proxy"]).split(",")
            if host.strip()
        ]
        more = [host for host in _THIS_MACHINE if host not in hosts]
        # A star means every host, to some libraries only where it stands alone.
        os.environ[name] = "*" if "*" in hosts else ",".join([*hosts, *more])
